//go:build engines

package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// sets are the commands whose rows have to be the same on every engine, each on few prompts. A later one
// reads what an earlier one made.
func sets(t *testing.T) [][]string {
	t.Helper()
	var lines strings.Builder
	for i := range 60 {
		fmt.Fprintf(&lines, "a lighthouse number %d in the fog\n", i)
	}
	prompts := writeFile(t, t.TempDir(), "prompts.txt", lines.String())
	common := []string{"--recipe", "demo", "--models", "scene", "--logical-date", "2026-01-31", "--json", "--quiet"}
	for i := range 3 {
		common = append(common, "--set", fmt.Sprintf("evaluation.parts[%d].rows=8", i),
			"--set", fmt.Sprintf("evaluation.parts[%d].oracle.prompts.inputs=[{name: facts, path: %q}]", i, prompts))
	}
	common = append(common, "--set", "judgment.rows={aesthetic: 3, pick: 3, alignment: 3}", "--set", "sft.rewrite_rows=64", "--set", "select.prompts=16")
	var all [][]string
	for _, set := range []string{"preference", "evaluation", "sft"} {
		all = append(all, append([]string{set}, common...))
	}
	return all
}

// everywhere runs the sets in process and in each of the ways, which are flags by name, and compares.
func everywhere(t *testing.T, ways map[string][]string) {
	t.Helper()
	commands, home := sets(t), t.TempDir()
	var want []summary
	for _, args := range commands {
		s := succeed(t, append(args, "--out", home)...)
		if len(s.Rows) == 0 {
			t.Fatalf("%s made no rows: nothing is compared", args[0])
		}
		want = append(want, s)
	}
	for _, way := range slices.Sorted(maps.Keys(ways)) {
		t.Run(way, func(t *testing.T) {
			out := t.TempDir()
			for i, args := range commands {
				got := succeed(t, slices.Concat(args, ways[way], []string{"--out", out})...)
				t.Run(args[0], func(t *testing.T) { sameRows(t, got, want[i]) })
				if fmt.Sprint(got.Calls) != fmt.Sprint(want[i].Calls) {
					t.Errorf("%s: calls %v, in process %v", args[0], got.Calls, want[i].Calls)
				}
				t.Logf("%s: %.1f s, in process %.1f s; rows %v", args[0], got.WallS, want[i].WallS, got.Rows)
			}
		})
	}
}

// sameRows compares digest and ledger.
func sameRows(t *testing.T, got, want summary) {
	t.Helper()
	if got.Digest != want.Digest {
		t.Errorf("digest %s, in process %s", got.Digest, want.Digest)
	}
	if fmt.Sprint(got.Rows, got.Dead, got.Filtered) != fmt.Sprint(want.Rows, want.Dead, want.Filtered) {
		t.Errorf("ledger %v %v %v, in process %v %v %v", got.Rows, got.Dead, got.Filtered, want.Rows, want.Dead, want.Filtered)
	}
}

// TestEngines: preference, evaluation and the mixture have the same rows on Beam's serial runner and on a
// separate job server as in process.
func TestEngines(t *testing.T) {
	endpoint := jobServer(t)
	server := func(engine ...string) []string {
		var out []string
		for _, e := range append([]string{"endpoint=" + endpoint, workerEnv}, engine...) {
			out = append(out, "--set", "engine."+e)
		}
		return out
	}
	everywhere(t, map[string][]string{
		"direct":              {"--runner", "direct"},
		"job server, process": server("environment=process"),
		"job server, pool":    server("environment=external", "worker_pool="+startPool(t)),
	})
}

// TestSparkScript: without Beam's job server the script says so and leaves nothing behind.
func TestSparkScript(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spark")
	cmd := command(t)
	cmd.Path, cmd.Args = "../../runners/spark/local.sh", []string{"local.sh", "up", dir}
	self, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Dir = self
	cmd.Env = append(os.Environ(), "JOB_SERVER_JAR=", "JOB_SERVER_MAVEN=")
	out, err := cmd.CombinedOutput()
	if err == nil || strings.Count(string(out), "set JOB_SERVER_JAR or JOB_SERVER_MAVEN") != 1 {
		t.Errorf("%v: %s", err, out)
	}
	if _, err := os.Stat(filepath.Join(dir, "pids")); err == nil {
		t.Error("a file of processes was left behind")
	}
}
