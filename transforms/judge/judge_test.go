package judge_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	"github.com/google/go-cmp/cmp"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/transforms/judge"
	"github.com/promptmill/promptmill/transforms/ledger"
	"github.com/promptmill/promptmill/transforms/template"
	"github.com/promptmill/promptmill/transforms/transformtest"
)

func TestMain(m *testing.M) { ptest.Main(m) }

const runSeed = 3

// critic plays the script of the candidate whose picture is Image 2; what it answers depends on the
// candidate, the aspect, the attempt and the position only.
type critic struct {
	candidates sync.Map // of the picture's SHA-256
	calls      atomic.Int64
	// seen keeps the last request about each aspect, and its pictures' bytes if they are read.
	seen sync.Map
	// read has the store of the pictures, if they are to be read. Each is deleted when it was: all
	// requests about it share one reading.
	read atomic.Pointer[store.Store]
}

var theCritic critic

func init() {
	model.Register("test-critic", model.Backend{Chat: func(context.Context, model.Spec) (model.Chat, error) { return &theCritic, nil }})
}

func (*critic) Info() model.Info {
	return model.Info{Name: "test critic", Weights: "critic-weights", Deterministic: true}
}

func (c *critic) Chat(ctx context.Context, req model.ChatRequest) (model.ChatResponse, error) {
	c.calls.Add(1)
	parts := req.Messages[len(req.Messages)-1].Parts
	aspect := strings.Split(req.Template, "/")[1]
	c.seen.Store(aspect, req)
	found, ok := c.candidates.Load(parts[3].Picture.SHA256)
	if !ok {
		return model.ChatResponse{}, fmt.Errorf("nobody's picture: %s", parts[3].Picture.SHA256)
	}
	candidate := found.(schemas.Candidate)
	attempt := 0
	for schemas.Seed(runSeed, "judge/"+aspect, candidate.ID, attempt*1000) != req.Seed {
		if attempt++; attempt > 10 {
			return model.ChatResponse{}, fmt.Errorf("seed %d belongs to no attempt", req.Seed)
		}
	}
	if st := c.read.Load(); st != nil {
		for _, part := range []model.Part{parts[1], parts[3]} {
			data, err := part.Picture.Bytes(ctx)
			if err != nil {
				return model.ChatResponse{}, err
			}
			c.seen.Store(part.Picture.SHA256, string(data))
			if err := (*st).Delete(ctx, store.BlobName(part.Picture.SHA256)); err != nil {
				return model.ChatResponse{}, err
			}
		}
	}
	resp := model.ChatResponse{Usage: model.Usage{Calls: 1, PromptTokens: 100, CompletionTokens: 10 * req.N}}
	for i := range req.N {
		switch a := script(candidate.Text, aspect, attempt, i).(type) {
		case string:
			resp.Answers = append(resp.Answers, model.Answer{Text: a, Finish: model.FinishStop})
		case model.Answer:
			resp.Answers = append(resp.Answers, a)
		case error:
			return model.ChatResponse{Usage: model.Usage{Calls: 1}}, a
		}
	}
	return resp, nil
}

func scores(first, second any) string {
	return fmt.Sprintf("Output for Image 1:\nScore: %v\nExplanation: so.\nOutput for Image 2:\nScore: %v\nExplanation: so.", first, second)
}

