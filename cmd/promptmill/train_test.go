package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/promptmill/promptmill/model/onnx/onnxfile"
	embedded "github.com/promptmill/promptmill/model/tiny"
	"github.com/promptmill/promptmill/transforms/snapshot"
)

// What a training can stumble over, each through the command: what is said, the exit code, and that nothing is registered.
func TestTrainFaults(t *testing.T) {
	store := pairStore(t)
	empty := pairStore(t, "prefer.min_margin=15")
	server := newTuner(t, "failed")
	command := "training.trainer={backend: command, model: \"\", options: {dpo: %q}}"
	for _, tt := range []struct {
		name, store string
		set         []string
		code        int
		says        []string
	}{
		{"stale policy", store, []string{"training.start=init"}, exitGate, []string{"stale_policy", "training starts from \"sha256:"}},
		{"empty snapshot", empty, nil, exitGate, []string{"non_conforming", "it has no rows"}},
		{"too long", store, []string{"training.context_window=12"}, exitGate, []string{"non_conforming", "row 0", "counted through the start's chat template", "the context window 12"}},
		{"wrong tokenizer", store, []string{"training.allow_off_policy=true", "training.start=" + otherTokenizer(t)}, exitFailed, []string{"the training failed: failed", "wrong tokenizer"}},
		{"weights that are no numbers", store, []string{"training.allow_off_policy=true", "training.start=" + noNumbers(t)}, exitFailed, []string{"the training failed: failed", "not numbers"}},
		{"no torchrun", store, []string{fmt.Sprintf(command, "torchrun-of-nobody train.py {data}")}, exitFailed, []string{"training.trainer", "torchrun-of-nobody is not installed"}},
		{"no checkpoint", store, []string{fmt.Sprintf(command, "true {data}")}, exitFailed, []string{"the training failed", "checkpoint"}},
		{"a program that fails", store, []string{fmt.Sprintf(command, "cat /nowhere/{id}")}, exitFailed, []string{"the training failed: failed", "No such file", "training.attempt"}},
		{"a job that fails", store, []string{server.trainer(), "dpo.nll_alpha=0"}, exitFailed, []string{"the training failed: failed", "invalid_training_file", "row 2 is a poem"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := start(t, trainDPO(tt.store, tt.set...)...)
			if code := p.code(); code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			for _, want := range tt.says {
				if !strings.Contains(p.stderr.String(), want) {
					t.Errorf("%q is not in: %s", want, p.stderr.String())
				}
			}
			if versions, err := snapshot.Versions(t.Context(), openStore(t, tt.store), "checkpoint"); err != nil || len(versions) > 0 || p.stdout.Len() > 0 {
				t.Errorf("registered: %v, %v; printed: %s", versions, err, p.stdout.String())
			}
		})
	}
}

// Ctrl-C leaves a job alone, or cancels it where the recipe says so.
func TestTrainInterrupted(t *testing.T) {
	store := pairStore(t)
	for how, cancels := range map[string]bool{"leave": false, "cancel": true} {
		attempt := map[bool]string{false: "0", true: "1"}[cancels] // jobs of their own
		t.Run(how, func(t *testing.T) {
			server := newTuner(t, "running")
			p := start(t, trainDPO(store, server.trainer(), "dpo.nll_alpha=0", "training.on_interrupt="+how, "training.attempt="+attempt)...)
			for deadline := time.Now().Add(time.Minute); server.asked("GET /v1/fine_tuning/jobs/ftjob-1") < 2; time.Sleep(10 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("the job was not looked at: %s", p.stderr.String())
				}
			}
			if err := p.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			if code := p.code(); code != exitInterrupted {
				t.Errorf("exit code %d: %s", code, p.stderr.String())
			}
			if n := server.asked("POST /v1/fine_tuning/jobs/ftjob-1/cancel"); n > 0 != cancels {
				t.Errorf("cancelled %d times", n)
			}
			if strings.Contains(p.stderr.String(), "the job was cancelled") != cancels {
				t.Errorf("said: %s", p.stderr.String())
			}
		})
	}
}

// pairStore returns a store with a few pairs of the embedded model.
func pairStore(t *testing.T, set ...string) string {
	t.Helper()
	dir := t.TempDir()
	args := []string{"preference", "--recipe", "demo", "--out", dir, "--json", "--quiet"}
	for _, s := range append([]string{"select.prompts=4", "rewrite.candidates=2", "judge.samples=1", "prefer.min_samples=1"}, set...) {
		args = append(args, "--set", s)
	}
	succeed(t, args...)
	return dir
}

// trainDPO is the command that trains the embedded model on the pairs of a store.
func trainDPO(store string, set ...string) []string {
	args := []string{"train", "dpo", "--recipe", "demo", "--out", store}
	for _, s := range append([]string{"training.poll=20ms"}, set...) {
		args = append(args, "--set", s)
	}
	return args
}

// copied is a copy of the embedded model's folder, with other contents of one file.
func copied(t *testing.T, name string, change func(data []byte) []byte) string {
	t.Helper()
	from, err := embedded.Folder(embedded.SFT)
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "model")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(to, name)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, change(data), 0o644); err != nil {
		t.Fatal(err)
	}
	return to
}

// otherTokenizer is a model with a token more than it has logits.
func otherTokenizer(t *testing.T) string {
	t.Helper()
	return copied(t, "tokenizer.json", func(data []byte) []byte {
		var v map[string]any
		if err := json.Unmarshal(data, &v); err != nil {
			t.Fatal(err)
		}
		v["added_tokens"] = append(v["added_tokens"].([]any), map[string]any{"id": 2048, "content": "<more>", "special": true})
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return data
	})
}

// noNumbers is a model whose largest weight of the decoder is NaN.
func noNumbers(t *testing.T) string {
	t.Helper()
	return copied(t, "onnx/decoder_model_merged.onnx", func(data []byte) []byte {
		m, err := onnxfile.Parse(data, onnxfile.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		weights := slices.MaxFunc(m.Graph.Initializers, func(a, b *onnxfile.Tensor) int { return len(a.Raw) - len(b.Raw) })
		weights.Raw = slices.Repeat([]byte{0xff, 0x7f}, len(weights.Raw)/2) // in half and in single precision
		return m.Marshal()
	})
}

// A tuner is a fine-tuning endpoint with one job.
type tuner struct {
	*httptest.Server
	mu    sync.Mutex
	calls map[string]int
	state string
}

func newTuner(t *testing.T, state string) *tuner {
	t.Helper()
	s := &tuner{calls: map[string]int{}, state: state}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

// trainer is the setting that trains there.
func (s *tuner) trainer() string {
	return fmt.Sprintf("training.trainer={backend: rest, model: \"\", endpoint: %q}", s.URL)
}

// asked is how often something was asked for.
func (s *tuner) asked(call string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[call]
}

func (s *tuner) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[r.Method+" "+r.URL.Path]++
	job := map[string]any{"id": "ftjob-1", "object": "fine_tuning.job", "created_at": 1, "status": s.state, "training_file": "file-1"}
	if s.state == "failed" {
		job["error"] = map[string]any{"code": "invalid_training_file", "message": "row 2 is a poem"}
	}
	var answer any = job
	switch _, last := filepath.Split(r.URL.Path); last {
	case "files":
		answer = map[string]any{"id": "file-1"}
	case "events":
		answer = map[string]any{"data": []any{}}
	case "jobs":
		if r.Method == http.MethodGet {
			answer = map[string]any{"data": []any{}, "has_more": false}
		}
	case "cancel":
		s.state = "cancelled"
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		panic(err)
	}
}
