package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	_ "github.com/promptmill/promptmill/model/modeltest/pupil" // trains in milliseconds
	"github.com/promptmill/promptmill/pipelines/selfreward"
	"github.com/promptmill/promptmill/transforms/snapshot"
)

// loopRecipe writes a recipe of a whole loop on 16 prompts, trained by package pupil, and returns its path.
func loopRecipe(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	lines := strings.SplitAfter(promptLines(24), "\n")
	train := writeFile(t, dir, "prompts.txt", strings.Join(lines[:16], ""))
	test := writeFile(t, dir, "test.txt", strings.Join(lines[16:24], ""))
	return writeFile(t, dir, "recipe.yaml", fmt.Sprintf(`extends: paper
name: small
prompts: {inputs: [{name: own, path: %q}]}
pairs: {inputs: [{name: stand-in, path: "builtin:prompts/pairs.jsonl"}]}
dedup: {mode: exact}
models:
  policy: {backend: pupil, model: start, revision: "", endpoint: "", concurrency: 0}
  images: {backend: scene, model: "", revision: "", endpoint: "", concurrency: 0}
  judge: {backend: pupil, model: start, revision: "", endpoint: "", concurrency: 0}
rewrite: {candidates: 3}
imagegen: {width: 32, height: 32}
judge: {samples: 2}
training:
  trainer: {backend: pupil, model: "", options: {pause: 10ms}}
  poll: 5ms
selfreward: {iterations: [{pairs: 6}, {pairs: 12}], judgment_pairs: 0}
heldout: {benchmarks: [{name: test, path: %[2]q, format: text}]}
metrics:
  prompts: {inputs: [{name: test, path: %[2]q, format: text}]}
  scorers: [{name: oracle_total, model: {backend: scene}}]
  judge: false
  resamples: 200
`, train, test))
}

// loopLine is the JSON line of a loop that succeeded.
func (p *process) loopLine(t *testing.T) loopLine {
	t.Helper()
	s := p.summary(t) // checks the exit code
	lines := strings.Split(strings.TrimSpace(p.stdout.String()), "\n")
	out := loopLine{summary: s}
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

type loopLine struct {
	summary
	Weights string
	Stages  []struct {
		Name        string
		OracleTotal struct{ Mean, Low, High float64 } `json:"oracle_total"`
	}
	Steps []selfreward.Step
}

// The process of the whole loop is killed twenty times, from its start to its last step, on a trainer that is a process of
// its own.
func TestKillLoop(t *testing.T) {
	recipe := loopRecipe(t)
	hit := killLoop(t, 20, 3, []string{"selfreward", "--recipe", recipe}, wantTrainedOnce)
	if len(hit) < 4 {
		t.Errorf("the kills hit few steps: %v", hit)
	}
}

// killLoop kills the process of a loop so often, at random moments, and each time the same command goes on; a loop that
// comes to its end is followed by one in a store of its own. In the end digest, weights and figures are those of a loop
// that nothing disturbed, and no training was begun twice: once looks at the store's trainings, of which there are so
// many. It returns how often each step was hit.
func killLoop(t *testing.T, kills, trainings int, command []string, once func(t *testing.T, out string, n int)) map[string]int {
	t.Helper()
	job := func(out string) []string {
		return append(slices.Clone(command), "--logical-date", "2026-01-31", "--json", "--quiet", "--out", out)
	}
	want := start(t, job(t.TempDir())...).loopLine(t)
	if len(want.Stages) != 10 || want.Weights == "" {
		t.Fatalf("undisturbed: %+v", want)
	}
	finished := func(out string, p *process) {
		got := p.loopLine(t)
		if got.Digest != want.Digest || got.Weights != want.Weights || !slices.Equal(got.Stages, want.Stages) {
			t.Errorf("digest %s, weights %s, figures %v; undisturbed %s, %s, %v", got.Digest, got.Weights, got.Stages, want.Digest, want.Weights, want.Stages)
		}
		once(t, out, trainings)
		versions, err := snapshot.Versions(t.Context(), openStore(t, out), "loop/main/checkpoint")
		if err != nil || len(versions) != trainings {
			t.Errorf("%d checkpoints are registered, %v", len(versions), err)
		}
	}

	rng := rand.New(rand.NewPCG(3, uint64(kills)))
	out, loops, killed := t.TempDir(), 1, map[string]int{}
	for i := 0; i < kills; {
		p := start(t, job(out)...)
		select {
		case <-p.ended:
		case <-time.After(time.Duration((.02 + .4*rng.Float64()) * want.WallS * float64(time.Second))):
		}
		if err := p.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
		if p.code() != -1 {
			finished(out, p)
			out, loops = t.TempDir(), loops+1
			continue
		}
		i++
		state, err := selfreward.Load(t.Context(), openStore(t, out), "main")
		if err != nil {
			killed["before the first step"]++
		}
		for _, s := range state.Steps {
			if s.State == selfreward.Running {
				killed[s.Name]++
			}
		}
	}
	finished(out, start(t, job(out)...))
	t.Logf("undisturbed %.1f s; %d kills of %d loops, in the steps %v", want.WallS, kills, loops, killed)
	return killed
}

// wantTrainedOnce wants n trainings, each of whose steps were taken once and in order.
func wantTrainedOnce(t *testing.T, out string, n int) {
	t.Helper()
	jobs, err := filepath.Glob(filepath.Join(out, "checkpoint/jobs/*/output"))
	if err != nil || len(jobs) != n {
		t.Errorf("%d trainings, %v; want %d", len(jobs), err, n)
	}
	for _, dir := range jobs {
		steps, err := os.ReadFile(filepath.Join(dir, "steps"))
		if err != nil || string(steps) != "1\n2\n3\n4\n" {
			t.Errorf("%s: steps %q, %v", dir, steps, err)
		}
	}
}
