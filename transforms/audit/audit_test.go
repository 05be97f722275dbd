package audit_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	"github.com/google/go-cmp/cmp"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/audit"
	"github.com/promptmill/promptmill/transforms/judge"
	"github.com/promptmill/promptmill/transforms/ledger"
	"github.com/promptmill/promptmill/transforms/transformtest"
)

func TestMain(m *testing.M) { ptest.Main(m) }

func summarise(t *testing.T, in []audit.Observation) audit.Report {
	t.Helper()
	p, s := beam.NewPipelineWithRoot()
	counts := transformtest.Collect[schemas.Count](s, audit.Count(s, beam.Reshuffle(s, beam.CreateList(s, in))))
	if err := ptest.Run(p); err != nil {
		t.Fatal(err)
	}
	return audit.Summarise(ledger.Sum(counts()), "validation")
}

func TestReport(t *testing.T) {
	o := func(key, order string, first, second float64) audit.Observation {
		return audit.Observation{Key: key, Aspect: "pick", Order: order, First: first, Second: second, FactSource: schemas.FactNone}
	}
	with := func(o audit.Observation, change func(*audit.Observation)) audit.Observation {
		change(&o)
		return o
	}
	lengths := func(a, b int64) func(*audit.Observation) {
		return func(o *audit.Observation) { o.FirstLength, o.SecondLength = a, b }
	}
	got := summarise(t, []audit.Observation{
		o("same", schemas.AsIs, 4, 1), o("same", schemas.Swapped, 5, 2),
		o("first", schemas.AsIs, 4, 1), o("first", schemas.Swapped, 1, 4),
		o("second", schemas.AsIs, 1, 4), o("second", schemas.Swapped, 4, 1),
		o("tie", schemas.AsIs, 2.5, 2.5), o("tie", schemas.Swapped, 4, 1),
		o("mute", schemas.AsIs, 4, 1), with(o("mute", schemas.Swapped, 0, 0), func(o *audit.Observation) { o.Fault = "refusal" }),
		o("one order", schemas.AsIs, 4, 1),
		with(o("l1", schemas.AsIs, 4, 1), lengths(90, 10)), with(o("l2", schemas.AsIs, 4, 1), lengths(10, 90)),
		with(o("l3", schemas.AsIs, 1, 4), lengths(10, 90)), with(o("l4", schemas.AsIs, 3, 3), lengths(10, 90)),
		with(o("l5", schemas.AsIs, 1, 4), lengths(50, 50)),
		with(o("own", schemas.AsIs, 1, 4), func(o *audit.Observation) { o.SecondOwn = true }),
		with(o("both own", schemas.AsIs, 1, 4), func(o *audit.Observation) { o.FirstOwn, o.SecondOwn = true, true }),
	})
	if len(got.Aspects) != 1 {
		t.Fatalf("%+v", got)
	}
	a := got.Aspects[0]
	want := audit.Aspect{
		Aspect: "pick", Read: 17, Faults: map[string]int64{"refusal": 1},
		Scores: []audit.Bar{{1, 14}, {2, 1}, {2.5, 2}, {3, 2}, {4, 14}, {5, 1}},
		Orders: judge.Orders{Same: 1, Image1: 1, Image2: 1, Undecided: 1, Unread: 1, FlipRate: 2. / 3},
		Longer: audit.Contest{Won: 2, Lost: 1, Tied: 1, Rate: 2. / 3},
		Own:    audit.Contest{Won: 1, Rate: 1}, Agreement: []audit.Agreement{},
	}
	if d := cmp.Diff(want, a); d != "" {
		t.Error(d)
	}
}

