package audit

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/judge"
	"github.com/promptmill/promptmill/transforms/template"
)

func init() {
	beam.RegisterDoFn(reflect.TypeFor[askFn]())
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

// Asking is c for other steps that put its questions. There are no retries: how often an answer parses is what an audit
// is to find.
func (c Config) Asking() judge.Asking {
	return judge.Asking{
		Model: c.Model, Cache: c.Cache, Temperature: c.Temperature, TopP: c.TopP, MaxTokens: c.MaxTokens,
		Seed: c.Seed, InFlight: c.InFlight,
	}
}

// Validate joins all faults of c, each beginning with its place in a recipe.
func (c Config) Validate() error {
	errs := []error{c.Asking().Validate("audit", 0)}
	for _, a := range judge.Aspects() {
		t, _ := c.Templates.Task(a)
		errs = append(errs, t.Validate("audit.templates."+a, a))
	}
	return errors.Join(errs...)
}

// ValidateAnswers joins the faults of Validate and those of the questions about answers.
func (c Config) ValidateAnswers() error {
	errs := []error{c.Validate()}
	for _, a := range judge.Aspects() {
		t, _ := c.Templates.Task(template.Judgment + a)
		errs = append(errs, t.Validate("audit.templates."+template.Judgment+a, template.Judgment+a))
	}
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

	desk judge.Desk[schemas.Fact, observed]
}

// observed is what was found out about one fact.
type observed struct {
	rows  []Observation
	usage model.Usage
}

func (fn *askFn) Setup(ctx context.Context) error {
	if err := fn.desk.Open(ctx, fn.Config.Asking()); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	return nil
}

func (fn *askFn) StartBundle(ctx context.Context, _ func(beam.EventTime, Observation), _ func(schemas.Count)) {
	fn.desk.Start(ctx, fn.Config.InFlight, fn.ask)
}

func (fn *askFn) ProcessElement(_ context.Context, t beam.EventTime, f schemas.Fact, emit func(beam.EventTime, Observation), _ func(schemas.Count)) error {
	return fn.desk.Submit(t, f, fn.take(emit))
}

func (fn *askFn) FinishBundle(_ context.Context, emit func(beam.EventTime, Observation), counts func(schemas.Count)) error {
	return fn.desk.Finish(fn.take(emit), counts)
}

func (fn *askFn) take(emit func(beam.EventTime, Observation)) func(beam.EventTime, observed) {
	return func(t beam.EventTime, got observed) {
		fn.desk.Tally.In(StageFacts, len(got.rows))
		fn.desk.Tally.Out(StageFacts, len(got.rows))
		fn.desk.Tally.Spent(StageFacts, got.usage)
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
		r, err := fn.desk.Asker.Ask(ctx, judge.Question{
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
		if f.FirstScore != nil && f.SecondScore != nil {
			o.Truth, o.Scored = *f.FirstScore-*f.SecondScore, true
		}
		got.rows = append(got.rows, o)
	}
	return got, nil
}
