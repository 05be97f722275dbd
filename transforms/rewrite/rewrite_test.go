package rewrite_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	"github.com/google/go-cmp/cmp"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/ledger"
	"github.com/promptmill/promptmill/transforms/rewrite"
	"github.com/promptmill/promptmill/transforms/template"
	"github.com/promptmill/promptmill/transforms/transformtest"
)

func TestMain(m *testing.M) { ptest.Main(m) }

const runSeed = 7

// policy plays the script of the raw prompt it finds: what it answers depends on prompt, attempt and
// position only.
type policy struct{ calls atomic.Int64 }

var thePolicy policy

func init() {
	model.Register("test-policy", model.Backend{Chat: func(context.Context, model.Spec) (model.Chat, error) { return &thePolicy, nil }})
}

func (*policy) Info() model.Info {
	return model.Info{Name: "test policy", Weights: "policy-weights", Deterministic: true}
}

func (p *policy) Chat(_ context.Context, req model.ChatRequest) (model.ChatResponse, error) {
	p.calls.Add(1)
	text := req.Messages[0].Parts[0].Text
	raw := text[strings.LastIndex(text, "Prompt: ")+len("Prompt: "):]
	attempt := 0
	for schemas.Seed(runSeed, "rewrite", schemas.PromptID(raw), attempt) != req.Seed {
		if attempt++; attempt > 10 {
			return model.ChatResponse{}, fmt.Errorf("seed %d belongs to no attempt", req.Seed)
		}
	}
	play, ok := scripts[raw]
	if !ok {
		play = func(_, i int) any { return fmt.Sprintf("%s, variant %d", raw, i) }
	}
	resp := model.ChatResponse{Usage: model.Usage{Calls: 1, PromptTokens: 10, CompletionTokens: req.N}}
	for i := range req.N {
		switch a := play(attempt, i).(type) {
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

// first plays fault as the first answer of each of the first n requests, then what is good.
func first(n int, fault any) func(attempt, i int) any {
	return func(attempt, i int) any {
		if attempt < n && i == 0 {
			return fault
		}
		return fmt.Sprintf("good, %d and %d", attempt, i)
	}
}

var (
	long    = strings.Repeat("very ", 80) + "long"
	cut     = model.Answer{Text: "a castle on a", Finish: model.FinishLength}
	blocked = model.Answer{Finish: model.FinishFilter}

	scripts = map[string]func(attempt, i int) any{
		"twins":             func(_, i int) any { return fmt.Sprintf("Here is the prompt: \"twin %d\"", i/2) },
		"twins after retry": first(1, "good, 0 and 1, not yet: \n"),
		"refuses once":      first(1, "I'm sorry, I can't help with that."),
		"refuses":           first(9, "I'm sorry, I can't help with that."),
		"blocked":           first(9, blocked),
		"empty":             first(9, "Sure! \"\""),
		"long":              first(9, long),
		"cut":               first(2, cut),
		"cut always":        first(9, cut),
		"rejected":          func(int, int) any { return fmt.Errorf("400: %w", model.ErrRejected) },
		"down":              func(int, int) any { return fmt.Errorf("503: %w", model.ErrUnavailable) },
		"down later": func(attempt, i int) any {
			if attempt == 1 {
				return fmt.Errorf("503: %w", model.ErrUnavailable)
			}
			return first(1, "")(attempt, i)
		},
		"misconfigured": func(int, int) any { return fmt.Errorf("401: %w", model.ErrConfig) },
		"unknown error": func(int, int) any { return fmt.Errorf("disk full") },
		"short":         func(int, int) any { return 0 }, // no answer at all
		"panics":        func(int, int) any { panic("out of tokens") },
	}
)

func config(t testing.TB) rewrite.Config {
	cfg := rewrite.DefaultConfig()
	cfg.Model = model.Spec{Backend: "test-policy"}
	cfg.Cache = transformtest.Cache(t)
	cfg.Candidates, cfg.Seed = 4, runSeed
	return cfg
}

func prompts(texts ...string) []schemas.Prompt {
	var out []schemas.Prompt
	for _, text := range texts {
		out = append(out, schemas.Prompt{ID: schemas.PromptID(text), Text: text, Source: "test"})
	}
	return out
}

type rows = transformtest.Rows[schemas.Slate]

func run(cfg rewrite.Config, in []schemas.Prompt) (rows, error) {
	return transformtest.Run[schemas.Slate](rewrite.Sample, cfg, in)
}

func TestSample(t *testing.T) {
	for _, tt := range []struct {
		prompt     string
		candidates []string // "index text"
		dead       []string // "index reason attempts"
		filtered   int64
	}{
		{"plain", []string{"0 plain, variant 0", "1 plain, variant 1", "2 plain, variant 2", "3 plain, variant 3"}, nil, 0},
		{"twins", []string{"0 twin 0", "2 twin 1"}, nil, 2},
		{"refuses once", []string{"0 good, 1 and 1", "1 good, 0 and 1", "2 good, 0 and 2", "3 good, 0 and 3"}, nil, 0},
		{"refuses", []string{"1 good, 0 and 1", "2 good, 0 and 2", "3 good, 0 and 3"}, []string{"0 refusal 3"}, 0},
		{"blocked", []string{"1 good, 0 and 1", "2 good, 0 and 2", "3 good, 0 and 3"}, []string{"0 refusal 3"}, 0},
		{"empty", []string{"1 good, 0 and 1", "2 good, 0 and 2", "3 good, 0 and 3"}, []string{"0 empty 3"}, 0},
		{"long", []string{"1 good, 0 and 1", "2 good, 0 and 2", "3 good, 0 and 3"}, []string{"0 too_long 3"}, 0},
		{"cut", []string{"0 good, 2 and 0", "1 good, 0 and 1", "2 good, 0 and 2", "3 good, 0 and 3"}, nil, 0},
		{"cut always", []string{"1 good, 0 and 1", "2 good, 0 and 2", "3 good, 0 and 3"}, []string{"0 cut_off 3"}, 0},
		{"rejected", nil, []string{"0 rejected 1", "1 rejected 1", "2 rejected 1", "3 rejected 1"}, 0},
		{"down", nil, []string{"0 unavailable 1", "1 unavailable 1", "2 unavailable 1", "3 unavailable 1"}, 0},
		{"down later", []string{"1 good, 0 and 1", "2 good, 0 and 2", "3 good, 0 and 3"}, []string{"0 unavailable 2"}, 0},
	} {
		t.Run(tt.prompt, func(t *testing.T) {
			// "good, 1 and 0" is what the only answer of a second request says.
			want := slices.Clone(tt.candidates)
			for i := range want {
				want[i] = strings.Replace(want[i], "good, 1 and 1", "good, 1 and 0", 1)
			}
			in := prompts(tt.prompt)
			got, err := run(config(t), in)
			if err != nil {
				t.Fatal(err)
			}
			if len(got.Rows) != 1 || got.Rows[0].Prompt != in[0] {
				t.Fatalf("slates %+v", got.Rows)
			}
			var candidates, dead []string
			for _, c := range got.Rows[0].Candidates {
				candidates = append(candidates, fmt.Sprint(c.Index, " ", c.Text))
				if c.Policy != "policy-weights" || c.ID != schemas.CandidateID(in[0].ID, c.Text) || c.PromptID != in[0].ID {
					t.Errorf("candidate %+v", c)
				}
				if err := c.Validate(); err != nil {
					t.Error(err)
				}
			}
			for _, r := range got.Rejected {
				dead = append(dead, fmt.Sprint(strings.TrimPrefix(r.Key, in[0].ID+"/"), " ", r.Reason, " ", r.Attempts))
				var payload schemas.Prompt
				if err := json.Unmarshal([]byte(r.Payload), &payload); err != nil || payload != in[0] || r.Stage != "rewrite" {
					t.Errorf("dead letter %+v cannot be run again: %v", r, err)
				}
			}
			if d := cmp.Diff(want, candidates); d != "" {
				t.Error("candidates", d)
			}
			if d := cmp.Diff(tt.dead, dead); d != "" {
				t.Error("dead", d)
			}
			if n := ledger.Total(got.Counts, "rewrite", schemas.Filtered); n != tt.filtered {
				t.Errorf("%d filtered, want %d", n, tt.filtered)
			}
		})
	}
}

// A policy that continues the prompt has it in front of what it says, and the length counts both.
func TestContinues(t *testing.T) {
	cfg := config(t)
	cfg.Continues = ", "
	got, err := run(cfg, prompts("twins", "empty"))
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, s := range got.Rows {
		for _, c := range s.Candidates {
			texts = append(texts, c.Text)
		}
	}
	slices.Sort(texts)
	want := []string{"empty, good, 0 and 1", "empty, good, 0 and 2", "empty, good, 0 and 3", "twins, twin 0", "twins, twin 1"}
	if d := cmp.Diff(want, texts); d != "" {
		t.Error(d)
	}
	cfg.MaxClipTokens = rewrite.ClipTokens("twins, twin 0") - 1
	if got, err = run(cfg, prompts("twins")); err != nil || len(got.Rejected) != cfg.Candidates || got.Rejected[0].Reason != "too_long" {
		t.Errorf("one token too many: %+v, %v", got.Rejected, err)
	}
}

// everyPrompt are all scripts that do not fail the bundle, and plain ones.
func everyPrompt() []schemas.Prompt {
	texts := []string{"plain", "twins", "twins after retry", "refuses once", "refuses", "blocked", "empty", "long", "cut", "cut always", "rejected", "down", "down later"}
	for i := range 60 {
		texts = append(texts, fmt.Sprintf("scene %d", i))
	}
	return prompts(texts...)
}

func TestLedger(t *testing.T) {
	got, err := run(config(t), everyPrompt())
	if err != nil {
		t.Fatal(err)
	}
	written := map[string]int64{"rejected": int64(len(got.Rejected)), "prompts": int64(len(got.Rows))}
	for _, s := range got.Rows {
		written["candidates"] += int64(len(s.Candidates))
	}
	if err := ledger.Check(got.Counts, written, []string{
		"rewrite.in = 4*rows.prompts", "rewrite.out = rows.candidates", "*.dead = rows.rejected", "rows.prompts = 73",
	}); err != nil {
		t.Error(err)
	}
	reasons := map[string]bool{}
	for _, c := range got.Counts {
		reasons[c.Outcome+" "+c.Reason] = true
	}
	for _, want := range []string{
		"filtered duplicate", "dead refusal", "dead empty", "dead too_long", "dead cut_off", "dead rejected", "dead unavailable",
		"used calls", "used prompt_tokens", "used completion_tokens",
	} {
		if !reasons[want] {
			t.Errorf("the ledger has no %q: %v", want, got.Counts)
		}
	}
}

func TestDeterminism(t *testing.T) {
	// Only what was no answer is asked again: rejected, down, and down later.
	transformtest.Deterministic(t, run, config(t), everyPrompt(), &thePolicy.calls, 3)
}

func TestExtraAttempts(t *testing.T) {
	scripts["stubborn"] = first(3, "I'm sorry, I cannot help with that.")
	before, after := transformtest.ExtraAttempts(t, run, config(t), prompts("stubborn"), &thePolicy.calls, 1)
	if len(before.Rejected) != 1 || len(after.Rows[0].Candidates) != 4 {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

func TestFailsBundle(t *testing.T) {
	for prompt, want := range map[string]string{
		"misconfigured": "misconfigured", "unknown error": "disk full", "short": "gave 0 answers", "panics": "out of tokens",
	} {
		_, err := run(config(t), prompts("plain", prompt))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v", prompt, err)
		}
	}
}

func TestConfigRoundTrip(t *testing.T) {
	cfg := rewrite.Config{
		Continues: ", ",
		Model:     model.Spec{Backend: "b", Model: "m", Endpoint: "http://h", APIKey: "env:K", Revision: "r", Concurrency: 1, AttemptTimeout: 2, TotalTimeout: 3, Options: map[string]string{"a": "b"}},
		Cache:     "c", Template: template.Template{ID: "i", System: "s", User: "{prompt}"},
		Candidates: 1, Temperature: 2, TopP: 0.5, MaxTokens: 4, MaxClipTokens: 5, Retries: 6, ExtraAttempts: 7, Seed: 8, InFlight: 9,
	}
	transformtest.RoundTrip(t, cfg)
}

func TestValidate(t *testing.T) {
	err := rewrite.Config{Temperature: 3, MaxClipTokens: 2, ExtraAttempts: 11}.Validate()
	if err == nil {
		t.Fatal("an empty Config is valid")
	}
	for _, line := range strings.Split(err.Error(), "\n") {
		if !strings.HasPrefix(line, "rewrite.") || !strings.Contains(line, ": ") {
			t.Errorf("fault without its place: %s", line)
		}
	}
	for _, field := range []string{"model.backend", "cache", "candidates", "temperature", "top_p", "max_tokens", "max_clip_tokens", "extra_attempts", "in_flight", "template.id", "template.user"} {
		if !strings.Contains(err.Error(), "rewrite."+field+": ") {
			t.Errorf("no fault for %s in\n%v", field, err)
		}
	}
	cfg := config(t)
	cfg.Temperature = 0
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "rewrite.temperature: 0 gives 4 equal") {
		t.Errorf("greedy sampling of four: %v", err)
	}
}

func ExampleSample() {
	p, s := beam.NewPipelineWithRoot()
	prompts := beam.CreateList(s, []schemas.Prompt{{ID: schemas.PromptID("a cat"), Text: "a cat"}})
	cfg := rewrite.DefaultConfig()
	cfg.Model = model.Spec{Backend: "openai", Endpoint: "http://localhost:8000/v1", Model: "policy"}
	cfg.Cache = "cache"
	slates, rejected, counts := rewrite.Sample(s, cfg, prompts)
	_, _, _, _ = p, slates, rejected, counts
}
