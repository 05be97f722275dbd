package metajudge_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	"github.com/google/go-cmp/cmp"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/transforms/ledger"
	"github.com/promptmill/promptmill/transforms/metajudge"
	"github.com/promptmill/promptmill/transforms/template"
	"github.com/promptmill/promptmill/transforms/transformtest"
)

func TestMain(m *testing.M) { ptest.Main(m) }

func init() {
	transformtest.Register[schemas.VisionPreferencePair]()
	model.Register("test-critic", model.Backend{Chat: func(context.Context, model.Spec) (model.Chat, error) { return critic{}, nil }})
}

// critic gives an answer "worth N, favour M" the score N, and M more where it is Answer A. An answer "worth
// WORD" makes it fail as the word says, one "worth WORD, favour 0" only where it is Answer A.
type critic struct{}

var (
	// asked has the questions that were asked before.
	asked sync.Map
	calls atomic.Int64
)

func (critic) Info() model.Info { return model.Info{Name: "critic", Weights: "critic-weights"} }

func (critic) Chat(ctx context.Context, req model.ChatRequest) (model.ChatResponse, error) {
	calls.Add(1)
	for i, want := range map[int]bool{1: true, 3: false} { // Image 1 is the raw prompt's
		data, err := req.Messages[0].Parts[i].Picture.Bytes(ctx)
		if err != nil {
			return model.ChatResponse{}, err
		}
		if img, err := png.Decode(bytes.NewReader(data)); err != nil || (img.At(0, 0) == color.Gray{Y: 0}) != want {
			return model.ChatResponse{}, fmt.Errorf("part %d is not the picture it should be: %w", i, err)
		}
	}
	text := req.Messages[0].Parts[4].Text
	_, again := asked.LoadOrStore(text, true)
	_, text, okA := strings.Cut(text, "Answer A:\nworth ")
	a, text, _ := strings.Cut(text, "\n")
	_, text, okB := strings.Cut(text, "Answer B:\nworth ")
	b, _, _ := strings.Cut(text, "\n")
	if !okA || !okB || !strings.HasPrefix(req.Template, "paper/judgment_") {
		return model.ChatResponse{}, fmt.Errorf("compares %q with %q under %s", a, b, req.Template)
	}
	resp := model.ChatResponse{Usage: model.Usage{Calls: 1}}
	scores := [2]float64{3, 3}
	for i, said := range []string{a, b} {
		worth, favour, favoured := strings.Cut(said, ", favour ")
		score, err := strconv.ParseFloat(worth, 64)
		if err == nil {
			if scores[i] = score; favoured && i == 0 {
				more, _ := strconv.ParseFloat(favour, 64)
				scores[i] += more
			}
			continue
		}
		switch {
		case favoured && i == 1, worth == "mends" && again:
		case worth == "down":
			return resp, fmt.Errorf("503: %w", model.ErrUnavailable)
		case worth == "forbidden":
			return resp, fmt.Errorf("401: %w", model.ErrConfig)
		default:
			resp.Answers = []model.Answer{{Text: "Both are good.", Finish: model.FinishStop}}
			return resp, nil
		}
	}
	answer := fmt.Sprintf("Output for Answer A:\nScore: %v\nExplanation: so.\nOutput for Answer B:\nScore: %v\nExplanation: so.", scores[0], scores[1])
	resp.Answers = []model.Answer{{Text: answer, Finish: model.FinishStop}}
	return resp, nil
}

// A world is a store of pictures.
type world struct {
	testing.TB
	cache string
	store store.Store
}

// newWorld is one in which nothing was asked.
func newWorld(t testing.TB) world {
	asked.Clear()
	return openWorld(t, transformtest.Cache(t))
}

func openWorld(t testing.TB, cache string) world {
	st, err := store.Open(t.Context(), cache)
	if err != nil {
		t.Fatal(err)
	}
	return world{t, cache, st}
}