var faults = map[string]any{
	"refusal":            "I'm sorry, I can't judge pictures.",
	"missing_first":      "Output for Image 2:\nScore: 3",
	"missing_second":     "Output for Image 1:\nScore: 3",
	"rubric_echo":        scores("<a number from 0 to 5>", "<a number from 0 to 5>"),
	"duplicate_conflict": scores(1, 2) + "\n" + scores(1, 3),
	"truncated":          model.Answer{Text: scores(1, 2), Finish: model.FinishLength},
	"no_score":           "Both are nice.",
	"out_of_range":       scores(1, 85),
	"range":              scores(1, "3-4"),
	"wrong_denominator":  scores(1, "3/10"),
	"too_precise":        scores(1, 3.1234),
	"rejected":           fmt.Errorf("400: %w", model.ErrRejected),
	"unavailable":        fmt.Errorf("503: %w", model.ErrUnavailable),
	"misconfigured":      fmt.Errorf("401: %w", model.ErrConfig),
	"unknown":            errors.New("disk full"),
	"filter":             model.Answer{Finish: model.FinishFilter},
	"decimal":            scores(2.5, 4),
	"bytes":              scores(1, 2) + "\xff",
}

// script answers with the fault that the candidate names, as the first answer of the first n requests
// about the aesthetic aspect, and else with scores by attempt and position.
func script(text, aspect string, attempt, i int) any {
	var fault string
	var n int
	if _, err := fmt.Sscan(text, &fault, &n); err == nil && aspect == schemas.Aesthetic && attempt < n && i == 0 {
		return faults[fault]
	}
	return scores(attempt, (len(text)+i)%6)
}

func config(t testing.TB) judge.Config {
	cfg := judge.DefaultConfig()
	cfg.Model = model.Spec{Backend: "test-critic"}
	cfg.Cache = transformtest.Cache(t)
	cfg.Seed = runSeed
	return cfg
}

// slate has a picture for each candidate but those without a text.
func slate(raw string, candidates ...string) schemas.Slate {
	s := schemas.Slate{Prompt: schemas.Prompt{ID: schemas.PromptID(raw), Text: raw}, Raw: schemas.ImageRef{SHA256: sha(raw)}}
	for i, text := range candidates {
		c := schemas.Candidate{ID: schemas.CandidateID(s.Prompt.ID, text), PromptID: s.Prompt.ID, Index: int32(i), Text: text}
		if text != "" {
			c.Image = schemas.ImageRef{SHA256: sha(raw + "/" + text)}
		}
		s.Candidates = append(s.Candidates, c)
	}
	return s
}

func sha(text string) string { return schemas.PromptID(text) + schemas.PromptID(text+"!") }

type rows = transformtest.Rows[schemas.Slate]

func run(cfg judge.Config, in []schemas.Slate) (rows, error) {
	for _, s := range in {
		for _, c := range s.Candidates {
			theCritic.candidates.Store(c.Image.SHA256, c)
		}
	}
	return transformtest.Run[schemas.Slate](judge.Score, cfg, in)
}

