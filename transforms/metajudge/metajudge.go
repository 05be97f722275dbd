// Package metajudge has the judge judge its own judgments (paper 3.3.2): of its sampled answers about one
// candidate on one aspect, the one it rates highest is chosen, the one it rates lowest is rejected. Judged slates
// go in, judgment pairs come out.
//
// # Design
//
// Nothing is sampled anew: the answers are those that the rewards rest on. All of them meet each other in pairs,
// each pair in both orders, for a judge favours a place; three answers take six requests. Since every candidate on
// every aspect would cost ten times what its reward did, those to ask about are chosen first, by the rank of a
// hash: a worker decides by itself, and the same ones are chosen on any runner.
//
// A pair of answers counts only if both orders were answered. An answer's rating is the mean of its scores, a
// fraction until it stands in a row. The ledger has three stages, because their units differ: "meta_choice"
// counts candidates on an aspect, "metajudge" the requested verdicts, "meta_pair" the contests: chosen candidates
// on an aspect.
package metajudge

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/transforms/judge"
	"github.com/promptmill/promptmill/transforms/settings"
	"github.com/promptmill/promptmill/transforms/template"
)

func init() {
	beam.RegisterDoFn(reflect.TypeFor[pairFn]())
	register.Emitter2[beam.EventTime, schemas.VisionPreferencePair]()
	register.Emitter1[schemas.Rejected]()
	register.Emitter1[schemas.Count]()
}

// Stages in the ledger and in dead letters. A dead verdict has a judge.Fault or a reason of package deadletter.
const (
	StageChoice = "meta_choice"
	Stage       = "metajudge"
	StagePairs  = "meta_pair"
)

// Reasons of these stages.
const (
	// NotChosen (filtered, of the choice): not among those to ask about.
	NotChosen = "not_chosen"
	// SameAnswers (filtered, of the choice): the judge gave fewer than two different answers.
	SameAnswers = "same_answers"
	// Equal (filtered, of the pairs): all answers have one rating.
	Equal = "equal"
	// TooFewVerdicts (dead, of the pairs): no two answers were compared in both orders.
	TooFewVerdicts = "too_few_verdicts"
)

// What StagePairs counts as used: pairs of answers compared in both orders, and those of them that the judge
// ranked one way in one order and the other way in the other.
const (
	Compared = "compared"
	Flipped  = "flipped"
)

// Config says which judgments are judged, and how.
type Config struct {
	// Templates has the question for each aspect, in whose words the judge was asked, and the one about answers.
	Templates template.Set `json:"templates" yaml:"-"`
	// Asked is about how many candidates on an aspect are asked about, over all aspects: the first of Of by the
	// rank of a hash. Of is how many there are to choose from if no candidate is lost, 0 takes all; a constant Of
	// keeps the choice where the number of prompts changes.
	Asked int64 `json:"asked" yaml:"asked"`
	Of    int64 `json:"of" yaml:"-"`
	// Aspects are those on which answers are judged, each once.
	Aspects []string `json:"aspects" yaml:"aspects"`
	// The model is the judge that gave the answers, an answer is a verdict on two of them, of no use if it does not
	// parse, and slates are at work.
	judge.Replayable `yaml:",inline"`
}

// DefaultConfig asks about 7,500 candidates on the paper's two aspects (section 3.1), which makes its 5,000 pairs
// of an iteration (Table 4) if a third of them have no best answer. Model, Cache, Of and Seed are left to the caller.
func DefaultConfig() Config {
	return Config{
		Templates: template.Paper(), Asked: 7500, Aspects: []string{schemas.Aesthetic, schemas.Pick},
		Replayable: judge.Replayable{Asking: judge.DefaultAsking(12)},
	}
}

