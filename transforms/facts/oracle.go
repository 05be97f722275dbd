package facts

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/promptmill/promptmill/model/scene"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/ledger"
	"github.com/promptmill/promptmill/transforms/settings"
)

func init() {
	beam.RegisterDoFn(reflect.TypeFor[oracleFn]())
}

// OracleConfig says how the procedural world (model/scene) plays people.
type OracleConfig struct {
	// Name goes into the rows' source column.
	Name string `json:"name" yaml:"name"`
	// Pairs is how many pairs of pictures are drawn for each prompt; each is one fact an aspect.
	Pairs int `json:"pairs" yaml:"pairs"`
	// Aspects are of aesthetic, pick and alignment.
	Aspects []string `json:"aspects" yaml:"aspects"`
	// Noise is the standard deviation, in levels of 0 to 5, of what people say about the difference of two
	// pictures; below TieBelow they call it a tie.
	Noise    float64 `json:"noise" yaml:"noise"`
	TieBelow float64 `json:"tie_below" yaml:"tie_below"`
	// Width and Height of the stored pictures are in pixels; the world's own size is 32.
	Width  int `json:"width" yaml:"width"`
	Height int `json:"height" yaml:"height"`
	// Store is the URL of the store that keeps the pictures.
	Store string `json:"store" yaml:"-"`
	// Seed is the run's.
	Seed int64 `json:"seed" yaml:"-"`
}

// DefaultOracle is the demo's: all three aspects, noise and ties as in the trial that fixed the world.
// Store and Seed are left to the caller.
func DefaultOracle() OracleConfig {
	return OracleConfig{
		Name: "oracle", Pairs: 1, Aspects: []string{schemas.Aesthetic, schemas.Pick, schemas.Alignment},
		Noise: .4, TieBelow: .25, Width: scene.Side, Height: scene.Side,
	}
}

// Validate joins all faults of c, each beginning with its place in a recipe.
func (c OracleConfig) Validate() error {
	faults := settings.Of("facts.oracle")
	faults.Check(nameForm.MatchString(c.Name), "name: %q is not a name: use letters, digits, '_', '-' and '.'", c.Name)
	faults.Check(c.Pairs >= 1 && c.Pairs <= 1000, "pairs: %d is not in 1..1000", c.Pairs)
	checkAspects(faults, c.Aspects)
	faults.Check(c.Noise >= 0 && c.Noise <= 5, "noise: %v is not in 0..5", c.Noise)
	faults.Check(c.TieBelow >= 0 && c.TieBelow <= 5, "tie_below: %v is not in 0..5", c.TieBelow)
	faults.Check(c.Width >= scene.Side && c.Width <= 4096, "width: %d is not in %d..4096", c.Width, scene.Side)
	faults.Check(c.Height >= scene.Side && c.Height <= 4096, "height: %d is not in %d..4096", c.Height, scene.Side)
	faults.Check(c.Store != "", "store: empty; name the store that keeps the pictures")
	return faults.Err()
}

func checkAspects(faults *settings.Faults, aspects []string) {
	faults.Check(len(aspects) > 0, "aspects: there is none: name aesthetic, pick or alignment")
	for i, a := range aspects {
		faults.Check(slices.Contains([]string{schemas.Aesthetic, schemas.Pick, schemas.Alignment}, a), "aspects[%d]: %q is not aesthetic, pick or alignment", i, a)
		faults.Check(!slices.Contains(aspects[:i], a), "aspects[%d]: %q is there twice", i, a)
	}
}

// Oracle draws pairs of pictures for each prompt of a PCollection<schemas.Prompt> and says about them what
// people of the procedural world would, with their noise: the demo's facts. They are of fact source
// oracle, never human. A quarter of the pictures are of the prompt itself, the others of the prompt with
// modifiers. It returns a PCollection<schemas.Fact>, ties included, in no order; a
// PCollection<schemas.Rejected>; and the PCollection<schemas.Count> of Stage, whose unit is the fact. It
// panics if cfg is not valid.
func Oracle(s beam.Scope, cfg OracleConfig, prompts beam.PCollection) (facts, rejected, counts beam.PCollection) {
	s = s.Scope("facts.Oracle")
	if err := cfg.Validate(); err != nil {
		panic(err)
	}
	return beam.ParDo3(s, &oracleFn{Config: cfg}, prompts)
}

