// Package teacher has a strong model explain what people said about pictures. Facts go in; what comes out
// are evaluations of two pictures whose scores agree with the fact: the evaluation set (paper 3.1).
//
// # Design
//
// The teacher is shown the evaluation question with a cue behind it, a line that says which picture people
// preferred; the pictures stand in a seeded order. An answer is kept only if its scores agree with the fact
// strictly, and only if it does not give the cue away. What is stored is the question without the cue, in
// the words that the policy will be asked in, and the answer as it came. Any other answer is asked for again
// with another seed, until the retries are used up: the reason of the last one is the fact's.
//
// Facts without a preference (pictures that were drawn for the set and that nobody judged) have no cue.
// The question is asked in both orders, and kept if both answers prefer the same picture; it is never
// presented as something that people said.
//
// The ledger has two stages because their units differ: Stage counts facts, StageAnswers the answers that
// were asked for with a cue, accepted or not: out over in is the teacher's acceptance rate. A share of the
// facts is asked in the other order as well, once, for nothing but the position bias. Summarise reads both
// from the counts.
package teacher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/deadletter"
	"github.com/promptmill/promptmill/transforms/judge"
	"github.com/promptmill/promptmill/transforms/template"
)

func init() {
	beam.RegisterDoFn(reflect.TypeFor[teachFn]())
	register.Emitter2[beam.EventTime, Item]()
	register.Emitter1[schemas.Rejected]()
	register.Emitter1[schemas.Count]()
}

// Stages in the ledger and in dead letters.
const (
	Stage        = "teacher"
	StageAnswers = "teacher_answers"
	// StageBias has Used counts only: see Summarise.
	StageBias = "teacher_bias"
)

// Reasons for which an answer, or in the end its fact, is left out. An answer that does not parse has a
// judge.Fault for a reason, and a fact whose last answer was one is dead, as are those that got no answer.
const (
	// Contradicts: the scores say the opposite of the fact.
	Contradicts = "contradicts"
	// Equal: both pictures have one score.
	Equal = "equal"
	// Leak: the answer gives the cue away.
	Leak = "leak"
	// Disagrees: in the other order the other picture is better.
	Disagrees = "disagrees"
	// Tie: people found neither picture better, so there is nothing to agree with.
	Tie = "tie"
	// OtherAspect: the fact is about an aspect that is not asked for.
	OtherAspect = "other_aspect"
)

// Config says how the teacher is asked.
type Config struct {
	// Questions has what the teacher is asked, with the cues; Stored what the set's rows ask, in the words in
	// which the policy will be asked.
	Questions template.Set `json:"questions" yaml:"-"`
	Stored    template.Set `json:"stored" yaml:"-"`
	// Aspects are those whose facts are used, each once.
	Aspects []string `json:"aspects" yaml:"-"`
	// The model is the teacher, an answer of no use is one that is not kept, and facts are at work.
	judge.Asking `yaml:",inline"`
	// BothOrders is the share of the facts, by hash, that are asked in the other order too.
	BothOrders float64 `json:"both_orders" yaml:"both_orders"`
}

// DefaultConfig asks for the paper's two aspects in its words. Model, Cache and Seed are left to the caller.
func DefaultConfig() Config {
	return Config{
		Questions: template.Paper(), Stored: template.Paper(), Aspects: []string{schemas.Aesthetic, schemas.Pick},
		Asking: judge.DefaultAsking(24), BothOrders: 0.05,
	}
}

// Validate joins all faults of c, each beginning with its place in a recipe.
func (c Config) Validate() error {
	errs := []error{c.Asking.Validate("teacher", 100), c.ValidateChance("teacher"), judge.ValidateAspects("teacher", c.Aspects, func(a string) error {
		question, _ := c.Questions.Task(a)
		cue, _ := c.Questions.Task(template.Teacher + a)
		stored, _ := c.Stored.Task(a)
		return errors.Join(question.Validate("teacher.questions."+a, a),
			cue.Validate("teacher.questions."+template.Teacher+a, template.Teacher+a), stored.Validate("teacher.stored."+a, a))
	})}
	if c.BothOrders < 0 || c.BothOrders > 1 {
		errs = append(errs, fmt.Errorf("teacher.both_orders: %v is not in 0..1", c.BothOrders))
	}
	return errors.Join(errs...)
}

