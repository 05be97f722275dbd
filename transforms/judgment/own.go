package judgment

import (
	"context"
	"fmt"
	"reflect"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/judge"
	"github.com/promptmill/promptmill/transforms/ledger"
	"github.com/promptmill/promptmill/transforms/teacher"
)

func init() {
	beam.RegisterDoFn(reflect.TypeFor[ownFn]())
	beam.RegisterDoFn(reflect.TypeFor[partnerFn]())
	register.Function1x2(byAspect)
	register.Emitter2[beam.EventTime, teacher.Item]()
	register.Iter1[teacher.Item]()
}

// StageOwn counts the facts that a judge is asked about for its own answers.
const StageOwn = "own_answers"

// Reasons of facts without an answer of use, all filtered; there are the faults of package judge besides.
const (
	// NoPreference: nobody says which picture is better.
	NoPreference = "no_preference"
	// Contradicts: the answer finds the other picture better, or both equal.
	Contradicts = "contradicts"
)

// Own asks cfg.Model, as a judge that is given no cue, about every fact of a PCollection<schemas.Fact> and returns a
// PCollection<teacher.Item> of those answers that agree with their facts, in no order: standard answers in the
// judge's own words, for facts that no teacher explained. The questions are those of an audit (as is), so a judge that
// was audited is asked nothing again. The PCollection<schemas.Count> is StageOwn's. It panics if cfg is not valid.
func Own(s beam.Scope, cfg Config, facts beam.PCollection) (items, counts beam.PCollection) {
	s = s.Scope("judgment.Own")
	if err := cfg.Validate(); err != nil {
		panic(err)
	}
	return beam.ParDo2(s, &ownFn{Config: cfg}, facts)
}

// PairsOf is Pairs for answers that are in no shards: each of a PCollection<teacher.Item> meets another one of its
// aspect. All answers about one aspect are held by one worker.
func PairsOf(s beam.Scope, seed int64, items beam.PCollection) (pairs, counts beam.PCollection) {
	s = s.Scope("judgment.PairsOf")
	return beam.ParDo2(s, &partnerFn{Seed: seed}, beam.GroupByKey(s, beam.ParDo(s, byAspect, items)))
}

func byAspect(it teacher.Item) (string, teacher.Item) { return it.Aspect, it }

type partnerFn struct {
	Seed int64

	tally ledger.Tally
}

func (fn *partnerFn) StartBundle(func(Pair), func(schemas.Count)) { fn.tally.Reset() }

func (fn *partnerFn) ProcessElement(_ string, answers func(*teacher.Item) bool, emit func(Pair), _ func(schemas.Count)) {
	var items []teacher.Item
	var it teacher.Item
	for answers(&it) {
		items = append(items, it)
		it = teacher.Item{}
	}
	emitPairs(&fn.tally, fn.Seed, items, emit)
}

func (fn *partnerFn) FinishBundle(_ func(Pair), counts func(schemas.Count)) { fn.tally.Flush(counts) }

// answered is what became of one fact.
type answered struct {
	item   teacher.Item // if reason is ""
	reason string
	usage  model.Usage
}

type ownFn struct {
	Config Config

	desk judge.Desk[schemas.Fact, answered]
}

func (fn *ownFn) Setup(ctx context.Context) error {
	if err := fn.desk.Open(ctx, fn.Config.Asking); err != nil {
		return fmt.Errorf("judgment: %w", err)
	}
	return nil
}

func (fn *ownFn) StartBundle(ctx context.Context, _ func(beam.EventTime, teacher.Item), _ func(schemas.Count)) {
	fn.desk.Start(ctx, fn.Config.InFlight, fn.ask)
}

func (fn *ownFn) ProcessElement(_ context.Context, t beam.EventTime, f schemas.Fact, emit func(beam.EventTime, teacher.Item), _ func(schemas.Count)) error {
	return fn.desk.Submit(t, f, fn.take(emit))
}

func (fn *ownFn) FinishBundle(_ context.Context, emit func(beam.EventTime, teacher.Item), counts func(schemas.Count)) error {
	return fn.desk.Finish(fn.take(emit), counts)
}

func (fn *ownFn) take(emit func(beam.EventTime, teacher.Item)) func(beam.EventTime, answered) {
	return func(t beam.EventTime, got answered) {
		fn.desk.Tally.In(StageOwn, 1)
		fn.desk.Tally.Spent(StageOwn, got.usage)
		if got.reason != "" {
			fn.desk.Tally.Filtered(StageOwn, got.reason, 1)
			return
		}
		fn.desk.Tally.Out(StageOwn, 1)
		emit(t, got.item)
	}
}

func (fn *ownFn) ask(ctx context.Context, f schemas.Fact) (answered, error) {
	if f.Preference != schemas.First && f.Preference != schemas.Second {
		return answered{reason: NoPreference}, nil
	}
	question, ok := fn.Config.Questions.Task(f.Aspect)
	if !ok {
		return answered{}, fmt.Errorf("judgment: fact %s: no question about %q", f.ID, f.Aspect)
	}
	r, err := fn.desk.Asker.Ask(ctx, judge.Question{
		Messages: question.Messages(f.Prompt), Images: [2]string{f.First.SHA256, f.Second.SHA256}, Template: question.ID,
		Seed: schemas.Seed(fn.Config.Seed, "audit/"+schemas.AsIs, f.ID, 0), Parse: judge.ParseImages,
	})
	if err != nil {
		return answered{}, fmt.Errorf("judgment: fact %s: %w", f.ID, err)
	}
	got := answered{reason: r.Fault, usage: r.Usage}
	if got.reason == "" && (r.Scores.First == r.Scores.Second || (r.Scores.First > r.Scores.Second) != (f.Preference == schemas.First)) {
		got.reason = Contradicts
	}
	if got.reason != "" {
		return got, nil
	}
	got.item = teacher.NewItem(f, schemas.AsIs, question, r, 0, fn.desk.Asker.Weights())
	return got, nil
}