type oracleFn struct {
	Config OracleConfig

	keeper keeper
	tally  ledger.Tally
}

func (fn *oracleFn) Setup(ctx context.Context) (err error) {
	fn.keeper, err = openKeeper(ctx, Input{Store: fn.Config.Store})
	return err
}

func (fn *oracleFn) StartBundle(context.Context, func(schemas.Fact), func(schemas.Rejected), func(schemas.Count)) {
	fn.tally.Reset()
}

func (fn *oracleFn) FinishBundle(_ context.Context, _ func(schemas.Fact), _ func(schemas.Rejected), count func(schemas.Count)) {
	fn.tally.Flush(count)
}

func (fn *oracleFn) ProcessElement(ctx context.Context, p schemas.Prompt, emit func(schemas.Fact), reject func(schemas.Rejected), _ func(schemas.Count)) error {
	for pair := range fn.Config.Pairs {
		var refs [2]schemas.ImageRef
		var scores [2]scene.Scores
		var d death
		for side := range refs {
			var err error
			refs[side], scores[side], d, err = fn.draw(ctx, p, 2*pair+side)
			if err != nil {
				return fmt.Errorf("facts: prompt %s: %w", p.ID, err)
			}
			if d.reason != "" {
				break
			}
		}
		for _, aspect := range fn.Config.Aspects {
			fn.tally.In(Stage, 1)
			f := fn.fact(p, aspect, pair, refs, scores)
			if settle(&fn.tally, f, p, d, reject) {
				emit(f)
			}
		}
	}
	return nil
}

// draw draws and keeps picture index of a prompt and measures what was kept.
func (fn *oracleFn) draw(ctx context.Context, p schemas.Prompt, index int) (ref schemas.ImageRef, scores scene.Scores, d death, err error) {
	seed := schemas.Seed(fn.Config.Seed, "facts.oracle", p.ID, index)
	text := p.Text
	if seed%4 != 0 {
		text = scene.Rewrite(p.Text, seed)
	}
	data, err := scene.Paint(scene.Parse(text, p.Text), scene.NewLayout(seed)).PNG(fn.Config.Width, fn.Config.Height)
	if err != nil {
		return ref, scores, d, err
	}
	if ref, d, err = fn.keeper.keep(ctx, data); err != nil || d.reason != "" {
		return ref, scores, d, err
	}
	img, err := scene.Decode(data)
	if err != nil {
		return ref, scores, d, err
	}
	ref.Seed = seed
	return ref, scene.Oracle(img, p.Text), d, nil
}

// fact says what people say.
func (fn *oracleFn) fact(p schemas.Prompt, aspect string, pair int, refs [2]schemas.ImageRef, scores [2]scene.Scores) schemas.Fact {
	f := schemas.Fact{
		Source: fn.Config.Name, SourceID: p.ID + "/" + strconv.Itoa(pair), Aspect: aspect, Prompt: p.Text, First: refs[0], Second: refs[1],
		FirstID: "scene/" + refs[0].SHA256, SecondID: "scene/" + refs[1].SHA256,
		Preference: schemas.Tie, FactSource: schemas.FactOracle,
	}
	f.ID = schemas.FactID(f.Aspect, f.Prompt, f.FirstID, f.SecondID)
	f.Group = schemas.GroupID(f.Prompt, f.FirstID, f.SecondID)
	seed := schemas.Seed(fn.Config.Seed, "facts.oracle."+aspect, p.ID, pair)
	rng := rand.New(rand.NewPCG(uint64(seed), 0x6661637473)) // "facts"
	first, second := scores[0].Level(aspect)+fn.Config.Noise*rng.NormFloat64(), scores[1].Level(aspect)
	f.FirstScore, f.SecondScore = &first, &second // as people say: with their noise about the difference
	difference := first - second
	switch {
	case math.Abs(difference) < fn.Config.TieBelow || difference == 0:
	case difference > 0:
		f.Preference = schemas.First
	default:
		f.Preference = schemas.Second
	}
	return f
}
