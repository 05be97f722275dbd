package teacher_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	"github.com/google/go-cmp/cmp"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/judge"
	"github.com/promptmill/promptmill/transforms/ledger"
	"github.com/promptmill/promptmill/transforms/teacher"
	"github.com/promptmill/promptmill/transforms/transformtest"
)

func TestMain(m *testing.M) { ptest.Main(m) }

// pupil answers by a script that the last word of the prompt names. It reads the cue, and knows the pictures'
// order by their digests, which begin with 1 for First and 2 for Second.
type pupil struct{ calls atomic.Int64 }

var thePupil pupil

func init() {
	transformtest.Register[teacher.Item]()
	model.Register("test-teacher", model.Backend{Chat: func(context.Context, model.Spec) (model.Chat, error) { return &thePupil, nil }})
}

func (*pupil) Info() model.Info { return model.Info{Name: "test teacher", Weights: "teacher-weights"} }

func (p *pupil) Chat(_ context.Context, req model.ChatRequest) (model.ChatResponse, error) {
	p.calls.Add(1)
	parts := req.Messages[len(req.Messages)-1].Parts
	text := parts[4].Text
	swapped := strings.HasPrefix(parts[1].Picture.SHA256, "2")
	right := scores(1, 4)
	switch {
	case strings.Contains(text, "is Image 1."):
		right = scores(4, 1)
	case !strings.Contains(text, "is Image 2."): // no cue: First is the better one
		if !swapped {
			right = scores(4, 1)
		}
	}
	_, line, _ := strings.Cut(text, "Text: ")
	line, _, _ = strings.Cut(line, "\n")
	script := line[strings.LastIndexByte(line, ' ')+1:]
	a := model.Answer{Text: right, Finish: model.FinishStop}
	switch script {
	case "right", "":
	case "wrong":
		a.Text = turned(right)
	case "chance": // right with probability q
		if rand.New(rand.NewPCG(uint64(req.Seed), 7)).Float64() >= q {
			a.Text = turned(right)
		}
	case "equal":
		a.Text = scores(3, 3)
	case "leak":
		a.Text += " As the reference says."
	case "quote":
		a.Text += " People who had typed the text chose the other."
	case "shade":
		a.Text += " There is a hint of blue."
	case "refusal":
		a.Text = "I'm sorry, I can't judge pictures."
	case "echo":
		a.Text = scores("<a number from 0 to 5>", "<a number from 0 to 5>")
	case "cut":
		a.Finish = model.FinishLength
	case "one":
		a.Text = "Output for Image 1:\nScore: 3"
	case "swapped": // the second output first
		first, second, _ := strings.Cut(right, "\nOutput for Image 2")
		a.Text = "Output for Image 2" + second + "\n" + first
	case "first": // always prefers what it sees first
		a.Text = scores(4, 1)
	case "down":
		return model.ChatResponse{}, fmt.Errorf("503: %w", model.ErrUnavailable)
	case "broken":
		return model.ChatResponse{}, fmt.Errorf("401: %w", model.ErrConfig)
	}
	return model.ChatResponse{Answers: []model.Answer{a}, Usage: model.Usage{Calls: 1}}, nil
}

const (
	runSeed = 5
	q       = .6
)

func order(swapped bool) string {
	if swapped {
		return schemas.Swapped
	}
	return schemas.AsIs
}

func scores(first, second any) string {
	return fmt.Sprintf("Output for Image 1:\nScore: %v\nExplanation: so.\nOutput for Image 2:\nScore: %v\nExplanation: so.", first, second)
}

func turned(answer string) string {
	return strings.NewReplacer("Score: 4", "Score: 1", "Score: 1", "Score: 4").Replace(answer)
}

func fact(prompt, preference string) schemas.Fact {
	sha := func(s string) string { return schemas.PromptID(s) + schemas.PromptID(s+"!") }
	f := schemas.Fact{
		Source: "test", Aspect: schemas.Pick, Prompt: prompt, FirstID: prompt + "/1", SecondID: prompt + "/2",
		First:      schemas.ImageRef{SHA256: "1" + sha(prompt)[1:], Width: 8, Height: 8},
		Second:     schemas.ImageRef{SHA256: "2" + sha(prompt)[1:], Width: 8, Height: 8},
		Preference: preference, FactSource: schemas.FactHuman,
	}
	if preference == schemas.NoPreference {
		f.FactSource = schemas.FactNone
	}
	f.ID = schemas.FactID(f.Aspect, f.Prompt, f.FirstID, f.SecondID)
	f.Group = schemas.GroupID(f.Prompt, f.FirstID, f.SecondID)
	return f
}

