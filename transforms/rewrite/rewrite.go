// Package rewrite asks the policy for candidates: a prompt goes in, a slate with the distinct usable
// rewritings of it comes out.
//
// # Design
//
// All candidates of a prompt are one request with N answers. Those that are of no use are asked for
// again together, with another seed. The unit of the ledger's stage "rewrite" is the requested answer:
// each ends as a candidate, as a duplicate of one with a lower index, or as a dead letter. A prompt
// goes on even if none of its answers was of use, so that every prompt is accounted for at the end.
package rewrite

import (
	"context"
	"fmt"
	"reflect"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/responselog"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/async"
	"github.com/promptmill/promptmill/transforms/settings"
	"github.com/promptmill/promptmill/transforms/template"
)

func init() {
	beam.RegisterDoFn(reflect.TypeFor[rewriteFn]())
	register.Emitter2[beam.EventTime, schemas.Slate]()
	register.Emitter1[schemas.Rejected]()
	register.Emitter1[schemas.Count]()
}

// Stage is the name in the ledger and in dead letters.
const Stage = "rewrite"

// Reasons of this stage, beside those of package deadletter.
const (
	// Duplicate (filtered): the text of a candidate with a lower index.
	Duplicate = "duplicate"
	// Refusal, Empty, TooLong and CutOff (dead): declined, nothing left after cleaning, over
	// MaxClipTokens, ended by MaxTokens.
	Refusal = "refusal"
	Empty   = "empty"
	TooLong = "too_long"
	CutOff  = "cut_off"
)

// Config says how candidates are sampled.
type Config struct {
	// Model is the policy, Cache the URL of the response log.
	Model    model.Spec        `json:"model" yaml:"-"`
	Cache    string            `json:"cache" yaml:"-"`
	Template template.Template `json:"template" yaml:"-"`
	// Candidates is how many answers each prompt gets.
	Candidates  int     `json:"candidates" yaml:"candidates"`
	Temperature float64 `json:"temperature" yaml:"temperature"`
	TopP        float64 `json:"top_p" yaml:"top_p"`
	// Continues is for a policy whose answers continue the prompt (as MagicPrompt's do) instead of being a prompt of their
	// own: what stands between the two, as in ", ". A candidate is then the prompt, this and the answer. "" for the others.
	Continues string `json:"continues,omitempty" yaml:"continues"`
	// MaxTokens bounds an answer in the policy's tokens; an answer that reaches it is cut off.
	MaxTokens int `json:"max_tokens" yaml:"max_tokens"`
	// MaxClipTokens bounds a candidate in the tokens of CLIP, which reads no more than 77.
	MaxClipTokens int `json:"max_clip_tokens" yaml:"max_clip_tokens"`
	// Retries is how often an answer of no use is asked for again. ExtraAttempts adds to it when dead
	// letters are run again: the attempts before come from the response log, so only new seeds are asked.
	Retries       int `json:"retries" yaml:"retries"`
	ExtraAttempts int `json:"extra_attempts" yaml:"-"`
	// Seed is the run's.
	Seed int64 `json:"seed" yaml:"-"`
	// InFlight bounds the prompts at work in one bundle; it does not bound a server's load.
	InFlight int `json:"in_flight" yaml:"in_flight"`
}

// DefaultConfig has the paper's numbers (section 4.1): 8 candidates at temperature 0.9 and top-p 0.9.
// Model and Cache are left to the caller.
func DefaultConfig() Config {
	return Config{
		Template: template.Paper().Rewrite, Candidates: 8, Temperature: 0.9, TopP: 0.9,
		MaxTokens: 128, MaxClipTokens: 77, Retries: 2, InFlight: 32,
	}
}

