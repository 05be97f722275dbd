package evaluation

import (
	"context"
	"fmt"
	"math"
	"math/bits"
	"reflect"
	"slices"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/facts"
	"github.com/promptmill/promptmill/transforms/imagegen"
	"github.com/promptmill/promptmill/transforms/ledger"
	"github.com/promptmill/promptmill/transforms/settings"
	"github.com/promptmill/promptmill/transforms/source"
)

func init() {
	beam.RegisterDoFn(reflect.TypeFor[promptsFn]())
	beam.RegisterDoFn(reflect.TypeFor[slatesFn]())
	register.Emitter1[schemas.Prompt]()
	register.Emitter1[schemas.Slate]()
	register.Emitter1[schemas.Count]()
}

// StageRound counts the prompts or pairs that facts are made from: out are those whose turn it is.
const StageRound = "round"

// OtherRound is why a prompt or pair is filtered there.
const OtherRound = "other_round"

// A Part is one source of facts for one aspect, and how many rows come from it. Exactly one of the sources
// is set.
type Part struct {
	Aspect string `json:"aspect" yaml:"aspect"`
	// Rows is how many rows of the set are to come from it.
	Rows      int64                 `json:"rows" yaml:"rows"`
	PickAPic  *facts.PickAPicConfig `json:"pickapic,omitempty" yaml:"pickapic,omitempty"`
	AVA       *facts.AVAConfig      `json:"ava,omitempty" yaml:"ava,omitempty"`
	SAC       *facts.SACConfig      `json:"sac,omitempty" yaml:"sac,omitempty"`
	Table     *facts.TableConfig    `json:"table,omitempty" yaml:"table,omitempty"`
	Oracle    *Oracle               `json:"oracle,omitempty" yaml:"oracle,omitempty"`
	Generated *Generated            `json:"generated,omitempty" yaml:"generated,omitempty"`
}

// Aspects are those of the parts, each once, in their order.
func Aspects(parts []Part) (aspects []string) {
	for _, p := range parts {
		if !slices.Contains(aspects, p.Aspect) {
			aspects = append(aspects, p.Aspect)
		}
	}
	return aspects
}

// Oracle is the procedural world, asked about pictures of prompts.
type Oracle struct {
	Prompts source.Config      `json:"prompts" yaml:"prompts"`
	Facts   facts.OracleConfig `json:"facts" yaml:"facts"`
}

// Generated are pictures of raw prompts and of their rewritings, about which nobody was asked.
type Generated struct {
	// Pairs are the rewrite set's, Imagegen draws them.
	Pairs    source.Config         `json:"pairs" yaml:"-"`
	Imagegen imagegen.Config       `json:"imagegen" yaml:"-"`
	Facts    facts.GeneratedConfig `json:"facts" yaml:"facts"`
}

// Bind fills in what a part's source takes from the run.
func (p Part) Bind(cache string, seed int64) Part {
	input := func(in *facts.Input) { in.Store, in.Seed = cache, seed }
	if c := p.PickAPic; c != nil {
		bound := *c
		input(&bound.Input)
		p.PickAPic = &bound
	}
	if c := p.AVA; c != nil {
		bound := *c
		input(&bound.Input)
		p.AVA = &bound
	}
	if c := p.SAC; c != nil {
		bound := *c
		input(&bound.Input)
		p.SAC = &bound
	}
	if c := p.Table; c != nil {
		bound := *c
		input(&bound.Input)
		p.Table = &bound
	}
	if c := p.Oracle; c != nil {
		bound := *c
		bound.Prompts.Seed, bound.Facts.Seed, bound.Facts.Store, bound.Facts.Aspects = seed, seed, cache, []string{p.Aspect}
		p.Oracle = &bound
	}
	if c := p.Generated; c != nil {
		bound := *c
		bound.Pairs.Seed, bound.Facts.Seed, bound.Facts.Aspects = seed, seed, []string{p.Aspect}
		bound.Imagegen.Seed, bound.Imagegen.Cache = seed, cache
		p.Generated = &bound
	}
	return p
}

