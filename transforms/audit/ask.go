package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/async"
	"github.com/promptmill/promptmill/transforms/judge"
	"github.com/promptmill/promptmill/transforms/ledger"
	"github.com/promptmill/promptmill/transforms/template"
)

func init() {
	register.DoFn5x1[context.Context, beam.EventTime, schemas.Fact, func(beam.EventTime, Observation), func(schemas.Count), error](&askFn{})
	register.Emitter2[beam.EventTime, Observation]()
}

// StageFacts counts the questions asked about facts. Each is out: that an answer does not parse is what an
// audit is to find.
const StageFacts = "audit_facts"

// Config says how a judge is asked about facts: once in each order, as it would be in a run.
type Config struct {
	// Model is the judge; Cache is the URL of the response log, whose store has the pictures.
	Model model.Spec `json:"model" yaml:"-"`
	Cache string     `json:"cache" yaml:"-"`
	// Templates has the question for each aspect.
	Templates template.Set `json:"templates" yaml:"-"`
	// Temperature 0 asks for the judge's likeliest answer, as the paper's evaluation does.
	Temperature float64 `json:"temperature" yaml:"temperature"`
	TopP        float64 `json:"top_p" yaml:"top_p"`
	MaxTokens   int     `json:"max_tokens" yaml:"max_tokens"`
	// Seed is the run's.
	Seed int64 `json:"seed" yaml:"-"`
	// InFlight bounds the facts at work in one bundle; it does not bound a server's load.
	InFlight int `json:"in_flight" yaml:"in_flight"`
}

// DefaultConfig asks in the paper's words for the likeliest answer. Model, Cache and Seed are left to the
// caller.
func DefaultConfig() Config {
	return Config{Templates: template.Paper(), TopP: 1, MaxTokens: 1024, InFlight: 24}
}

// Validate joins all faults of c, each beginning with its place in a recipe.
func (c Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("audit."+format, args...))
		}
	}
	check(c.Model.Backend != "", "model.backend: empty; name one of the backends")
	check(c.Cache != "", "cache: empty; name the folder that keeps the answers and the pictures")
	for _, a := range judge.Aspects() {
		t, _ := c.Templates.Task(a)
		errs = append(errs, t.Validate("audit.templates."+a, a))
	}
	check(c.Temperature >= 0 && c.Temperature <= 2, "temperature: %v is not in 0..2", c.Temperature)
	check(c.TopP > 0 && c.TopP <= 1, "top_p: %v is not above 0 and at most 1", c.TopP)
	check(c.MaxTokens >= 1, "max_tokens: %d is not at least 1", c.MaxTokens)
	check(c.InFlight >= 1 && c.InFlight <= 4096, "in_flight: %d is not in 1..4096", c.InFlight)
	return errors.Join(errs...)
}

// Judge asks the judge about every fact of a PCollection<schemas.Fact> in both orders, without a cue, and
// returns a PCollection<Observation>, two a fact, and the PCollection<schemas.Count> of StageFacts. The facts'
// aspects are those of package judge. It panics if cfg is not valid.
func Judge(s beam.Scope, cfg Config, facts beam.PCollection) (observations, counts beam.PCollection) {
	s = s.Scope("audit.Judge")
	if err := cfg.Validate(); err != nil {
		panic(err)
	}
	return beam.ParDo2(s, &askFn{Config: cfg}, facts)
}

type askFn struct {
	Config Config

	asker  *judge.Asker
	bundle async.Bundle[schemas.Fact, observed]
	tally  ledger.Tally
}

// observed is what was found out about one fact.
type observed struct {
	rows  []Observation
	usage model.Usage
}

func (fn *askFn) Setup(ctx context.Context) (err error) {
	c := fn.Config
	fn.asker, err = judge.OpenAsker(ctx, c.Model, c.Cache, model.Sampling{Temperature: c.Temperature, TopP: c.TopP, MaxTokens: c.MaxTokens})
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	return nil
}

func (fn *askFn) StartBundle(ctx context.Context, _ func(beam.EventTime, Observation), _ func(schemas.Count)) {
	fn.tally.Reset()
	fn.bundle.Start(ctx, fn.Config.InFlight, fn.ask)
}

func (fn *askFn) ProcessElement(_ context.Context, t beam.EventTime, f schemas.Fact, emit func(beam.EventTime, Observation), _ func(schemas.Count)) error {
	return fn.bundle.Submit(t, f, fn.take(emit))
}

func (fn *askFn) FinishBundle(_ context.Context, emit func(beam.EventTime, Observation), counts func(schemas.Count)) error {
	if err := fn.bundle.Finish(fn.take(emit)); err != nil {
		return err
	}
	fn.tally.Flush(counts)
	return nil
}

func (fn *askFn) take(emit func(beam.EventTime, Observation)) func(beam.EventTime, observed) {
	return func(t beam.EventTime, got observed) {
		fn.tally.In(StageFacts, len(got.rows))
		fn.tally.Out(StageFacts, len(got.rows))
		fn.tally.Spent(StageFacts, got.usage)
		for _, o := range got.rows {
			emit(t, o)
		}
	}
}

func (fn *askFn) ask(ctx context.Context, f schemas.Fact) (got observed, err error) {
	question, ok := fn.Config.Templates.Task(f.Aspect)
	if !ok || !slices.Contains(judge.Aspects(), f.Aspect) {
		return got, fmt.Errorf("audit: fact %s: no aspect %q; there are %s", f.ID, f.Aspect, strings.Join(judge.Aspects(), ", "))
	}
	for _, order := range []string{schemas.AsIs, schemas.Swapped} {
		images := [2]string{f.First.SHA256, f.Second.SHA256}
		if order == schemas.Swapped {
			images[0], images[1] = images[1], images[0]
		}
		r, err := fn.asker.Ask(ctx, judge.Question{
			Messages: question.Messages(f.Prompt), Images: images, Template: question.ID,
			Seed: schemas.Seed(fn.Config.Seed, "audit/"+order, f.ID, 0), Parse: judge.ParseImages,
		})
		got.usage.Add(r.Usage)
		if err != nil {
			return got, fmt.Errorf("audit: fact %s: %w", f.ID, err)
		}
		o := Observation{
			Key: f.ID, Aspect: f.Aspect, Order: order, First: r.Scores.First, Second: r.Scores.Second, Fault: r.Fault,
			Part: f.Split, Preference: f.Preference, FactSource: f.FactSource,
		}
		if order == schemas.Swapped {
			o.First, o.Second = o.Second, o.First
		}
		got.rows = append(got.rows, o)
	}
	return got, nil
}
