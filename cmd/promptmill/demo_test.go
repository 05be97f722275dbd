package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// smallDemo is the whole loop of the embedded models on a few prompts, with steps enough to be killed in.
func smallDemo() []string {
	args := []string{"demo"}
	for _, set := range []string{
		"selfreward.iterations=[{pairs: 0, prompts: 16, learning_rate: 2e-4}, {pairs: 0, prompts: 16, learning_rate: 1e-4}]",
		"rewrite.candidates=3", "judge.samples=1", "prefer.min_samples=1", "metrics.limit=4", "metrics.draws=1", "metrics.judge=false",
		"dpo.epochs=1", "dpo.batch_size=2", "training.poll=20ms", "training.trainer.options={checkpoint: 0s}",
	} {
		args = append(args, "--set", set)
	}
	return args
}

// KillsVariable is how often TestKillDemo kills, 3 times if it is not set.
const KillsVariable = "PROMPTMILL_KILLS"

// The loop on the embedded models, whose trainer is the process itself, ends with the same weights wherever it is killed.
func TestKillDemo(t *testing.T) {
	kills := 3
	if text := os.Getenv(KillsVariable); text != "" {
		var err error
		if kills, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	killLoop(t, kills, 2, smallDemo(), wantStepsOnce)
}

// wantStepsOnce wants n embedded trainings that have ended, each with a line for each of its steps, in order.
func wantStepsOnce(t *testing.T, out string, n int) {
	t.Helper()
	ends, err := filepath.Glob(filepath.Join(out, "checkpoint/jobs/*/output/*/end.json"))
	if err != nil || len(ends) != n {
		t.Errorf("%d trainings, %v; want %d", len(ends), err, n)
	}
	for _, end := range ends {
		data, err := os.ReadFile(filepath.Join(filepath.Dir(end), "log.jsonl"))
		if err != nil {
			t.Error(err)
		}
		var at, of int
		for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
			var line struct{ Step, Steps int }
			if err := json.Unmarshal(lines.Bytes(), &line); err != nil || line.Step != at+1 {
				t.Errorf("%s: step %d after %d, %v", end, line.Step, at, err)
			}
			at, of = line.Step, line.Steps
		}
		if at == 0 || at != of {
			t.Errorf("%s: %d steps of %d", end, at, of)
		}
	}
}