func TestScore(t *testing.T) {
	good := []string{"0: 0 %d @0", "1: 0 %d @0", "2: 0 %d @0"}
	for _, tt := range []struct {
		text      string
		aesthetic []string // "sample: score1 score2 @attempt"
		dead      []string // "sample reason attempts"
	}{
		{"good", []string{"0: 0 4 @0", "1: 0 5 @0", "2: 0 0 @0"}, nil},
		{"refusal 1", []string{"0: 1 3 @1", "1: 0 4 @0", "2: 0 5 @0"}, nil},
		{"refusal 2", []string{"0: 2 3 @2", "1: 0 4 @0", "2: 0 5 @0"}, nil},
		{"refusal 3", []string{"0: 0 4 @0", "1: 0 5 @0"}, []string{"0 refusal 3"}},
		{"filter 3", []string{"0: 0 3 @0", "1: 0 4 @0"}, []string{"0 refusal 3"}},
		{"missing_first 3", []string{"0: 0 4 @0", "1: 0 5 @0"}, []string{"0 missing_first 3"}},
		{"missing_second 3", []string{"0: 0 5 @0", "1: 0 0 @0"}, []string{"0 missing_second 3"}},
		{"rubric_echo 3", []string{"0: 0 2 @0", "1: 0 3 @0"}, []string{"0 rubric_echo 3"}},
		{"duplicate_conflict 3", []string{"0: 0 3 @0", "1: 0 4 @0"}, []string{"0 duplicate_conflict 3"}},
		{"truncated 3", []string{"0: 0 0 @0", "1: 0 1 @0"}, []string{"0 truncated 3"}},
		{"no_score 3", []string{"0: 0 5 @0", "1: 0 0 @0"}, []string{"0 no_score 3"}},
		{"out_of_range 3", []string{"0: 0 3 @0", "1: 0 4 @0"}, []string{"0 out_of_range 3"}},
		{"range 3", []string{"0: 0 2 @0", "1: 0 3 @0"}, []string{"0 range 3"}},
		{"wrong_denominator 3", []string{"0: 0 2 @0", "1: 0 3 @0"}, []string{"0 wrong_denominator 3"}},
		{"too_precise 3", []string{"0: 0 2 @0", "1: 0 3 @0"}, []string{"0 too_precise 3"}},
		{"rejected 1", nil, []string{"0 rejected 1", "1 rejected 1", "2 rejected 1"}},
		{"unavailable 1", nil, []string{"0 unavailable 1", "1 unavailable 1", "2 unavailable 1"}},
		{"decimal 1", []string{"0: 2.5 4 @0 decimal", "1: 0 4 @0", "2: 0 5 @0"}, nil},
		{"bytes 1", []string{"0: 1 2 @0", "1: 0 2 @0", "2: 0 3 @0"}, nil},
	} {
		t.Run(tt.text, func(t *testing.T) {
			in := slate("cat", tt.text, "")
			got, err := run(config(t), []schemas.Slate{in})
			if err != nil {
				t.Fatal(err)
			}
			if len(got.Rows) != 1 {
				t.Fatalf("%d slates", len(got.Rows))
			}
			byAspect := map[string][]string{}
			for _, j := range got.Rows[0].Judgments {
				line := fmt.Sprintf("%d: %v %v @%d", j.Sample, j.Score1, j.Score2, j.Attempt)
				if j.Decimal {
					line += " decimal"
				}
				byAspect[j.Aspect] = append(byAspect[j.Aspect], line)
				c := in.Candidates[0]
				want := schemas.Judgment{
					ID: schemas.JudgmentID(in.Prompt.ID, c.ID, j.Aspect, j.Sample), PromptID: in.Prompt.ID, CandidateID: c.ID, Aspect: j.Aspect,
					Sample: j.Sample, Image1: in.Raw.SHA256, Image2: c.Image.SHA256, Score1: j.Score1, Score2: j.Score2, Decimal: j.Decimal,
					Answer: j.Answer, Template: "paper/" + j.Aspect + "/1", Judge: "critic-weights", Attempt: j.Attempt,
				}
				if d := cmp.Diff(want, j); d != "" {
					t.Error(d)
				}
				if err := j.Validate(); err != nil {
					t.Error(err)
				}
			}
			if d := cmp.Diff(tt.aesthetic, byAspect[schemas.Aesthetic]); d != "" {
				t.Error(d)
			}
			for _, a := range []string{schemas.Pick, schemas.Alignment} {
				var want []string
				for i, line := range good {
					want = append(want, fmt.Sprintf(line, (len(tt.text)+i)%6))
				}
				if d := cmp.Diff(want, byAspect[a]); d != "" {
					t.Error(a, d)
				}
			}
			var dead []string
			for _, r := range got.Rejected {
				dead = append(dead, fmt.Sprint(strings.TrimPrefix(r.Key, in.Candidates[0].ID+"/aesthetic/"), " ", r.Reason, " ", r.Attempts))
				var payload schemas.Prompt
				if err := json.Unmarshal([]byte(r.Payload), &payload); err != nil || payload != in.Prompt || r.Stage != "judge" {
					t.Errorf("dead letter %+v cannot be run again: %v", r, err)
				}
			}
			if d := cmp.Diff(tt.dead, dead); d != "" {
				t.Error("dead", d)
			}
		})
	}
}