// Validate joins the faults of a bound part, whose place in the recipe is path.
func (p Part) Validate(path string) error {
	faults := settings.Of(path)
	n := 0
	is := func(name, section string, err error) {
		n++
		faults.Join(settings.Under(path+"."+name, section, err))
	}
	if p.PickAPic != nil {
		is("pickapic", "facts.pick_a_pic", p.PickAPic.Validate())
		faults.Check(p.Aspect == schemas.Pick, "aspect: Pick-a-Pic is about pick, not %q", p.Aspect)
	}
	if p.AVA != nil {
		is("ava", "facts.ava", p.AVA.Validate())
		faults.Check(p.Aspect == schemas.Aesthetic, "aspect: AVA is about aesthetic, not %q", p.Aspect)
	}
	if p.SAC != nil {
		is("sac", "facts.sac", p.SAC.Validate())
		faults.Check(p.Aspect == schemas.Aesthetic, "aspect: SAC is about aesthetic, not %q", p.Aspect)
	}
	if p.Table != nil {
		is("table", "facts.table", p.Table.Validate())
		faults.Check(p.Aspect == p.Table.Aspect, "aspect: %q, but the table is about %q", p.Aspect, p.Table.Aspect)
	}
	if o := p.Oracle; o != nil {
		is("oracle.prompts", "source", o.Prompts.Validate())
		faults.Join(settings.Under(path+".oracle.facts", "facts.oracle", o.Facts.Validate()))
	}
	if g := p.Generated; g != nil {
		is("generated.pairs", "source", g.Pairs.Validate())
		faults.Join(
			settings.Under(path+".generated.imagegen", "imagegen", g.Imagegen.Validate()),
			settings.Under(path+".generated.facts", "facts.generated", g.Facts.Validate()))
	}
	if n != 1 {
		faults.Join(fmt.Errorf("%s: %d sources; name one of pickapic, ava, sac, table, oracle, generated", path, n))
	}
	faults.Check(p.Rows >= 1, "rows: %d is not positive; say how many rows are to come from here", p.Rows)
	return faults.Err()
}

// Name is the source's, as the rows have it.
func (p Part) Name() string {
	switch {
	case p.PickAPic != nil:
		return p.PickAPic.Name
	case p.AVA != nil:
		return p.AVA.Name
	case p.SAC != nil:
		return p.SAC.Name
	case p.Table != nil:
		return p.Table.Name
	case p.Oracle != nil:
		return p.Oracle.Facts.Name
	case p.Generated != nil:
		return p.Generated.Facts.Name
	}
	return ""
}

// hashed says that the part's rank is that of the prompt and not of the fact.
func (p Part) hashed() bool { return p.Oracle != nil || p.Generated != nil }

// Total is how many prompts or pairs a hashed part has, about; the ranges of its rounds are parts of it. Other
// parts end when they give no more.
func (p Part) Total(ctx context.Context) (int64, error) {
	switch {
	case p.Oracle != nil:
		return source.Estimate(ctx, p.Oracle.Prompts)
	case p.Generated != nil:
		return source.Estimate(ctx, p.Generated.Pairs)
	}
	return math.MaxInt64, nil
}