// picture stores a picture that no other number has.
func (w world) picture(n int) schemas.ImageRef {
	w.Helper()
	img := image.NewGray(image.Rect(0, 0, 8, 8))
	img.Pix[0], img.Pix[1] = uint8(n), uint8(n>>8)
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		w.Fatal(err)
	}
	sha, err := store.PutBlob(w.Context(), w.store, b.Bytes())
	if err != nil {
		w.Fatal(err)
	}
	return schemas.ImageRef{SHA256: sha, Width: 8, Height: 8}
}

// slate has candidates that were judged on every aspect, each with these answers.
func (w world) slate(raw string, candidates ...[]string) schemas.Slate {
	w.Helper()
	s := schemas.Slate{Prompt: schemas.Prompt{ID: schemas.PromptID(raw), Text: raw}, Raw: w.picture(0)}
	for i, answers := range candidates {
		text := fmt.Sprint(raw, ", version ", i)
		c := schemas.Candidate{ID: schemas.CandidateID(s.Prompt.ID, text), PromptID: s.Prompt.ID, Index: int32(i), Text: text, Policy: "policy-weights"}
		if answers != nil {
			c.Image = w.picture(i + 1)
		}
		s.Candidates = append(s.Candidates, c)
		for _, aspect := range []string{schemas.Aesthetic, schemas.Pick, schemas.Alignment} {
			for n, answer := range answers {
				s.Judgments = append(s.Judgments, schemas.Judgment{
					ID: schemas.JudgmentID(s.Prompt.ID, c.ID, aspect, int32(n)), PromptID: s.Prompt.ID, CandidateID: c.ID, Aspect: aspect,
					Sample: int32(n), Answer: answer, Judge: "judge-weights", Image1: s.Raw.SHA256, Image2: c.Image.SHA256,
				})
			}
		}
	}
	return s
}

func (w world) config() metajudge.Config {
	cfg := metajudge.DefaultConfig()
	cfg.Model, cfg.Cache, cfg.Seed = model.Spec{Backend: "test-critic"}, w.cache, 3
	return cfg
}

type rows = transformtest.Rows[schemas.VisionPreferencePair]

func run(cfg metajudge.Config, in []schemas.Slate) (rows, error) {
	return transformtest.Run[schemas.VisionPreferencePair](metajudge.Pairs, cfg, in)
}

func count(counts []schemas.Count, stage, outcome, reason string) int64 {
	for _, c := range counts {
		if c.Stage == stage && c.Outcome == outcome && c.Reason == reason {
			return c.N
		}
	}
	return 0
}

// answers makes the judge's samples of "worth" lines; equal lines are still different texts.
func answers(worth ...string) (out []string) {
	for i, s := range worth {
		out = append(out, fmt.Sprintf("worth %s\nOutput for Image 1: %d", s, i))
	}
	return out
}

