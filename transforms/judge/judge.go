// Package judge has the vision-language model score the pictures of a slate, and reads its answers.
// Slates go in, slates with judgments come out.
//
// # Design
//
// Every candidate is judged on every aspect beside the raw prompt's picture, which is Image 1; the
// candidate's is Image 2 (paper, Appendix E). The text shown is always the raw prompt. A request asks
// for all samples of one candidate and aspect. Requests with the same two pictures, and so with the
// longest common beginning, leave next to each other, and all of a slate's begin with the same Image 1,
// which is what prefix caches of servers live on.
//
// The unit of the ledger's stage "judge" is the requested sample. A score is never invented: an answer
// that does not parse is asked for again with another seed and is a dead letter in the end.
package judge

import (
	"context"
	"fmt"
	"reflect"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/settings"
	"github.com/promptmill/promptmill/transforms/template"
)

func init() {
	beam.RegisterDoFn(reflect.TypeFor[judgeFn]())
	register.Emitter2[beam.EventTime, schemas.Slate]()
	register.Emitter1[schemas.Rejected]()
	register.Emitter1[schemas.Count]()
}

// Stage is the name in the ledger and in dead letters. Its reasons are the Faults of answers and those
// of package deadletter.
const Stage = "judge"

// Aspects are the ones the paper adds up (section 3.5).
func Aspects() []string { return []string{schemas.Aesthetic, schemas.Pick, schemas.Alignment} }

// Config says how judgments are sampled.
type Config struct {
	// Templates has the question for each aspect.
	Templates template.Set `json:"templates" yaml:"-"`
	// Aspects are what is judged, each once: aesthetic, pick, alignment.
	Aspects []string `json:"aspects" yaml:"aspects"`
	// Samples is how many answers each candidate gets on each aspect.
	Samples int `json:"samples" yaml:"samples"`
	// The model is the judge, an answer of no use is one that does not parse, and slates are at work.
	Replayable `yaml:",inline"`
}

// DefaultConfig has the paper's numbers (section 4.1): three aspects, three samples each at temperature
// 0.9 and top-p 0.9. Model and Cache are left to the caller.
func DefaultConfig() Config {
	return Config{Templates: template.Paper(), Aspects: Aspects(), Samples: 3, Replayable: Replayable{Asking: DefaultAsking(12)}}
}

// Validate joins all faults of c, each beginning with its place in a recipe.
func (c Config) Validate() error {
	faults := settings.Of("judge")
	faults.Join(c.Replayable.Validate("judge"), ValidateAspects("judge", c.Aspects, func(a string) error {
		t, _ := c.Templates.Task(a)
		return t.Validate("judge.templates."+a, a)
	}))
	faults.Check(c.Samples >= 1 && c.Samples <= 64, "samples: %d is not in 1..64", c.Samples)
	faults.Check(c.Temperature != 0 || c.Samples <= 1, "temperature: 0 gives %d equal samples; raise it or ask for one", c.Samples)
	return faults.Err()
}

// Score asks the judge about every candidate that has a picture, in every slate of a
// PCollection<schemas.Slate>. It returns a PCollection<schemas.Slate> with the same slates, Judgments
// set and ordered by candidate, aspect and sample; a PCollection<schemas.Rejected>; and the
// PCollection<schemas.Count> of the stage. It panics if cfg is not valid.
func Score(s beam.Scope, cfg Config, slates beam.PCollection) (judged, rejected, counts beam.PCollection) {
	s = s.Scope("judge.Score")
	if err := cfg.Validate(); err != nil {
		panic(err)
	}
	return beam.ParDo3(s, &judgeFn{Config: cfg}, slates)
}

type judgeFn struct {
	Config Config

	desk Desk[schemas.Slate, judged]
}

func (fn *judgeFn) Setup(ctx context.Context) error {
	if err := fn.desk.Open(ctx, fn.Config.Asking); err != nil {
		return fmt.Errorf("judge: %w", err)
	}
	return nil
}

func (fn *judgeFn) StartBundle(ctx context.Context, _ func(beam.EventTime, schemas.Slate), _ func(schemas.Rejected), _ func(schemas.Count)) {
	fn.desk.Start(ctx, fn.Config.InFlight, fn.score)
}

func (fn *judgeFn) ProcessElement(_ context.Context, t beam.EventTime, slate schemas.Slate, slates func(beam.EventTime, schemas.Slate), rejected func(schemas.Rejected), _ func(schemas.Count)) error {
	return fn.desk.Submit(t, slate, fn.take(slates, rejected))
}

func (fn *judgeFn) FinishBundle(_ context.Context, slates func(beam.EventTime, schemas.Slate), rejected func(schemas.Rejected), counts func(schemas.Count)) error {
	return fn.desk.Finish(fn.take(slates, rejected), counts)
}

// take emits and counts what was judged of one slate; it runs on the bundle's goroutine.
func (fn *judgeFn) take(slates func(beam.EventTime, schemas.Slate), rejected func(schemas.Rejected)) func(beam.EventTime, judged) {
	return func(t beam.EventTime, j judged) {
		fn.desk.Tally.In(Stage, j.asked)
		fn.desk.Tally.Out(Stage, len(j.slate.Judgments))
		fn.desk.Tally.Spent(Stage, j.usage)
		for _, dead := range j.dead {
			fn.desk.Tally.Dead(Stage, dead.Reason, 1)
			rejected(dead)
		}
		slates(t, j.slate)
	}
}