// PickScore's rule: a match is 1, a tie on one side a half; the threshold is the validation part's.
func TestAgreement(t *testing.T) {
	var in []audit.Observation
	add := func(part, preference string, lead float64, n int) {
		for range n {
			in = append(in, audit.Observation{
				Key: fmt.Sprint(len(in)), Aspect: "pick", Order: schemas.AsIs, First: 2 + lead, Second: 2,
				Part: part, Preference: preference, FactSource: schemas.FactHuman,
			})
		}
	}
	// A lead of .5 or .3 goes with a tie more often than not, one of 1 does not.
	add("validation", schemas.Tie, .5, 6)
	add("validation", schemas.First, .3, 1)
	add("validation", schemas.First, 1, 6)
	add("validation", schemas.Second, -1, 2)
	add("test", schemas.First, .5, 1)   // a tie said: .5
	add("test", schemas.Tie, 0, 1)      // 1
	add("test", schemas.Second, -1, 1)  // 1
	add("test", schemas.First, -1, 1)   // 0
	add("test", schemas.Tie, 1, 1)      // .5
	add("test", schemas.Second, -.5, 1) // .5
	in = append(in, audit.Observation{Key: "none", Aspect: "pick", First: 5, Part: "test", FactSource: schemas.FactNone})
	a := summarise(t, in).Aspects[0]
	want := []audit.Agreement{{"test", 6, 3.5 / 6}, {"validation", 15, 14.5 / 15}}
	if d := cmp.Diff(want, a.Agreement); d != "" || a.Threshold != .5 {
		t.Errorf("threshold %v: %s", a.Threshold, d)
	}
}

// biased prefers the first picture unless one of them is the true one, which begins with 1.
type biased struct{}

// calls counts what the judges are asked.
var calls atomic.Int64

func (biased) Info() model.Info { return model.Info{Name: "biased", Weights: "biased"} }

func (biased) Chat(_ context.Context, req model.ChatRequest) (model.ChatResponse, error) {
	calls.Add(1)
	parts := req.Messages[0].Parts
	text := "Image 1: 4\nImage 2: 2"
	if strings.HasPrefix(parts[3].Picture.SHA256, "1") {
		text = "Image 1: 2\nImage 2: 4"
	}
	if strings.Contains(parts[4].Text, "Text: mute") {
		text = "I'm sorry, I can't."
	}
	return model.ChatResponse{Answers: []model.Answer{{Text: text, Finish: model.FinishStop}}, Usage: model.Usage{Calls: 1}}, nil
}

func init() {
	transformtest.Register[audit.Observation]()
	model.Register("test-biased", model.Backend{Chat: func(context.Context, model.Spec) (model.Chat, error) { return biased{}, nil }})
}

func config(t testing.TB, backend string) audit.Config {
	cfg := audit.DefaultConfig()
	cfg.Model, cfg.Cache = model.Spec{Backend: backend}, transformtest.Cache(t)
	return cfg
}

// everyFact has one for each thing that biased does.
func everyFact() (in []schemas.Fact) {
	sha := func(first, text string) string {
		return first + (schemas.PromptID(text) + schemas.PromptID(text+"!"))[1:]
	}
	for i, preference := range []string{schemas.First, schemas.Second, schemas.Tie, schemas.First} {
		prompt := []string{"true", "true", "blank", "mute"}[i]
		first := "1"
		if prompt == "blank" {
			first = "2"
		}
		in = append(in, schemas.Fact{
			ID: fmt.Sprint(i), Aspect: schemas.Pick, Prompt: prompt, Split: "test", Preference: preference, FactSource: schemas.FactHuman,
			First: schemas.ImageRef{SHA256: sha(first, prompt+"1")}, Second: schemas.ImageRef{SHA256: sha("3", prompt+"2")},
		})
	}
	return in
}

func TestJudgeIsDeterministic(t *testing.T) {
	transformtest.Deterministic(t, func(cfg audit.Config, in []schemas.Fact) (transformtest.Rows[audit.Observation], error) {
		return transformtest.Run[audit.Observation](transformtest.NoneDead(audit.Judge), cfg, in)
	}, config(t, "test-biased"), everyFact(), &calls, 0)
}

