package main

import (
	"fmt"
	"testing"

	"github.com/promptmill/promptmill/model/modeltest/fakeserver"
	"github.com/promptmill/promptmill/pipelines/evaluation"
	"github.com/promptmill/promptmill/transforms/snapshot"
)

// Teachers behind the two wire formats that give equal answers make equal rows, and a second run asks neither.
func TestTeachersOverHTTP(t *testing.T) {
	var digests []string
	for _, tt := range []struct {
		name    string
		server  fakeserver.Config
		options string
	}{
		{"vllm", fakeserver.Config{GreedyRefusesN: true}, `{}`},
		{"vila", fakeserver.Config{VILA: true}, `{prefix: "", n: "no", seed: "no"}`},
	} {
		s, err := fakeserver.Start(tt.server)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		dir := t.TempDir()
		recipe := writeFile(t, dir, "recipe.yaml", fmt.Sprintf(`extends: demo
name: http
models:
  teacher: {backend: openai, model: VILA1.5-40b, revision: "1", endpoint: %q, concurrency: 8, options: %s}
teacher: {temperature: 0, retries: 0}
gates: {max_dead_fraction: 1}
`, s.URL, tt.options))
		args := []string{"evaluation", "--recipe", recipe, "--out", dir + "/out", "--allow-short", "--json", "--quiet"}
		first := succeed(t, args...)
		if first.Rows[evaluation.Rows] < 50 || first.Calls.Chat == 0 {
			t.Errorf("%s: rows %v, calls %v", tt.name, first.Rows, first.Calls)
		}
		again := succeed(t, append(args, "--run-id", "again")...)
		if again.Digest != first.Digest || again.Calls.Chat != 0 {
			t.Errorf("%s: a second run has digest %s and %d calls, the first had %s", tt.name, again.Digest, again.Calls.Chat, first.Digest)
		}
		digests = append(digests, first.Digest)
	}
	if digests[0] != digests[1] {
		t.Errorf("digests %v", digests)
	}
}

// A missed target is exit code 3.
func TestMissedTarget(t *testing.T) {
	cmd := command(t, "sft", "--recipe", "demo", "--out", "out", "--set", "sft.parts=[rewrite]", "--set", "sft.rewrite_rows=5000", "--quiet")
	if err := cmd.Run(); cmd.ProcessState.ExitCode() != exitGate {
		t.Errorf("exit code %d: %v; %v is a gate", cmd.ProcessState.ExitCode(), err, snapshot.ErrGate)
	}
}