// Validate joins all faults of c, each beginning with its place in a recipe.
func (c Config) Validate() error {
	faults := settings.Of("rewrite")
	faults.Check(c.Model.Backend != "", "model.backend: empty; name one of the backends")
	faults.Check(c.Cache != "", "cache: empty; name the folder that keeps the answers")
	faults.Check(c.Candidates >= 1 && c.Candidates <= 64, "candidates: %d is not in 1..64", c.Candidates)
	faults.Check(c.Temperature >= 0 && c.Temperature <= 2, "temperature: %v is not in 0..2", c.Temperature)
	faults.Check(c.Temperature != 0 || c.Candidates <= 1, "temperature: 0 gives %d equal candidates; raise it or ask for one", c.Candidates)
	faults.Check(c.TopP > 0 && c.TopP <= 1, "top_p: %v is not above 0 and at most 1", c.TopP)
	faults.Check(c.MaxTokens >= 1, "max_tokens: %d is not at least 1", c.MaxTokens)
	faults.Check(c.MaxClipTokens >= 3, "max_clip_tokens: %d leaves no room for a word between the two that mark the ends; 77 is CLIP's", c.MaxClipTokens)
	faults.Check(c.Retries >= 0 && c.Retries <= 10, "retries: %d is not in 0..10", c.Retries)
	faults.Check(c.ExtraAttempts >= 0 && c.ExtraAttempts <= 10, "extra_attempts: %d is not in 0..10", c.ExtraAttempts)
	faults.Check(c.InFlight >= 1 && c.InFlight <= async.MaxInFlight, "in_flight: %d is not in 1..%d", c.InFlight, async.MaxInFlight)
	faults.Join(c.Template.Validate("rewrite.template", template.Rewrite))
	return faults.Err()
}

// Sample asks the policy about every prompt of a PCollection<schemas.Prompt>. It returns a
// PCollection<schemas.Slate> with one slate a prompt, its candidates by ascending index and without
// pictures; a PCollection<schemas.Rejected>; and the PCollection<schemas.Count> of the stage. It panics
// if cfg is not valid.
func Sample(s beam.Scope, cfg Config, prompts beam.PCollection) (slates, rejected, counts beam.PCollection) {
	s = s.Scope("rewrite.Sample")
	if err := cfg.Validate(); err != nil {
		panic(err)
	}
	return beam.ParDo3(s, &rewriteFn{Config: cfg}, prompts)
}

type rewriteFn struct {
	Config Config

	policy model.Chat
	bundle async.Counted[schemas.Prompt, sampled]
}

func (fn *rewriteFn) Setup(ctx context.Context) error {
	log, err := responselog.Open(ctx, fn.Config.Cache)
	if err != nil {
		return fmt.Errorf("rewrite: %w", err)
	}
	policy, err := model.OpenChat(ctx, fn.Config.Model)
	if err != nil {
		return fmt.Errorf("rewrite: %w", err)
	}
	fn.policy = responselog.Chat(policy, log)
	return nil
}

func (fn *rewriteFn) StartBundle(ctx context.Context, _ func(beam.EventTime, schemas.Slate), _ func(schemas.Rejected), _ func(schemas.Count)) {
	fn.bundle.Start(ctx, fn.Config.InFlight, fn.sample)
}

func (fn *rewriteFn) ProcessElement(_ context.Context, t beam.EventTime, p schemas.Prompt, slates func(beam.EventTime, schemas.Slate), rejected func(schemas.Rejected), _ func(schemas.Count)) error {
	return fn.bundle.Submit(t, p, fn.take(slates, rejected))
}

func (fn *rewriteFn) FinishBundle(_ context.Context, slates func(beam.EventTime, schemas.Slate), rejected func(schemas.Rejected), counts func(schemas.Count)) error {
	return fn.bundle.Finish(fn.take(slates, rejected), counts)
}

// take emits and counts what was sampled for one prompt; it runs on the bundle's goroutine.
func (fn *rewriteFn) take(slates func(beam.EventTime, schemas.Slate), rejected func(schemas.Rejected)) func(beam.EventTime, sampled) {
	return func(t beam.EventTime, r sampled) {
		fn.bundle.Tally.In(Stage, fn.Config.Candidates)
		fn.bundle.Tally.Out(Stage, len(r.slate.Candidates))
		fn.bundle.Tally.Filtered(Stage, Duplicate, r.duplicates)
		fn.bundle.Tally.Spent(Stage, r.usage)
		for _, dead := range r.dead {
			fn.bundle.Tally.Dead(Stage, dead.Reason, 1)
			rejected(dead)
		}
		slates(t, r.slate)
	}
}