// counted runs a step of the audit, and returns its counts and those of its observations.
func counted[I any](t *testing.T, step func(beam.Scope, audit.Config, beam.PCollection) (observations, counts beam.PCollection), cfg audit.Config, in []I) []schemas.Count {
	t.Helper()
	p, s := beam.NewPipelineWithRoot()
	observations, counts := step(s, cfg, beam.CreateList(s, in))
	got := transformtest.Collect[schemas.Count](s, beam.Flatten(s, counts, audit.Count(s, observations)))
	if err := ptest.Run(p); err != nil {
		t.Fatal(err)
	}
	return got()
}

func TestJudge(t *testing.T) {
	got := counted(t, audit.Judge, config(t, "test-biased"), everyFact())
	if err := ledger.Check(got, nil, []string{"audit_facts.in = 8"}); err != nil {
		t.Error(err)
	}
	a := audit.Summarise(ledger.Sum(got), "validation").Aspects[0]
	if d := cmp.Diff(judge.Orders{Same: 2, Image1: 1, Unread: 1, FlipRate: 1. / 3}, a.Orders); d != "" {
		t.Error(d)
	}
	// Twice right, twice wrong, a tie called twice a win.
	if d := cmp.Diff([]audit.Agreement{{"test", 6, .5}}, a.Agreement); d != "" || a.Faults["refusal"] != 2 {
		t.Errorf("%+v: %s", a, d)
	}
}

func TestOf(t *testing.T) {
	pair := schemas.VisionPreferencePair{
		ID: "p", ChosenScore: 4, RejectedScore: 2, Chosen: []schemas.Message{{Content: "ä b"}}, Rejected: []schemas.Message{{Content: "longer"}},
	}
	a := summarise(t, []audit.Observation{audit.OfPair(pair, "pick"), audit.OfJudgment(schemas.Judgment{CandidateID: "c", Aspect: "pick", Score1: 1, Score2: 3})}).Aspects[0]
	if a.Read != 2 || a.Longer.Lost != 1 || len(a.Agreement) != 0 {
		t.Errorf("%+v", a)
	}
}

func TestConfig(t *testing.T) {
	cfg := audit.DefaultConfig()
	cfg.Model, cfg.Cache, cfg.Seed, cfg.Temperature = model.Spec{Backend: "test-biased"}, "x", 1, .5
	transformtest.RoundTrip(t, cfg)
	bad := audit.Config{}
	for _, fault := range []string{"audit.model.backend: ", "audit.cache: ", "audit.templates.pick.id: ", "audit.top_p: 0", "audit.max_tokens: 0", "audit.in_flight: 0"} {
		if err := bad.Validate(); err == nil || !strings.Contains("\n"+err.Error(), "\n"+fault) {
			t.Errorf("no %q in %v", fault, err)
		}
	}
}

// The correlation is of differences of scores, whatever the agreement.
func TestCorrelation(t *testing.T) {
	for _, tt := range []struct {
		name string
		said func(truth float64) float64
		want float64
	}{
		{"a judge that measures", func(x float64) float64 { return 2 * x }, 1},
		{"one that is always wrong", func(x float64) float64 { return -x }, -1},
		{"one that always says the same", func(float64) float64 { return 1 }, 0},
	} {
		var in []audit.Observation
		for i, truth := range []float64{-1, -.5, .25, .5, .75} {
			preference := schemas.First
			if truth < 0 {
				preference = schemas.Second
			}
			in = append(in, audit.Observation{
				Key: fmt.Sprint(i), Aspect: "pick", Order: schemas.AsIs, First: 2 + tt.said(truth), Second: 2, Truth: truth, Scored: true,
				Preference: preference, FactSource: schemas.FactHuman,
			})
		}
		a := summarise(t, in).Aspects[0]
		if diff := a.Correlation - tt.want; diff > 1e-9 || diff < -1e-9 || a.Scored != 5 {
			t.Errorf("%s: %v of %d, want %v", tt.name, a.Correlation, a.Scored, tt.want)
		}
	}
}