func config(t testing.TB) teacher.Config {
	cfg := teacher.DefaultConfig()
	cfg.Model, cfg.Cache, cfg.Seed = model.Spec{Backend: "test-teacher"}, transformtest.Cache(t), runSeed
	cfg.BothOrders = 0
	return cfg
}

type rows = transformtest.Rows[teacher.Item]

func run(t testing.TB, cfg teacher.Config, in ...schemas.Fact) (rows, error) {
	t.Helper()
	got, err := transformtest.Run[teacher.Item](teacher.Teach, cfg, in)
	if err != nil {
		return got, err
	}
	if err := ledger.Check(got.Counts, nil, nil); err != nil {
		t.Error(err)
	}
	for _, it := range got.Rows {
		if err := it.Validate(); err != nil {
			t.Error(err)
		}
		for _, m := range it.Messages {
			if strings.Contains(m.Content, "Reference:") {
				t.Errorf("item %s holds the cue: %q", it.ID, m.Content)
			}
		}
	}
	return got, nil
}

func TestFates(t *testing.T) {
	for _, tt := range []struct {
		script, preference string
		outcome, reason    string
		asked              int // answers with a cue
	}{
		{"right", schemas.First, schemas.Out, "", 1},
		{"right", schemas.Second, schemas.Out, "", 1},
		{"swapped", schemas.Second, schemas.Out, "", 1},
		{"shade", schemas.First, schemas.Out, "", 1},
		{"wrong", schemas.First, schemas.Filtered, teacher.Contradicts, 3},
		{"equal", schemas.Second, schemas.Filtered, teacher.Equal, 3},
		{"leak", schemas.First, schemas.Filtered, teacher.Leak, 3},
		{"quote", schemas.First, schemas.Filtered, teacher.Leak, 3},
		{"right", schemas.Tie, schemas.Filtered, teacher.Tie, 0},
		{"refusal", schemas.First, schemas.Dead, "refusal", 3},
		{"echo", schemas.First, schemas.Dead, "rubric_echo", 3},
		{"cut", schemas.First, schemas.Dead, "truncated", 3},
		{"one", schemas.Second, schemas.Dead, "missing_second", 3},
		{"down", schemas.Second, schemas.Dead, "unavailable", 1},
		{"right", schemas.NoPreference, schemas.Out, "", 0},
		{"first", schemas.NoPreference, schemas.Filtered, teacher.Disagrees, 0},
		{"equal", schemas.NoPreference, schemas.Filtered, teacher.Equal, 0},
		{"one", schemas.NoPreference, schemas.Dead, "missing_second", 0},
	} {
		t.Run(tt.script+" "+tt.preference, func(t *testing.T) {
			f := fact("a cat "+tt.script, tt.preference)
			got, err := run(t, config(t), f)
			if err != nil {
				t.Fatal(err)
			}
			want := schemas.Count{Stage: teacher.Stage, Outcome: tt.outcome, Reason: tt.reason, N: 1}
			if !slices.Contains(got.Counts, want) {
				t.Errorf("no %+v in %+v", want, got.Counts)
			}
			if n := ledger.Total(got.Counts, teacher.StageAnswers, schemas.In); n != int64(tt.asked) {
				t.Errorf("%d answers asked for, want %d", n, tt.asked)
			}
			if (len(got.Rows) == 1) != (tt.outcome == schemas.Out) || (len(got.Rejected) == 1) != (tt.outcome == schemas.Dead) {
				t.Errorf("%d items, %d dead letters", len(got.Rows), len(got.Rejected))
			}
			for _, it := range got.Rows {
				if it.FactID != f.ID || it.Preference != tt.preference || it.FactSource != f.FactSource || it.Prompt != f.Prompt {
					t.Errorf("item %+v", it)
				}
				if swapped := strings.HasPrefix(it.Image1.SHA256, "2"); it.Order != order(swapped) {
					t.Errorf("order %s, Image 1 is %s", it.Order, it.Image1.SHA256)
				}
			}
			for _, r := range got.Rejected {
				if r.Key != f.ID || r.Reason != tt.reason || !strings.Contains(r.Payload, f.FirstID) {
					t.Errorf("dead letter %+v", r)
				}
			}
		})
	}
}