func TestPairs(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct {
		name    string
		answers []string
		pair    string // samples and scores of chosen and rejected
		calls   int64
		flipped int64
		ledger  []string
		dead    []string // reason and attempts, sorted
	}{
		{"best and worst", answers("3", "5", "1"), "1 over 2: 5 1", 6, 0, []string{"metajudge.out = 6", "meta_pair.out = 1"}, nil},
		{"two answers", answers("2", "4"), "1 over 0: 4 2", 2, 0, []string{"metajudge.out = 2", "meta_pair.out = 1"}, nil},
		{"the first of equals", answers("2", "4", "4", "2"), "1 over 0: 4 2", 12, 0, []string{"metajudge.out = 12"}, nil},
		{"decimals", answers("4.001", "4"), "0 over 1: 4.001 4", 2, 0, nil, nil},
		{"equal", answers("4", "4", "4"), "", 6, 0, []string{"meta_pair.filtered = 1", "meta_pair.in = 1"}, nil},
		// As A 5 to 3, as B 3 to 5: only the place differs.
		{"a place is no merit", answers("3, favour 2", "3, favour 2"), "", 2, 1, []string{"meta_pair.filtered = 1"}, nil},
		{"better in spite of the place", answers("3, favour 2", "4, favour 1"), "1 over 0: 4.5 4", 2, 1, nil, nil},
		{"one text", []string{"worth 3\n", "worth 3\n", "worth 3\n"}, "", 0, 0, []string{"meta_choice.filtered = 1", "metajudge.in = 0"}, nil},
		{"two texts of three samples", []string{"worth 3\n", "worth 4\n", "worth 3\n"}, "1 over 0: 4 3", 2, 0, nil, nil},
		{"one sample", answers("3"), "", 0, 0, []string{"meta_choice.filtered = 1"}, nil},
		{"asked again", answers("mends", "5"), "1 over 0: 5 3", 4, 0, []string{"metajudge.out = 2"}, nil},
		{
			// Two comparisons lack one order, so only the third counts.
			"one order unread", answers("4", "2", "cut, favour 0"), "0 over 1: 4 2", 4 + 2*3, 0,
			[]string{"metajudge.in = 6", "metajudge.out = 4"},
			[]string{"no_score 3", "no_score 3"},
		},
		{
			"the other order unread", answers("cut, favour 0", "4", "2"), "1 over 2: 4 2", 4 + 2*3, 0,
			[]string{"metajudge.in = 6", "metajudge.out = 4"},
			[]string{"no_score 3", "no_score 3"},
		},
		{
			"nothing read", answers("cut", "5"), "", 2 * 3, 0,
			[]string{"metajudge.dead = 2", "meta_pair.dead = 1"},
			[]string{"no_score 3", "no_score 3", "too_few_verdicts 1"},
		},
		{
			"no answer", answers("down", "5"), "", 2, 0,
			[]string{"metajudge.dead = 2", "meta_pair.dead = 1"},
			[]string{"too_few_verdicts 1", "unavailable 1", "unavailable 1"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := w.slate(tt.name, tt.answers, nil)
			slices.Reverse(in.Judgments) // their order does not matter
			cfg := w.config()
			cfg.Aspects = []string{schemas.Aesthetic}
			got, err := run(cfg, []schemas.Slate{in})
			if err != nil {
				t.Fatal(err)
			}
			equations := append(tt.ledger, "meta_choice.in = 1", "meta_pair.in = meta_choice.out", fmt.Sprintf("meta_pair.out = %d", len(got.Rows)), fmt.Sprintf("*.dead = %d", len(got.Rejected)))
			if err := ledger.Check(got.Counts, nil, equations); err != nil {
				t.Error(err)
			}
			if n := count(got.Counts, metajudge.Stage, schemas.Used, "calls"); n != tt.calls {
				t.Errorf("%d calls, want %d", n, tt.calls)
			}
			if n := count(got.Counts, metajudge.StagePairs, schemas.Used, metajudge.Flipped); n != tt.flipped {
				t.Errorf("%d flipped, want %d", n, tt.flipped)
			}
			pair := ""
			for _, p := range got.Rows {
				pair = w.check(t, in, p)
			}
			if pair != tt.pair || len(got.Rows) > 1 {
				t.Errorf("pair %q of %d, want %q", pair, len(got.Rows), tt.pair)
			}
			var dead []string
			for _, r := range got.Rejected {
				dead = append(dead, fmt.Sprint(r.Reason, " ", r.Attempts))
				var payload schemas.Prompt
				if err := json.Unmarshal([]byte(r.Payload), &payload); err != nil || payload != in.Prompt || !strings.HasPrefix(r.Key, in.Candidates[0].ID+"/aesthetic") {
					t.Errorf("dead letter %+v cannot be run again: %v", r, err)
				}
			}
			slices.Sort(dead)
			if d := cmp.Diff(tt.dead, dead); d != "" {
				t.Error(d)
			}
		})
	}
}

