package audit

import (
	"context"
	"fmt"
	"reflect"
	"unicode/utf8"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/judge"
	"github.com/promptmill/promptmill/transforms/teacher"
	"github.com/promptmill/promptmill/transforms/template"
)

func init() { beam.RegisterDoFn(reflect.TypeFor[ownFn]()) }

// StageAnswers counts verdicts on two answers, two for each evaluation. An evaluation for which there are not two
// answers to compare is filtered: because the judge's own has a judge.Fault, or is SameAnswer.
const StageAnswers = "audit_answers"

// SameAnswer says: the judge's own answer is, word for word, what is to be compared with it.
const SameAnswer = "same_answer"

// Answers asks the judge the question of every teacher.Item of a PCollection, without any cue, and then, in both
// orders, how good its own answer is and how good the item's. It returns a PCollection<Observation>, in which
// First is the judge's own answer and the aspect has template.Judgment before it, and the PCollection<schemas.Count>
// of StageAnswers. It panics if cfg is not valid.
func Answers(s beam.Scope, cfg Config, items beam.PCollection) (observations, counts beam.PCollection) {
	s = s.Scope("audit.Answers")
	if err := cfg.ValidateAnswers(); err != nil {
		panic(err)
	}
	return beam.ParDo2(s, &ownFn{Config: cfg}, items)
}

type ownFn struct {
	Config Config

	desk judge.Desk[teacher.Item, compared]
}

// compared is what was found out about one evaluation: two rows, or why there are none.
type compared struct {
	rows   []Observation
	reason string
	usage  model.Usage
}

func (fn *ownFn) Setup(ctx context.Context) error {
	if err := fn.desk.Open(ctx, fn.Config.Asking()); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	return nil
}

func (fn *ownFn) StartBundle(ctx context.Context, _ func(beam.EventTime, Observation), _ func(schemas.Count)) {
	fn.desk.Start(ctx, fn.Config.InFlight, fn.compare)
}

func (fn *ownFn) ProcessElement(_ context.Context, t beam.EventTime, it teacher.Item, emit func(beam.EventTime, Observation), _ func(schemas.Count)) error {
	return fn.desk.Submit(t, it, fn.take(emit))
}

func (fn *ownFn) FinishBundle(_ context.Context, emit func(beam.EventTime, Observation), counts func(schemas.Count)) error {
	return fn.desk.Finish(fn.take(emit), counts)
}

func (fn *ownFn) take(emit func(beam.EventTime, Observation)) func(beam.EventTime, compared) {
	return func(t beam.EventTime, got compared) {
		fn.desk.Tally.In(StageAnswers, 2)
		fn.desk.Tally.Spent(StageAnswers, got.usage)
		if got.reason != "" {
			fn.desk.Tally.Filtered(StageAnswers, got.reason, 2)
			return
		}
		fn.desk.Tally.Out(StageAnswers, len(got.rows))
		for _, o := range got.rows {
			emit(t, o)
		}
	}
}

func (fn *ownFn) compare(ctx context.Context, it teacher.Item) (got compared, err error) {
	asked, _ := fn.Config.Templates.Task(it.Aspect) // Validate saw to it
	images := [2]string{it.Image1.SHA256, it.Image2.SHA256}
	own, err := fn.desk.Asker.Ask(ctx, judge.Question{
		Messages: asked.Messages(it.Prompt), Images: images, Template: asked.ID,
		Seed: schemas.Seed(fn.Config.Seed, "audit.own", it.ID, 0), Parse: judge.ParseImages,
	})
	got.usage.Add(own.Usage)
	if err != nil {
		return got, fmt.Errorf("audit: evaluation %s: %w", it.ID, err)
	}
	other := it.Answer()
	switch {
	case own.Fault != "":
		got.reason = own.Fault
		return got, nil
	case own.Text == other:
		got.reason = SameAnswer
		return got, nil
	}
	for _, order := range []string{schemas.AsIs, schemas.Swapped} {
		a, b := own.Text, other
		if order == schemas.Swapped {
			a, b = b, a
		}
		messages, id := fn.Config.Templates.AboutAnswers(it.Aspect, it.Prompt, a, b)
		r, err := fn.desk.Asker.Ask(ctx, judge.Question{
			Messages: messages, Images: images, Template: id,
			Seed: schemas.Seed(fn.Config.Seed, "audit.answers/"+order, it.ID, 0), Parse: judge.ParseAnswers,
		})
		got.usage.Add(r.Usage)
		if err != nil {
			return got, fmt.Errorf("audit: evaluation %s: %w", it.ID, err)
		}
		o := Observation{
			Key: "answers/" + it.ID, Aspect: template.Judgment + it.Aspect, Order: order,
			First: r.Scores.First, Second: r.Scores.Second, Fault: r.Fault, FactSource: schemas.FactNone,
			FirstLength: int64(utf8.RuneCountInString(own.Text)), SecondLength: int64(utf8.RuneCountInString(other)),
			FirstOwn: true, SecondOwn: it.Teacher == fn.desk.Asker.Weights(),
		}
		if order == schemas.Swapped {
			o.First, o.Second = o.Second, o.First
		}
		got.rows = append(got.rows, o)
	}
	return got, nil
}
