package facts

import (
	"cmp"
	"context"
	"reflect"
	"slices"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/ledger"
	"github.com/promptmill/promptmill/transforms/settings"
)

func init() {
	beam.RegisterDoFn(reflect.TypeFor[generatedFn]())
}

// GeneratedConfig says which of the drawn pictures to pair.
type GeneratedConfig struct {
	// Name goes into the rows' source column.
	Name string `json:"name" yaml:"name"`
	// Candidates is how many rewritings of a prompt are paired with the prompt itself, by rank.
	Candidates int `json:"candidates" yaml:"candidates"`
	// Aspects are those that the pictures are to be scored for.
	Aspects []string `json:"aspects" yaml:"aspects"`
	// Seed is the run's.
	Seed int64 `json:"seed" yaml:"-"`
}

// DefaultGenerated pairs one rewriting with each prompt, for the paper's two aspects. Seed is left to the caller.
func DefaultGenerated() GeneratedConfig {
	return GeneratedConfig{Name: "generated", Candidates: 1, Aspects: []string{schemas.Aesthetic, schemas.Pick}}
}

// Validate joins all faults of c, each beginning with its place in a recipe.
func (c GeneratedConfig) Validate() error {
	faults := settings.Of("facts.generated")
	faults.Check(nameForm.MatchString(c.Name), "name: %q is not a name: use letters, digits, '_', '-' and '.'", c.Name)
	faults.Check(c.Candidates >= 1 && c.Candidates <= 64, "candidates: %d is not in 1..64", c.Candidates)
	checkAspects(faults, c.Aspects)
	return faults.Err()
}

// Generated pairs the pictures of raw prompts with those of their rewritings (paper 3.1) in a
// PCollection<schemas.Slate> that imagegen drew. Nobody was asked about them: the facts have no
// preference. It returns a PCollection<schemas.Fact>, in no order, and the PCollection<schemas.Count> of
// Stage, whose unit is the fact; what could not be drawn is among imagegen's dead. It panics if cfg is
// not valid.
func Generated(s beam.Scope, cfg GeneratedConfig, slates beam.PCollection) (facts, counts beam.PCollection) {
	s = s.Scope("facts.Generated")
	if err := cfg.Validate(); err != nil {
		panic(err)
	}
	return beam.ParDo2(s, &generatedFn{Config: cfg}, slates)
}

type generatedFn struct {
	Config GeneratedConfig

	tally ledger.Tally
}

func (fn *generatedFn) StartBundle(context.Context, func(schemas.Fact), func(schemas.Count)) {
	fn.tally.Reset()
}

func (fn *generatedFn) FinishBundle(_ context.Context, _ func(schemas.Fact), count func(schemas.Count)) {
	fn.tally.Flush(count)
}

func (fn *generatedFn) ProcessElement(slate schemas.Slate, emit func(schemas.Fact), _ func(schemas.Count)) {
	if slate.Raw.SHA256 == "" {
		return // no picture to pair with
	}
	drawn := slices.DeleteFunc(slices.Clone(slate.Candidates), func(c schemas.Candidate) bool { return c.Image.SHA256 == "" })
	slices.SortFunc(drawn, func(a, b schemas.Candidate) int {
		return cmp.Or(cmp.Compare(schemas.Rank(fn.Config.Seed, a.ID), schemas.Rank(fn.Config.Seed, b.ID)), cmp.Compare(a.ID, b.ID))
	})
	for _, c := range drawn[:min(len(drawn), fn.Config.Candidates)] {
		first, second := slate.Raw, c.Image
		if schemas.Seed(fn.Config.Seed, "facts.order", c.ID, 0)%2 == 1 {
			first, second = second, first
		}
		for _, aspect := range fn.Config.Aspects {
			f := schemas.Fact{
				Source: fn.Config.Name, SourceID: c.ID, Aspect: aspect, Prompt: slate.Prompt.Text, First: first, Second: second,
				FirstID: "drawn/" + first.SHA256, SecondID: "drawn/" + second.SHA256, FactSource: schemas.FactNone,
			}
			f.ID = schemas.FactID(f.Aspect, f.Prompt, f.FirstID, f.SecondID)
			f.Group = schemas.GroupID(f.Prompt, f.FirstID, f.SecondID)
			fn.tally.In(Stage, 1)
			if first.SHA256 == second.SHA256 {
				fn.tally.Filtered(Stage, SamePicture, 1)
				continue
			}
			fn.tally.Out(Stage, 1)
			emit(f)
		}
	}
}