// A teacher that is right with probability q: the acceptance rate is q, and no row contradicts its fact.
func TestAcceptanceRate(t *testing.T) {
	var in []schemas.Fact
	preference := map[string]string{}
	for i := range 600 {
		f := fact(fmt.Sprintf("picture %d chance", i), []string{schemas.First, schemas.Second}[i%2])
		in, preference[f.ID] = append(in, f), f.Preference
	}
	got, err := run(t, config(t), in...)
	if err != nil {
		t.Fatal(err)
	}
	r := teacher.Summarise(got.Counts)
	if len(r.Acceptance) != 2 {
		t.Fatalf("acceptance %+v, want two orders", r.Acceptance)
	}
	var asked, kept int64
	for _, a := range r.Acceptance {
		// 4 standard deviations: the draws are fixed, so this never fails by chance once it passes.
		if off := math.Abs(a.Rate - q); off > 4*math.Sqrt(q*(1-q)/float64(a.Asked)) {
			t.Errorf("%+v is not %v", a, q)
		}
		asked, kept = asked+a.Asked, kept+a.Kept
	}
	if kept != int64(len(got.Rows)) || asked-kept != r.Left[teacher.Contradicts] {
		t.Errorf("%d of %d kept, %d items, %+v left", kept, asked, len(got.Rows), r.Left)
	}
	// Of the facts, all but (1-q)^3 are kept.
	want := 1 - (1-q)*(1-q)*(1-q)
	if rate := float64(len(got.Rows)) / 600; math.Abs(rate-want) > 4*math.Sqrt(want*(1-want)/600) {
		t.Errorf("%v of the facts are kept, want %v", rate, want)
	}
	for _, it := range got.Rows {
		first := it.Score1 > it.Score2
		if it.Order == schemas.Swapped {
			first = it.Score2 > it.Score1
		}
		if it.Score1 == it.Score2 || first != (preference[it.FactID] == schemas.First) {
			t.Errorf("item %+v contradicts the fact: %s", it, preference[it.FactID])
		}
	}
}

func TestBias(t *testing.T) {
	cfg := config(t)
	cfg.BothOrders = 1
	cfg.Retries = 0
	got, err := run(t, cfg, fact("a right", schemas.First), fact("b right", schemas.Second), fact("c first", schemas.First),
		fact("d equal", schemas.First), fact("e one", schemas.First), fact("f first", schemas.NoPreference))
	if err != nil {
		t.Fatal(err)
	}
	want := []teacher.Bias{{Aspect: schemas.Pick, Source: "test", Orders: judge.Orders{Same: 2, Image1: 2, Undecided: 1, Unread: 1, FlipRate: .5}}}
	if d := cmp.Diff(want, teacher.Summarise(got.Counts).Bias); d != "" {
		t.Error(d)
	}
}

func TestDeterminism(t *testing.T) {
	var in []schemas.Fact
	for i := range 30 {
		in = append(in, fact(fmt.Sprintf("rerun %d chance", i), schemas.First))
	}
	checked := func(cfg teacher.Config, in []schemas.Fact) (rows, error) { return run(t, cfg, in...) }
	transformtest.Deterministic(t, checked, config(t), in, &thePupil.calls, 0)
}

func TestBrokenTeacherFailsTheBundle(t *testing.T) {
	if _, err := run(t, config(t), fact("a broken", schemas.First)); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("error %v", err)
	}
}

func TestConfig(t *testing.T) {
	cfg := config(t)
	cfg.BothOrders = .1
	transformtest.RoundTrip(t, cfg)
	for _, tt := range []struct {
		change func(*teacher.Config)
		fault  string
	}{
		{func(c *teacher.Config) { c.Model = model.Spec{} }, "teacher.model.backend: empty"},
		{func(c *teacher.Config) { c.Cache = "" }, "teacher.cache: empty"},
		{func(c *teacher.Config) { c.Aspects = nil }, "teacher.aspects: none"},
		{func(c *teacher.Config) { c.Aspects = []string{"depth"} }, `teacher.aspects[0]: there is no "depth"`},
		{func(c *teacher.Config) { c.Aspects = []string{"pick", "pick"} }, `teacher.aspects[1]: "pick" stands there twice`},
		{func(c *teacher.Config) { c.Questions.TeacherPick.User = "no" }, "teacher.questions.teacher_pick.user: lacks {better}"},
		{func(c *teacher.Config) { c.Temperature = 3 }, "teacher.temperature: 3 is not in 0..2"},
		{func(c *teacher.Config) { c.Temperature = 0 }, "teacher.temperature: 0 gives the same answer 2 times more"},
		{func(c *teacher.Config) { c.TopP = 0 }, "teacher.top_p: 0"},
		{func(c *teacher.Config) { c.MaxTokens = 0 }, "teacher.max_tokens: 0"},
		{func(c *teacher.Config) { c.Retries = -1 }, "teacher.retries: -1"},
		{func(c *teacher.Config) { c.BothOrders = 2 }, "teacher.both_orders: 2"},
		{func(c *teacher.Config) { c.InFlight = 0 }, "teacher.in_flight: 0"},
	} {
		bad := cfg
		tt.change(&bad)
		if err := bad.Validate(); err == nil || !strings.HasPrefix(err.Error(), tt.fault) {
			t.Errorf("error %v, want %s", err, tt.fault)
		}
	}
}
