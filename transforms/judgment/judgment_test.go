package judgment_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	"github.com/google/go-cmp/cmp"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/judgment"
	"github.com/promptmill/promptmill/transforms/ledger"
	"github.com/promptmill/promptmill/transforms/teacher"
	"github.com/promptmill/promptmill/transforms/transformtest"
)

func TestMain(m *testing.M) { ptest.Main(m) }

// examiner finds the answer about the pictures that it is shown better, or does what the prompt's last word says.
type examiner struct{}

// calls counts what the examiner and the critic are asked.
var calls atomic.Int64

func (examiner) Info() model.Info { return model.Info{Name: "examiner", Weights: "examiner"} }

func (examiner) Chat(_ context.Context, req model.ChatRequest) (model.ChatResponse, error) {
	calls.Add(1)
	parts := req.Messages[0].Parts
	text := parts[4].Text
	a, b := strings.Index(text, "about "+parts[1].Picture.SHA256), strings.Index(text, "\nAnswer B:")
	better, worse := 5, 1
	if a > b {
		better, worse = worse, better
	}
	_, script, _ := strings.Cut(text, "Text: ")
	script, _, _ = strings.Cut(script, "\n")
	answer := model.Answer{Finish: model.FinishStop}
	switch script[strings.LastIndexByte(script, ' ')+1:] {
	case "worse":
		better, worse = worse, better
	case "equal":
		better = worse
	case "cut":
		answer.Finish = model.FinishLength
	case "down":
		return model.ChatResponse{}, fmt.Errorf("503: %w", model.ErrUnavailable)
	}
	answer.Text = fmt.Sprintf("Output for Answer A:\nScore: %d\nExplanation: so.\nOutput for Answer B:\nScore: %d\nExplanation: so.", better, worse)
	if strings.HasSuffix(script, " refusal") {
		answer.Text = "I'm sorry, I can't."
	}
	return model.ChatResponse{Answers: []model.Answer{answer}, Usage: model.Usage{Calls: 1}}, nil
}

func init() {
	transformtest.Register[judgment.Item]()
	model.Register("test-examiner", model.Backend{Chat: func(context.Context, model.Spec) (model.Chat, error) { return examiner{}, nil }})
}

func item(n int, prompt string) teacher.Item {
	sha := func(s string) string { return schemas.PromptID(s) + schemas.PromptID(s+"!") }
	one, two := sha(fmt.Sprint(n, "one")), sha(fmt.Sprint(n, "two"))
	messages := []schemas.Message{{Role: "user", Content: "which?"}, {Role: "assistant", Content: "about " + one}}
	return teacher.Item{
		ID: schemas.VisionID(schemas.TaskEvaluation, messages, one, two), Group: schemas.PromptID(prompt), FactID: fmt.Sprint("fact", n),
		Source: "test", Aspect: schemas.Pick, Preference: schemas.First, FactSource: schemas.FactHuman, Messages: messages,
		Order: schemas.AsIs, Score1: 4, Score2: float64(n % 4), Prompt: prompt, Teacher: "t",
		Image1: schemas.ImageRef{SHA256: one, Width: 8, Height: 8}, Image2: schemas.ImageRef{SHA256: two, Width: 8, Height: 8},
	}
}

func config(t testing.TB) judgment.Config {
	cfg := judgment.DefaultConfig()
	cfg.Model, cfg.Cache, cfg.Seed = model.Spec{Backend: "test-examiner"}, transformtest.Cache(t), 3
	return cfg
}

func run(cfg judgment.Config, in []judgment.Pair) (transformtest.Rows[judgment.Item], error) {
	return transformtest.Run[judgment.Item](judgment.Score, cfg, in)
}

func everyPair() (pairs []judgment.Pair) {
	for i, script := range []string{"right", "right", "right", "right", "right", "right", "worse", "equal", "cut", "down", "refusal"} {
		pairs = append(pairs, judgment.Pair{Standard: item(i, fmt.Sprint(i, " ", script)), Irrelevant: item(i+100, fmt.Sprint("other ", i))})
	}
	return pairs
}

func TestDeterminism(t *testing.T) {
	transformtest.Deterministic(t, run, config(t), everyPair(), &calls, 1) // who is down
}

func TestScore(t *testing.T) {
	got, err := run(config(t), everyPair())
	if err != nil {
		t.Fatal(err)
	}
	if err := ledger.Check(got.Counts, nil, []string{"judgment.in = 11", "judgment.out = 6", "judgment.filtered = 2", "judgment.dead = 3"}); err != nil {
		t.Error(err)
	}
	for _, want := range []schemas.Count{
		{Stage: judgment.Stage, Outcome: schemas.Filtered, Reason: judgment.NotBetter, N: 1},
		{Stage: judgment.Stage, Outcome: schemas.Filtered, Reason: judgment.Equal, N: 1},
		{Stage: judgment.Stage, Outcome: schemas.Dead, Reason: "truncated", N: 1},
		{Stage: judgment.Stage, Outcome: schemas.Dead, Reason: "unavailable", N: 1},
		{Stage: judgment.Stage, Outcome: schemas.Dead, Reason: "refusal", N: 1},
	} {
		if !slices.Contains(got.Counts, want) {
			t.Errorf("no %+v in %+v", want, got.Counts)
		}
	}
	places := map[string]int{}
	for _, it := range got.Rows {
		places[it.Standard]++
		if err := it.Validate(); err != nil {
			t.Error(err)
		}
		question := it.Messages[len(it.Messages)-2].Content
		standardFirst := strings.Index(question, "about "+it.Image1.SHA256) < strings.Index(question, "\nAnswer B:")
		if it.StandardScore != 5 || it.IrrelevantScore != 1 || standardFirst != (it.Standard == schemas.AnswerA) {
			t.Errorf("item %+v", it)
		}
	}
	if places[schemas.AnswerA] == 0 || places[schemas.AnswerB] == 0 {
		t.Errorf("the standard answer stands at %v", places)
	}
	for _, r := range got.Rejected {
		if !strings.Contains(r.Payload, r.Key) || !strings.Contains(r.Payload, "irrelevant_id") {
			t.Errorf("dead letter %+v", r)
		}
	}
}