// Read adds the facts from to to of a bound part, of total, by rank, to s: a PCollection<schemas.Fact>, a
// PCollection<schemas.Rejected> and the PCollection<schemas.Count> of the part's stages.
func (p Part) Read(s beam.Scope, from, to, total, seed int64) (rows, rejected, counts beam.PCollection) {
	input := func(in *facts.Input) { in.Skip, in.Rows = from, to-from }
	turn := span{Seed: seed, First: portion(from, total), Last: portion(to, total) - 1}
	if to >= total {
		turn.Last = math.MaxUint64
	}
	switch {
	case p.PickAPic != nil:
		c := *p.PickAPic
		input(&c.Input)
		return facts.PickAPic(s, c)
	case p.AVA != nil:
		c := *p.AVA
		input(&c.Input)
		return facts.AVA(s, c)
	case p.SAC != nil:
		c := *p.SAC
		input(&c.Input)
		return facts.SAC(s, c)
	case p.Table != nil:
		c := *p.Table
		input(&c.Input)
		return facts.Table(s, c)
	case p.Oracle != nil:
		prompts, dead1, n1 := source.Prompts(s, p.Oracle.Prompts)
		due, n2 := beam.ParDo2(s, &promptsFn{Span: turn}, prompts)
		rows, dead2, n3 := facts.Oracle(s, p.Oracle.Facts, due)
		return rows, beam.Flatten(s, dead1, dead2), beam.Flatten(s, n1, n2, n3)
	}
	pairs, dead1, n1 := source.Pairs(s, p.Generated.Pairs)
	slates, n2 := beam.ParDo2(s, &slatesFn{Span: turn}, pairs)
	drawn, dead2, n3 := imagegen.Draw(s, p.Generated.Imagegen, slates)
	rows, n4 := facts.Generated(s, p.Generated.Facts, drawn)
	return rows, beam.Flatten(s, dead1, dead2), beam.Flatten(s, n1, n2, n3, n4)
}

// portion is n/total of all ranks.
func portion(n, total int64) uint64 {
	if n >= total {
		return math.MaxUint64
	}
	rank, _ := bits.Div64(uint64(n), 0, uint64(total))
	return rank
}

// A span is a range of ranks, both ends included.
type span struct {
	Seed        int64
	First, Last uint64
}

func (r span) has(promptID string) bool {
	rank := schemas.Rank(r.Seed, promptID)
	return r.First <= rank && rank <= r.Last
}

// promptsFn lets the prompts pass whose turn it is.
type promptsFn struct {
	Span span

	tally ledger.Tally
}

func (fn *promptsFn) StartBundle(context.Context, func(schemas.Prompt), func(schemas.Count)) {
	fn.tally.Reset()
}

func (fn *promptsFn) ProcessElement(_ context.Context, p schemas.Prompt, emit func(schemas.Prompt), _ func(schemas.Count)) {
	if pass(&fn.tally, fn.Span, p.ID) {
		emit(p)
	}
}

func (fn *promptsFn) FinishBundle(_ context.Context, _ func(schemas.Prompt), counts func(schemas.Count)) {
	fn.tally.Flush(counts)
}

// slatesFn makes of a pair whose turn it is a slate with the rewriting as its one candidate.
type slatesFn struct {
	Span span

	tally ledger.Tally
}

func (fn *slatesFn) StartBundle(context.Context, func(schemas.Slate), func(schemas.Count)) {
	fn.tally.Reset()
}

func (fn *slatesFn) ProcessElement(_ context.Context, p schemas.RewritePair, emit func(schemas.Slate), _ func(schemas.Count)) {
	id := schemas.PromptID(p.Raw)
	if !pass(&fn.tally, fn.Span, id) {
		return
	}
	emit(schemas.Slate{
		Prompt:     schemas.Prompt{ID: id, Text: p.Raw, Source: p.Source, SourceID: p.SourceID},
		Candidates: []schemas.Candidate{{ID: schemas.CandidateID(id, p.Rewritten), PromptID: id, Text: p.Rewritten}},
	})
}

func (fn *slatesFn) FinishBundle(_ context.Context, _ func(schemas.Slate), counts func(schemas.Count)) {
	fn.tally.Flush(counts)
}

func pass(t *ledger.Tally, r span, promptID string) bool {
	t.In(StageRound, 1)
	if !r.has(promptID) {
		t.Filtered(StageRound, OtherRound, 1)
		return false
	}
	t.Out(StageRound, 1)
	return true
}