// Teach asks the teacher about every fact of a PCollection<schemas.Fact>. It returns a PCollection<Item> of
// the answers kept, at most one a fact, in no order; a PCollection<schemas.Rejected> of the facts that got no
// answer that parses; and the PCollection<schemas.Count> of the stages. It panics if cfg is not valid.
func Teach(s beam.Scope, cfg Config, facts beam.PCollection) (items, rejected, counts beam.PCollection) {
	s = s.Scope("teacher.Teach")
	if err := cfg.Validate(); err != nil {
		panic(err)
	}
	return beam.ParDo3(s, &teachFn{Config: cfg}, facts)
}

type teachFn struct {
	Config Config

	desk judge.Desk[schemas.Fact, taught]
}

func (fn *teachFn) Setup(ctx context.Context) error {
	if err := fn.desk.Open(ctx, fn.Config.Asking); err != nil {
		return fmt.Errorf("teacher: %w", err)
	}
	return nil
}

func (fn *teachFn) StartBundle(ctx context.Context, _ func(beam.EventTime, Item), _ func(schemas.Rejected), _ func(schemas.Count)) {
	fn.desk.Start(ctx, fn.Config.InFlight, fn.teach)
}

func (fn *teachFn) ProcessElement(_ context.Context, t beam.EventTime, f schemas.Fact, items func(beam.EventTime, Item), rejected func(schemas.Rejected), _ func(schemas.Count)) error {
	return fn.desk.Submit(t, f, fn.take(items, rejected))
}

func (fn *teachFn) FinishBundle(_ context.Context, items func(beam.EventTime, Item), rejected func(schemas.Rejected), counts func(schemas.Count)) error {
	return fn.desk.Finish(fn.take(items, rejected), counts)
}

// take emits and counts what became of one fact; it runs on the bundle's goroutine.
func (fn *teachFn) take(items func(beam.EventTime, Item), rejected func(schemas.Rejected)) func(beam.EventTime, taught) {
	return func(t beam.EventTime, got taught) {
		f := got.fact
		fn.desk.Tally.In(Stage, 1)
		fn.desk.Tally.Spent(Stage, got.usage)
		for _, fate := range got.answers {
			fn.desk.Tally.In(StageAnswers, 1)
			fn.desk.Tally.Used(StageAnswers, label(asked, f.Aspect, f.Source, got.order), 1)
			if fate != "" {
				fn.desk.Tally.Filtered(StageAnswers, fate, 1)
				continue
			}
			fn.desk.Tally.Out(StageAnswers, 1)
			fn.desk.Tally.Used(StageAnswers, label(kept, f.Aspect, f.Source, got.order), 1)
		}
		if got.bias != "" {
			fn.desk.Tally.Used(StageBias, label(got.bias, f.Aspect, f.Source), 1)
		}
		switch {
		case got.reason == "":
			fn.desk.Tally.Out(Stage, 1)
			items(t, got.item)
		case isFilter(got.reason):
			fn.desk.Tally.Filtered(Stage, got.reason, 1)
		default:
			fn.desk.Tally.Dead(Stage, got.reason, 1)
			rejected(got.letter())
		}
	}
}

func isFilter(reason string) bool {
	return slices.Contains([]string{Contradicts, Equal, Leak, Disagrees, Tie, OtherAspect}, reason)
}

// letter is the dead letter of a fact. Its payload is the fact.
func (got taught) letter() schemas.Rejected {
	r := deadletter.Row(Stage, got.fact.ID, got.reason, got.attempts, got.detail, schemas.Prompt{})
	payload, err := json.Marshal(got.fact)
	if err != nil {
		payload = []byte(err.Error()) // a score that is no number: facts refuses them
	}
	r.Payload = string(payload)
	return r
}