func TestPartners(t *testing.T) {
	var items []teacher.Item
	for i := range 40 {
		items = append(items, item(i, fmt.Sprint("prompt ", i%12)))
	}
	items[7].Image2 = items[9].Image1 // one picture in two pairs
	want := judgment.Partners(3, slices.Clone(items))
	if len(want) != len(items) {
		t.Errorf("%d pairs of %d items", len(want), len(items))
	}
	partners := map[string]bool{}
	for _, p := range want {
		partners[p.Irrelevant.ID] = true
		for _, sha := range []string{p.Standard.Image1.SHA256, p.Standard.Image2.SHA256} {
			if sha == p.Irrelevant.Image1.SHA256 || sha == p.Irrelevant.Image2.SHA256 || p.Standard.Group == p.Irrelevant.Group {
				t.Errorf("%s and %s have a picture or prompt in common", p.Standard.FactID, p.Irrelevant.FactID)
			}
		}
	}
	if len(partners) < len(items)*3/4 {
		t.Errorf("only %d different partners", len(partners))
	}
	slices.Reverse(items)
	if d := cmp.Diff(want, judgment.Partners(3, items)); d != "" {
		t.Errorf("the order of the items matters: %s", d)
	}
	if got := judgment.Partners(3, items[:1]); len(got) != 0 {
		t.Errorf("a lonely item has the partner %+v", got)
	}
}

// What Level keeps is as many as asked for, first by rank in each cell, and no cell stands more than one above a
// cell that was cut.
func TestLevel(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var places []judgment.Place
		for i := range 1 + rng.IntN(80) {
			cell := judgment.Cell{Score1: float64(min(rng.IntN(4), rng.IntN(4))), Score2: float64(rng.IntN(2))}
			places = append(places, judgment.Place{Rank: rng.Uint64N(50), ID: fmt.Sprint(i), Cell: cell})
		}
		n := rng.IntN(90)
		last := judgment.Level(slices.Clone(places), n)
		kept, cut, total := map[judgment.Cell]int{}, map[judgment.Cell]int{}, 0
		for _, p := range places {
			if l, ok := last[p.Cell]; ok && p.Compare(l) <= 0 {
				kept[p.Cell]++
				total++
			} else {
				cut[p.Cell]++
			}
		}
		if total != min(n, len(places)) {
			t.Fatalf("%d kept of %d, asked for %d", total, len(places), n)
		}
		for a := range cut {
			for b, k := range kept {
				if k > kept[a]+1 {
					t.Fatalf("cell %v has %d, but %v was cut to %d", b, k, a, kept[a])
				}
			}
		}
		rng.Shuffle(len(places), func(i, j int) { places[i], places[j] = places[j], places[i] })
		if d := cmp.Diff(last, judgment.Level(places, n)); d != "" {
			t.Fatalf("the order of the places matters: %s", d)
		}
	}
}

func TestConfig(t *testing.T) {
	cfg := config(t)
	transformtest.RoundTrip(t, cfg)
	for _, tt := range []struct {
		change func(*judgment.Config)
		fault  string
	}{
		{func(c *judgment.Config) { c.Model = model.Spec{} }, "judgment.model.backend: empty"},
		{func(c *judgment.Config) { c.Cache = "" }, "judgment.cache: empty"},
		{func(c *judgment.Config) { c.Aspects = nil }, "judgment.aspects: none"},
		{func(c *judgment.Config) { c.Aspects = []string{"depth"} }, `judgment.aspects[0]: there is no "depth"`},
		{func(c *judgment.Config) { c.Stored.JudgmentPick.User = "{answer_a}" }, "judgment.stored.judgment_pick.user: lacks {answer_b}"},
		{func(c *judgment.Config) { c.Temperature = -1 }, "judgment.temperature: -1"},
		{func(c *judgment.Config) { c.TopP = 0 }, "judgment.top_p: 0"},
		{func(c *judgment.Config) { c.MaxTokens = 0 }, "judgment.max_tokens: 0"},
		{func(c *judgment.Config) { c.Retries = 11 }, "judgment.retries: 11"},
		{func(c *judgment.Config) { c.InFlight = 0 }, "judgment.in_flight: 0"},
	} {
		bad := cfg
		tt.change(&bad)
		if err := bad.Validate(); err == nil || !strings.HasPrefix(err.Error(), tt.fault) {
			t.Errorf("error %v, want %s", err, tt.fault)
		}
	}
}
