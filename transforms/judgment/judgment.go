// Package judgment makes the judgment set (paper 3.1): beside each kept evaluation, the standard answer, it
// puts an irrelevant one, the answer about two other pictures, and has the teacher score both from 1 to 5.
// Evaluations (teacher.Item) go in, judgments whose standard answer is strictly better come out.
//
// # Design
//
// The partner of an evaluation is the next one of the same aspect, in seeded hash order, among those in the
// same shard that share no picture and no prompt with it. A shard is a range of ranks, so it is the bucket of
// a group by (aspect, bucket): nothing crosses a shuffle but the names of shards, and no worker holds more
// than one. How many shards there are decides who meets whom, so it is to follow from the number of
// evaluations and from nothing else.
//
// Which of the two answers is Answer A is seeded. An answer that does not parse is asked for again; one that
// finds the irrelevant answer as good is not: asking until the teacher agrees would make its judgment
// worthless.
package judgment

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/deadletter"
	"github.com/promptmill/promptmill/transforms/judge"
	"github.com/promptmill/promptmill/transforms/template"
)

func init() {
	beam.RegisterDoFn(reflect.TypeFor[judgeFn]())
	register.Emitter2[beam.EventTime, Item]()
	register.Emitter1[schemas.Rejected]()
	register.Emitter1[schemas.Count]()
}

// Stage is the name in the ledger and in dead letters; its unit is the pair of answers. An answer that does
// not parse has a judge.Fault for a reason, and its pair is dead.
const Stage = "judgment"

// Reasons of filtered pairs.
const (
	// NotBetter: the irrelevant answer scores higher.
	NotBetter = "not_better"
	// Equal: both answers have one score.
	Equal = "equal"
)

// Config says how the teacher is asked.
type Config struct {
	// Questions has what the teacher is asked, Stored what the set's rows ask, in the words in which the policy
	// will be asked.
	Questions template.Set `json:"questions" yaml:"-"`
	Stored    template.Set `json:"stored" yaml:"-"`
	// Aspects are those whose evaluations are used, each once.
	Aspects []string `json:"aspects" yaml:"-"`
	// The model is the teacher, an answer of no use is one that does not parse, and pairs are at work.
	judge.Asking `yaml:",inline"`
}

// DefaultConfig asks for the paper's two aspects in its words. Model, Cache and Seed are left to the caller.
func DefaultConfig() Config {
	return Config{
		Questions: template.Paper(), Stored: template.Paper(), Aspects: []string{schemas.Aesthetic, schemas.Pick},
		Asking: judge.DefaultAsking(24),
	}
}

// Validate joins all faults of c, each beginning with its place in a recipe.
func (c Config) Validate() error {
	return errors.Join(c.Asking.Validate("judgment", 10), c.ValidateChance("judgment"), judge.ValidateAspects("judgment", c.Aspects, func(a string) error {
		var errs []error
		for _, task := range []string{a, template.Judgment + a} {
			asked, _ := c.Questions.Task(task)
			stored, _ := c.Stored.Task(task)
			errs = append(errs, asked.Validate("judgment.questions."+task, task), stored.Validate("judgment.stored."+task, task))
		}
		return errors.Join(errs...)
	}))
}

// Score asks the teacher about every pair of a PCollection<Pair>. It returns a PCollection<Item> of the
// judgments kept, at most one a pair, in no order; a PCollection<schemas.Rejected> of the pairs that got no
// answer that parses; and the PCollection<schemas.Count> of the stage. It panics if cfg is not valid.
func Score(s beam.Scope, cfg Config, pairs beam.PCollection) (items, rejected, counts beam.PCollection) {
	s = s.Scope("judgment.Score")
	if err := cfg.Validate(); err != nil {
		panic(err)
	}
	return beam.ParDo3(s, &judgeFn{Config: cfg}, pairs)
}

type judgeFn struct {
	Config Config

	desk judge.Desk[Pair, judged]
}

func (fn *judgeFn) Setup(ctx context.Context) error {
	if err := fn.desk.Open(ctx, fn.Config.Asking); err != nil {
		return fmt.Errorf("judgment: %w", err)
	}
	return nil
}

func (fn *judgeFn) StartBundle(ctx context.Context, _ func(beam.EventTime, Item), _ func(schemas.Rejected), _ func(schemas.Count)) {
	fn.desk.Start(ctx, fn.Config.InFlight, fn.judge)
}

func (fn *judgeFn) ProcessElement(_ context.Context, t beam.EventTime, p Pair, items func(beam.EventTime, Item), rejected func(schemas.Rejected), _ func(schemas.Count)) error {
	return fn.desk.Submit(t, p, fn.take(items, rejected))
}

func (fn *judgeFn) FinishBundle(_ context.Context, items func(beam.EventTime, Item), rejected func(schemas.Rejected), counts func(schemas.Count)) error {
	return fn.desk.Finish(fn.take(items, rejected), counts)
}

// take emits and counts what became of one pair; it runs on the bundle's goroutine.
func (fn *judgeFn) take(items func(beam.EventTime, Item), rejected func(schemas.Rejected)) func(beam.EventTime, judged) {
	return func(t beam.EventTime, got judged) {
		fn.desk.Tally.In(Stage, 1)
		fn.desk.Tally.Spent(Stage, got.usage)
		switch got.reason {
		case "":
			fn.desk.Tally.Out(Stage, 1)
			items(t, got.item)
		case NotBetter, Equal:
			fn.desk.Tally.Filtered(Stage, got.reason, 1)
		default:
			fn.desk.Tally.Dead(Stage, got.reason, 1)
			rejected(got.letter())
		}
	}
}

// letter is the dead letter of a pair. Its payload names the two evaluations.
func (got judged) letter() schemas.Rejected {
	r := deadletter.Row(Stage, got.pair.Standard.ID, got.reason, got.attempts, got.detail, schemas.Prompt{})
	payload, err := json.Marshal(map[string]string{"standard_id": got.pair.Standard.ID, "irrelevant_id": got.pair.Irrelevant.ID})
	if err != nil {
		panic(err) // a map of strings
	}
	r.Payload = string(payload)
	return r
}
