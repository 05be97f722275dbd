// Package prefer turns judged slates into preference pairs: the candidate with the highest reward is
// chosen, the one with the lowest is rejected. It also hands on every row that led there.
//
// # Design
//
// A reward is the sum over the aspects of the mean of the samples' scores of Image 2 (paper, sections
// 3.4, 3.5 and 4.1). Scores are whole thousandths and all sums and means are fractions, so a tie is a
// tie on every machine and in any order of the judgments; float64 appears only in the rows.
//
// The ledger has two stages, because their units differ: "score" counts the candidates with a picture,
// "prefer" the prompts.
package prefer

import (
	"math"
	"reflect"
	"slices"
	"strings"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/ledger"
	"github.com/promptmill/promptmill/transforms/settings"
	"github.com/promptmill/promptmill/transforms/template"
)

func init() {
	beam.RegisterDoFn(reflect.TypeFor[preferFn]())
	register.Emitter1[schemas.PreferencePair]()
	register.Emitter1[schemas.Candidate]()
	register.Emitter1[schemas.Reward]()
	register.Emitter1[schemas.Judgment]()
	register.Emitter1[schemas.Rejected]()
	register.Emitter1[schemas.Count]()
}

// Stages in the ledger and in dead letters.
const (
	Stage      = "prefer"
	StageScore = "score"
)

// Reasons of these stages.
const (
	// TooFewSamples (dead, of score): fewer than MinSamples judgments on some aspect.
	TooFewSamples = "too_few_samples"
	// NoCandidate (dead): none has a reward.
	NoCandidate = "no_candidate"
	// SingleCandidate, Tie and Margin (filtered): only one has a reward, all rewards are equal, the
	// best is less than MinMargin above the worst.
	SingleCandidate = "single_candidate"
	Tie             = "tie"
	Margin          = "margin"
)

// Config says what makes a pair.
type Config struct {
	// Continues is the rewriting's: a pair has what the policy said, which a candidate may have more than.
	Continues string `json:"continues,omitempty" yaml:"-"`
	// Template is the one the policy was asked with: a pair's prompt is exactly what it saw.
	Template template.Template `json:"template" yaml:"-"`
	// Aspects are those that are added up, each once.
	Aspects []string `json:"aspects" yaml:"-"`
	// MinSamples is how many judgments a candidate needs on each aspect.
	MinSamples int `json:"min_samples" yaml:"min_samples"`
	// MinMargin is the least difference of the rewards, in whole thousandths; 0 takes any that is not a tie.
	MinMargin float64 `json:"min_margin" yaml:"min_margin"`
}

// DefaultConfig adds up the paper's three aspects, wants two of the three samples of each, and takes
// every difference.
func DefaultConfig() Config {
	return Config{
		Template:   template.Paper().Rewrite,
		Aspects:    []string{schemas.Aesthetic, schemas.Pick, schemas.Alignment},
		MinSamples: 2,
	}
}

// Validate joins all faults of c, each beginning with its place in a recipe.
func (c Config) Validate() error {
	faults := settings.Of("prefer")
	known := DefaultConfig().Aspects
	faults.Check(len(c.Aspects) > 0, "aspects: none; there are %s", strings.Join(known, ", "))
	for i, a := range c.Aspects {
		faults.Check(slices.Contains(known, a), "aspects: there is no %q; there are %s", a, strings.Join(known, ", "))
		faults.Check(!slices.Contains(c.Aspects[:i], a), "aspects: %q stands there twice", a)
	}
	faults.Check(c.MinSamples >= 1 && c.MinSamples <= 64, "min_samples: %d is not in 1..64", c.MinSamples)
	faults.Check(c.MinMargin >= 0 && c.MinMargin <= 15, "min_margin: %v is not in 0..15", c.MinMargin)
	faults.Check(math.Abs(c.MinMargin*1000-math.Round(c.MinMargin*1000)) < 1e-6, "min_margin: %v has more than three decimals", c.MinMargin)
	faults.Join(c.Template.Validate("prefer.template", template.Rewrite))
	return faults.Err()
}

// Rows are what Choose returns. Candidates and Judgments hold all that the slates held, Rewards one row
// for each candidate that has a reward.
type Rows struct {
	Pairs      beam.PCollection // of schemas.PreferencePair
	Candidates beam.PCollection // of schemas.Candidate
	Rewards    beam.PCollection // of schemas.Reward
	Judgments  beam.PCollection // of schemas.Judgment
	Rejected   beam.PCollection // of schemas.Rejected
	Counts     beam.PCollection // of schemas.Count
}

// Choose makes at most one pair of each slate of a PCollection<schemas.Slate>. It panics if cfg is not
// valid.
func Choose(s beam.Scope, cfg Config, slates beam.PCollection) Rows {
	s = s.Scope("prefer.Choose")
	if err := cfg.Validate(); err != nil {
		panic(err)
	}
	var r Rows
	r.Pairs, r.Candidates, r.Rewards, r.Judgments, r.Rejected, r.Counts = beam.ParDo6(s, &preferFn{Config: cfg}, slates)
	return r
}

type preferFn struct {
	Config Config

	tally ledger.Tally
}

func (fn *preferFn) StartBundle(_ func(schemas.PreferencePair), _ func(schemas.Candidate), _ func(schemas.Reward), _ func(schemas.Judgment), _ func(schemas.Rejected), _ func(schemas.Count)) {
	fn.tally.Reset()
}

func (fn *preferFn) ProcessElement(slate schemas.Slate, pairs func(schemas.PreferencePair), candidates func(schemas.Candidate), rewards func(schemas.Reward), judgments func(schemas.Judgment), rejected func(schemas.Rejected), _ func(schemas.Count)) {
	for _, c := range slate.Candidates {
		candidates(c)
	}
	for _, j := range slate.Judgments {
		judgments(j)
	}
	scored := fn.score(slate, rejected)
	for _, c := range scored {
		rewards(c.reward)
	}
	fn.tally.In(Stage, 1)
	switch pair, margin, reason := fn.choose(slate, scored); reason {
	case "":
		fn.tally.Out(Stage, 1)
		fn.tally.Used(Stage, "margin_"+bucket(margin), 1)
		pairs(pair)
	case NoCandidate:
		fn.tally.Dead(Stage, NoCandidate, 1)
		rejected(noCandidate(slate))
	default:
		fn.tally.Filtered(Stage, reason, 1)
	}
}

func (fn *preferFn) FinishBundle(_ func(schemas.PreferencePair), _ func(schemas.Candidate), _ func(schemas.Reward), _ func(schemas.Judgment), _ func(schemas.Rejected), counts func(schemas.Count)) {
	fn.tally.Flush(counts)
}