// The judge sees both pictures under their labels, then the rubric, with the raw prompt's text only.
func TestRequest(t *testing.T) {
	cfg := config(t)
	st, err := store.Open(t.Context(), cfg.Cache)
	if err != nil {
		t.Fatal(err)
	}
	in := slate("a raw cat", "a fine cat")
	for ref, data := range map[*schemas.ImageRef]string{&in.Raw: "raw picture", &in.Candidates[0].Image: "candidate's picture"} {
		if ref.SHA256, err = store.PutBlob(t.Context(), st, []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	cfg.Templates, err = cfg.Templates.Replace(template.Pick, "mine", []byte("Be fair.\n---\nWhich is better?\nText: {prompt}"))
	if err != nil {
		t.Fatal(err)
	}
	theCritic.read.Store(&st)
	defer theCritic.read.Store(nil)
	if _, err := run(cfg, []schemas.Slate{in}); err != nil {
		t.Fatal(err)
	}
	for _, a := range judge.Aspects() {
		seen, ok := theCritic.seen.Load(a)
		if !ok {
			t.Fatalf("nothing asked about %s", a)
		}
		req := seen.(model.ChatRequest)
		if req.N != 3 || req.Sampling.Temperature != 0.9 || req.Sampling.TopP != 0.9 || req.Sampling.MaxTokens != 1024 {
			t.Errorf("%s: request %+v", a, req)
		}
		if system := a == schemas.Pick; (len(req.Messages) == 2) != system || system && req.Messages[0].Parts[0].Text != "Be fair." {
			t.Errorf("%s: messages %+v", a, req.Messages)
		}
		parts := req.Messages[len(req.Messages)-1].Parts
		if len(parts) != 5 || parts[0].Text != "Image 1:" || parts[2].Text != "Image 2:" ||
			parts[1].Picture.SHA256 != in.Raw.SHA256 || parts[3].Picture.SHA256 != in.Candidates[0].Image.SHA256 {
			t.Errorf("%s: parts %+v", a, parts)
		}
		if shown := strings.Contains(parts[4].Text, "Text: a raw cat"); shown != (a != schemas.Aesthetic) || strings.Contains(parts[4].Text, "fine cat") {
			t.Errorf("%s: question %q", a, parts[4].Text)
		}
	}
	for ref, want := range map[string]string{in.Raw.SHA256: "raw picture", in.Candidates[0].Image.SHA256: "candidate's picture"} {
		if data, _ := theCritic.seen.Load(ref); data != want {
			t.Errorf("bytes of a picture: %q, want %q", data, want)
		}
	}
}

func manySlates() []schemas.Slate {
	in := []schemas.Slate{slate("nothing"), slate("no picture", "")}
	for name := range faults {
		if name == "misconfigured" || name == "unknown" {
			continue
		}
		in = append(in, slate("cat of "+name, name+" 1", name+" 2", name+" 3", "good", ""))
	}
	for i := range 30 {
		in = append(in, slate(fmt.Sprint("house ", i), "a house", "the house", fmt.Sprint("house of ", i)))
	}
	return in
}

func TestLedger(t *testing.T) {
	got, err := run(config(t), manySlates())
	if err != nil {
		t.Fatal(err)
	}
	written := map[string]int64{"rejected": int64(len(got.Rejected)), "prompts": int64(len(got.Rows))}
	for _, s := range got.Rows {
		written["judgments"] += int64(len(s.Judgments))
		for _, c := range s.Candidates {
			if c.Image.SHA256 != "" {
				written["pictures"]++
			}
		}
	}
	if err := ledger.Check(got.Counts, written, []string{
		"judge.in = 9*rows.pictures", "judge.out = rows.judgments", "*.dead = rows.rejected", "rows.prompts = 48",
	}); err != nil {
		t.Error(err)
	}
	dead := map[string]int64{}
	for _, c := range got.Counts {
		if c.Outcome == schemas.Dead {
			dead[c.Reason] = c.N
		}
	}
	want := map[string]int64{"rejected": 9, "unavailable": 9, "refusal": 2} // refused, and filtered
	for name := range faults {
		if _, ok := want[name]; !ok && !slices.Contains([]string{"misconfigured", "unknown", "filter", "decimal", "bytes"}, name) {
			want[name] = 1
		}
	}
	if d := cmp.Diff(want, dead); d != "" {
		t.Error(d)
	}
}

func TestDeterminism(t *testing.T) {
	transformtest.Deterministic(t, run, config(t), manySlates(), &theCritic.calls, 6) // three rejected, three unavailable
}

func TestExtraAttempts(t *testing.T) {
	before, after := transformtest.ExtraAttempts(t, run, config(t), []schemas.Slate{slate("cat", "range 3")}, &theCritic.calls, 1)
	if len(before.Rejected) != 1 || len(after.Rows[0].Judgments) != 9 {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

func TestFailsBundle(t *testing.T) {
	for text, want := range map[string]string{"misconfigured 1": "misconfigured", "unknown 1": "disk full"} {
		_, err := run(config(t), []schemas.Slate{slate("cat", "good", text)})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), schemas.PromptID("cat")) {
			t.Errorf("%s: error %v", text, err)
		}
	}
}

func TestConfigRoundTrip(t *testing.T) {
	cfg := judge.Config{
		Templates: template.Paper(), Aspects: []string{"pick"}, Samples: 1, Replayable: judge.Replayable{ExtraAttempts: 5, Asking: judge.Asking{
			Model: model.Spec{Backend: "b"}, Cache: "c", Temperature: 2, TopP: 0.5, MaxTokens: 3, Retries: 4, Seed: 6, InFlight: 7,
		}},
	}
	transformtest.RoundTrip(t, cfg)
}

func TestValidate(t *testing.T) {
	err := judge.Config{
		Aspects: []string{"pick", "pick", "beauty"}, Samples: 100, Replayable: judge.Replayable{ExtraAttempts: 11, Asking: judge.Asking{Retries: -1}},
	}.Validate()
	if err == nil {
		t.Fatal("an empty Config is valid")
	}
	for _, want := range []string{
		"model.backend: empty", "cache: empty", `aspects[1]: "pick" stands there twice`, `aspects[2]: there is no "beauty"`, "templates.pick.user: empty",
		"samples: 100", "temperature: 0 gives 100 equal", "top_p: 0", "max_tokens: 0", "retries: -1", "in_flight: 0",
		"extra_attempts: 11",
	} {
		if !strings.Contains("\n"+err.Error(), "\njudge."+want) {
			t.Errorf("no fault %q in\n%v", want, err)
		}
	}
}

func ExampleParseImages() {
	scores, err := judge.ParseImages("Output for Image 2:\n**Score:** 4/5\nOutput for Image 1:\n**Score:** 2.5")
	fmt.Println(scores.First, scores.Second, scores.Decimal, err)
	_, err = judge.ParseImages("Image 1: 4\nImage 2: 3-4")
	fmt.Println(err, errors.Is(err, judge.Range))
	// Output:
	// 2.5 4 true <nil>
	// judge's answer: range true
}

func ExampleScore() {
	p, s := beam.NewPipelineWithRoot()
	slates := beam.CreateList(s, []schemas.Slate{{Prompt: schemas.Prompt{ID: schemas.PromptID("a cat"), Text: "a cat"}}})
	cfg := judge.DefaultConfig()
	cfg.Model = model.Spec{Backend: "openai", Endpoint: "http://localhost:8000/v1", Model: "judge"}
	cfg.Cache = "cache"
	judged, rejected, counts := judge.Score(s, cfg, slates)
	_, _, _, _ = p, judged, rejected, counts
}
