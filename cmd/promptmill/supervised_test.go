package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/promptmill/promptmill/model/modeltest/fakeserver"
	"github.com/promptmill/promptmill/pipelines/evaluation"
	"github.com/promptmill/promptmill/pipelines/judgment"
	"github.com/promptmill/promptmill/transforms/audit"
	"github.com/promptmill/promptmill/transforms/snapshot"
	"github.com/promptmill/promptmill/transforms/template"
)

// Teachers behind the two wire formats that give equal answers make equal sets, and a second run asks neither. The
// judge's own answers are compared with theirs.
func TestTeachersOverHTTP(t *testing.T) {
	digests := map[string][]string{}
	for _, tt := range []struct {
		name    string
		server  fakeserver.Config
		options string
	}{
		{"vllm", fakeserver.Config{GreedyRefusesN: true}, `{}`},
		{"vila", fakeserver.Config{VILA: true}, `{prefix: "", n: "no", seed: "no"}`},
	} {
		s := fakeserver.New(t, tt.server)
		dir := t.TempDir()
		recipe := writeFile(t, dir, "recipe.yaml", fmt.Sprintf(`extends: demo
name: http
templates: {set: paper}
models:
  judge: {backend: scene}
  teacher: {backend: openai, model: VILA1.5-40b, revision: "1", endpoint: %q, concurrency: 8, options: %s}
teacher: {temperature: 0, retries: 0}
gates: {max_dead_fraction: 1}
`, s.URL, tt.options))
		for _, set := range []struct {
			name string
			rows int64
		}{{evaluation.Rows, 50}, {judgment.Rows, 20}} {
			args := []string{set.name, "--recipe", recipe, "--out", dir + "/out", "--allow-short", "--json", "--quiet"}
			first := succeed(t, args...)
			if first.Rows[set.name] < set.rows || first.Calls.Chat == 0 {
				t.Errorf("%s, %s: rows %v, calls %v", tt.name, set.name, first.Rows, first.Calls)
			}
			again := succeed(t, append(args, "--run-id", "again")...)
			if again.Digest != first.Digest || again.Calls.Chat != 0 {
				t.Errorf("%s, %s: a second run has digest %s and %d calls, the first had %s", tt.name, set.name, again.Digest, again.Calls.Chat, first.Digest)
			}
			digests[set.name] = append(digests[set.name], first.Digest)
		}
		auditAnswers(t, recipe, dir+"/out")
	}
	for set, of := range digests {
		if of[0] != of[1] {
			t.Errorf("%s: digests %v", set, of)
		}
	}
}

// auditAnswers wants the judge's own answers compared with as many of the teacher's as are asked for.
func auditAnswers(t *testing.T, recipe, out string) {
	t.Helper()
	const answers = 30
	cmd := command(t, "audit", "--recipe", recipe, "--out", out, "--allow-short", "--answers", fmt.Sprint(answers), "--json", "--quiet")
	text, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Report audit.Report `json:"report"`
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	var contests, verdicts int64
	for _, a := range got.Report.Aspects {
		own := a.Own.Won + a.Own.Lost + a.Own.Tied
		if of, ok := strings.CutPrefix(a.Aspect, template.Judgment); !ok && own != 0 || ok && of == "" {
			t.Errorf("aspect %s has %d contests", a.Aspect, own)
		}
		if strings.HasPrefix(a.Aspect, template.Judgment) {
			contests += own
			verdicts += a.Read
			for _, n := range a.Faults {
				verdicts += n
			}
		}
	}
	if verdicts == 0 || verdicts > 2*answers || contests == 0 || contests > verdicts {
		t.Errorf("%d contests in %d verdicts on %d pairs of answers", contests, verdicts, answers)
	}
}

// A missed target is exit code 3.
func TestMissedTarget(t *testing.T) {
	cmd := command(t, "sft", "--recipe", "demo", "--out", "out", "--set", "sft.parts=[rewrite]", "--set", "sft.rewrite_rows=5000", "--quiet")
	if err := cmd.Run(); cmd.ProcessState.ExitCode() != exitGate {
		t.Errorf("exit code %d: %v; %v is a gate", cmd.ProcessState.ExitCode(), err, snapshot.ErrGate)
	}
}