// Validate joins all faults of c, each beginning with its place in a recipe.
func (c Config) Validate() error {
	faults := settings.Of("judgment_pairs")
	faults.Join(c.Replayable.Validate("judgment_pairs"), c.ValidateChance("judgment_pairs"), judge.ValidateAspects("judgment_pairs", c.Aspects, func(a string) error {
		var errs []error
		for _, task := range []string{a, template.Judgment + a} {
			t, _ := c.Templates.Task(task)
			errs = append(errs, t.Validate("judgment_pairs.templates."+task, task))
		}
		return errors.Join(errs...)
	}))
	faults.Check(c.Asked >= 0, "asked: %d is negative; 0 asks about none", c.Asked)
	faults.Check(c.Of >= 0, "of: %d is negative; it is how many there are to choose from", c.Of)
	return faults.Err()
}

// Pairs makes at most one pair of each chosen candidate and aspect of a PCollection<schemas.Slate> that was
// judged. It returns a PCollection<schemas.VisionPreferencePair> of kind judgment, in no order, with the pictures
// embedded: its prompt is what the judge was asked about them, its policy the judge that answered. The others are
// a PCollection<schemas.Rejected> and the PCollection<schemas.Count> of the stages. It panics if cfg is not valid.
func Pairs(s beam.Scope, cfg Config, slates beam.PCollection) (pairs, rejected, counts beam.PCollection) {
	s = s.Scope("metajudge.Pairs")
	if err := cfg.Validate(); err != nil {
		panic(err)
	}
	return beam.ParDo3(s, &pairFn{Config: cfg}, slates)
}

type pairFn struct {
	Config Config

	desk  judge.Desk[schemas.Slate, outcome]
	store store.Store // of the pictures
}

func (fn *pairFn) Setup(ctx context.Context) (err error) {
	if err = fn.desk.Open(ctx, fn.Config.Asking); err == nil {
		fn.store, err = store.Open(ctx, fn.Config.Cache)
	}
	if err != nil {
		return fmt.Errorf("metajudge: %w", err)
	}
	return nil
}

func (fn *pairFn) StartBundle(ctx context.Context, _ func(beam.EventTime, schemas.VisionPreferencePair), _ func(schemas.Rejected), _ func(schemas.Count)) {
	fn.desk.Start(ctx, fn.Config.InFlight, fn.judge)
}

func (fn *pairFn) ProcessElement(_ context.Context, t beam.EventTime, slate schemas.Slate, pairs func(beam.EventTime, schemas.VisionPreferencePair), rejected func(schemas.Rejected), _ func(schemas.Count)) error {
	return fn.desk.Submit(t, slate, fn.take(pairs, rejected))
}

func (fn *pairFn) FinishBundle(_ context.Context, pairs func(beam.EventTime, schemas.VisionPreferencePair), rejected func(schemas.Rejected), counts func(schemas.Count)) error {
	return fn.desk.Finish(fn.take(pairs, rejected), counts)
}

// take emits and counts what became of one slate; it runs on the bundle's goroutine.
func (fn *pairFn) take(pairs func(beam.EventTime, schemas.VisionPreferencePair), rejected func(schemas.Rejected)) func(beam.EventTime, outcome) {
	return func(t beam.EventTime, o outcome) {
		fn.desk.Tally.In(StageChoice, o.notChosen+o.sameAnswers+o.contests)
		fn.desk.Tally.Filtered(StageChoice, NotChosen, o.notChosen)
		fn.desk.Tally.Filtered(StageChoice, SameAnswers, o.sameAnswers)
		fn.desk.Tally.Out(StageChoice, o.contests)

		fn.desk.Tally.In(Stage, o.asked)
		fn.desk.Tally.Spent(Stage, o.usage)
		fn.desk.Tally.In(StagePairs, o.contests)
		fn.desk.Tally.Filtered(StagePairs, Equal, o.equal)
		fn.desk.Tally.Used(StagePairs, Compared, o.compared)
		fn.desk.Tally.Used(StagePairs, Flipped, o.flipped)
		verdicts := o.asked
		for _, dead := range o.dead {
			fn.desk.Tally.Dead(dead.Stage, dead.Reason, 1)
			if dead.Stage == Stage {
				verdicts--
			}
			rejected(dead)
		}
		fn.desk.Tally.Out(Stage, verdicts)
		fn.desk.Tally.Out(StagePairs, len(o.pairs))
		for _, p := range o.pairs {
			pairs(t, p)
		}
	}
}