// check looks at all of a pair and says whose answers with which scores it has.
func (w world) check(t *testing.T, in schemas.Slate, p schemas.VisionPreferencePair) string {
	t.Helper()
	if err := p.Validate(); err != nil {
		t.Error(err)
	}
	find := func(id string) schemas.Judgment {
		i := slices.IndexFunc(in.Judgments, func(j schemas.Judgment) bool { return j.ID == id })
		if i < 0 {
			t.Fatalf("no judgment %s", id)
		}
		return in.Judgments[i]
	}
	chosen, rejected := find(p.ChosenID), find(p.RejectedID)
	want := schemas.VisionPreferencePair{
		ID: p.ID, Kind: "judgment", PromptID: in.Prompt.ID, Prompt: template.Paper().Aesthetic.Messages(in.Prompt.Text),
		Chosen:   []schemas.Message{{Role: "assistant", Content: chosen.Answer}},
		Rejected: []schemas.Message{{Role: "assistant", Content: rejected.Answer}},
		ChosenID: p.ChosenID, RejectedID: p.RejectedID, ChosenScore: p.ChosenScore, RejectedScore: p.RejectedScore, Margin: p.Margin,
		Policy: "judge-weights", Judge: "critic-weights",
	}
	for _, sha := range []string{in.Raw.SHA256, in.Candidates[0].Image.SHA256} {
		data, err := store.GetBlob(t.Context(), w.store, sha)
		if err != nil {
			t.Fatal(err)
		}
		want.Images = append(want.Images, schemas.Image{Bytes: data, Path: sha + ".png"})
	}
	if d := cmp.Diff(want, p); d != "" {
		t.Error(d)
	}
	return fmt.Sprintf("%d over %d: %v %v", chosen.Sample, rejected.Sample, p.ChosenScore, p.RejectedScore)
}

func TestDeterminism(t *testing.T) {
	w := newWorld(t)
	var in []schemas.Slate
	for i, said := range [][]string{answers("3", "5", "1"), answers("4", "4"), answers("3, favour 2", "4, favour 1"), answers("cut", "5"), answers("down", "5"), nil} {
		in = append(in, w.slate(fmt.Sprint("prompt ", i), said, answers("2", "4")))
	}
	// Both orders on both aspects are asked about again with the one who is down.
	transformtest.Deterministic(t, func(cfg metajudge.Config, in []schemas.Slate) (rows, error) {
		for n := range 3 {
			openWorld(t, cfg.Cache).picture(n)
		}
		return run(cfg, in)
	}, w.config(), in, &calls, 4)
}

func TestExtraAttempts(t *testing.T) {
	w := newWorld(t)
	cfg := w.config()
	cfg.Retries, cfg.Aspects = 0, []string{schemas.Pick}
	before, after := transformtest.ExtraAttempts(t, run, cfg, []schemas.Slate{w.slate("a stubborn cat", answers("mends", "5"))}, &calls, 2)
	if len(before.Rejected) != 3 || len(after.Rows) != 1 { // two verdicts and the pair
		t.Errorf("before %+v, after %+v", before, after)
	}
}

// A model that refuses its user is the world's fault, not a record's.
func TestForbidden(t *testing.T) {
	w := newWorld(t)
	if got, err := run(w.config(), []schemas.Slate{w.slate("a cat", answers("forbidden", "5"))}); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("error %v, rows %+v", err, got)
	}
}

// The choice takes about as many as asked for, of each aspect alike; more are more of the same; an answer that was
// paid for is not asked for again.
func TestChoice(t *testing.T) {
	w := newWorld(t)
	var in []schemas.Slate
	for i := range 60 {
		in = append(in, w.slate(fmt.Sprint("prompt ", i), answers("2", "4"), answers("5", "1"), answers("3", "4"), nil))
	}
	of := int64(60 * 3 * 2)
	before := map[string]bool{}
	for _, asked := range []int64{0, 40, 120, of} {
		cfg := w.config()
		cfg.Asked, cfg.Of = asked, of
		got, err := run(cfg, in)
		if err != nil {
			t.Fatal(err)
		}
		if err := ledger.Check(got.Counts, nil, []string{fmt.Sprintf("meta_choice.in = %d", of), "metajudge.in = 2*meta_choice.out"}); err != nil {
			t.Error(err)
		}
		n := float64(len(got.Rows))
		if math.Abs(n-float64(asked)) > 3*math.Sqrt(float64(asked)) || asked == of && n != float64(of) {
			t.Errorf("%v pairs, asked for %d", n, asked)
		}
		now, aspects, ids := map[string]bool{}, map[string]float64{}, map[string]bool{}
		for _, p := range got.Rows {
			now[p.ChosenID], ids[p.ID] = true, true
			aspects[p.Prompt[0].Content[:40]]++
		}
		for aspect, k := range aspects {
			if math.Abs(k-n/2) > 3*math.Sqrt(n) {
				t.Errorf("%v of %v pairs are of %q", k, n, aspect)
			}
		}
		for id := range before {
			if !now[id] {
				t.Errorf("%s is no longer among %d", id, asked)
			}
		}
		if len(ids) != len(got.Rows) || asked > 0 && len(aspects) != 2 {
			t.Errorf("%d ids of %d pairs, %d aspects", len(ids), len(got.Rows), len(aspects))
		}
		if hits := count(got.Counts, metajudge.Stage, schemas.Used, "cache_hits"); hits != int64(2*len(before)) {
			t.Errorf("%d answers from the log, want %d", hits, 2*len(before))
		}
		before = now
	}
}

func TestConfig(t *testing.T) {
	cfg := newWorld(t).config()
	cfg.Of, cfg.ExtraAttempts = 9, 1
	transformtest.RoundTrip(t, cfg)
	for _, tt := range []struct {
		change func(*metajudge.Config)
		fault  string
	}{
		{func(c *metajudge.Config) { c.Model = model.Spec{} }, "judgment_pairs.model.backend: empty"},
		{func(c *metajudge.Config) { c.Cache = "" }, "judgment_pairs.cache: empty"},
		{func(c *metajudge.Config) { c.Asked = -1 }, "judgment_pairs.asked: -1"},
		{func(c *metajudge.Config) { c.Of = -1 }, "judgment_pairs.of: -1"},
		{func(c *metajudge.Config) { c.Aspects = nil }, "judgment_pairs.aspects: none"},
		{func(c *metajudge.Config) { c.Aspects = []string{"depth"} }, `judgment_pairs.aspects[0]: there is no "depth"`},
		{func(c *metajudge.Config) { c.Aspects = []string{"pick", "pick"} }, `judgment_pairs.aspects[1]: "pick" stands there twice`},
		{func(c *metajudge.Config) { c.Templates.JudgmentPick.User = "{answer_a}" }, "judgment_pairs.templates.judgment_pick.user: lacks {answer_b}"},
		{func(c *metajudge.Config) { c.Temperature = -1 }, "judgment_pairs.temperature: -1"},
		{func(c *metajudge.Config) { c.Temperature = 0 }, "judgment_pairs.temperature: 0 gives the same answer 2 times more"},
		{func(c *metajudge.Config) { c.TopP = 0 }, "judgment_pairs.top_p: 0"},
		{func(c *metajudge.Config) { c.MaxTokens = 0 }, "judgment_pairs.max_tokens: 0"},
		{func(c *metajudge.Config) { c.Retries = 11 }, "judgment_pairs.retries: 11"},
		{func(c *metajudge.Config) { c.ExtraAttempts = 11 }, "judgment_pairs.extra_attempts: 11"},
		{func(c *metajudge.Config) { c.InFlight = 0 }, "judgment_pairs.in_flight: 0"},
	} {
		bad := cfg
		tt.change(&bad)
		if err := bad.Validate(); err == nil || !strings.HasPrefix(err.Error(), tt.fault) {
			t.Errorf("error %v, want %s", err, tt.fault)
		}
	}
}
