package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/promptmill/promptmill/model/onnx"
)

// asCommand makes the test binary behave as promptmill: tests that kill it run it as a process.
const asCommand = "PROMPTMILL_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
		return
	}
	testscript.Main(m, map[string]func(){"promptmill": main})
}

func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			// Scripts have a home of their own; the library stays where it is installed.
			library, err := onnx.Find()
			env.Setenv(onnx.LibraryVariable, library)
			return err
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"jsonfield": jsonField,
			"same":      same,
		},
	})
}

// jsonField: jsonfield FILE PATH WANT compares a field (dots between keys) of the last line of FILE, which
// is JSON, with WANT.
func jsonField(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: jsonfield file path want")
	}
	got := field(ts, args[0], args[1])
	if (got == args[2]) == neg {
		ts.Fatalf("%s of %s is %s, want %s", args[1], args[0], got, args[2])
	}
}

// same: same FILE1 FILE2 PATH compares a field of two JSON lines.
func same(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: same file1 file2 path")
	}
	a, b := field(ts, args[0], args[2]), field(ts, args[1], args[2])
	if (a == b) == neg {
		ts.Fatalf("%s: %s in %s, %s in %s", args[2], a, args[0], b, args[1])
	}
}

func field(ts *testscript.TestScript, file, path string) string {
	lines := strings.Split(strings.TrimSpace(ts.ReadFile(file)), "\n")
	var v any
	ts.Check(json.Unmarshal([]byte(lines[len(lines)-1]), &v))
	for key := range strings.SplitSeq(path, ".") {
		m, ok := v.(map[string]any)
		if !ok {
			ts.Fatalf("%s has no %s", file, path)
		}
		if v, ok = m[key]; !ok {
			ts.Fatalf("%s has no %s: %s", file, path, lines[len(lines)-1])
		}
	}
	if s, ok := v.(string); ok {
		return s
	}
	b, err := json.Marshal(v)
	ts.Check(err)
	return string(b)
}

// command is promptmill as a process of its own.
func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), asCommand+"=1")
	cmd.Dir = t.TempDir()
	return cmd
}

// succeed runs promptmill to its end and returns the JSON line that it ends with.
func succeed(t *testing.T, args ...string) summary {
	t.Helper()
	cmd := command(t, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("promptmill %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	var s summary
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &s); err != nil {
		t.Fatalf("promptmill %s: last line: %v\n%s", strings.Join(args, " "), err, out)
	}
	return s
}

// writeFile puts a file below dir and returns its path.
func writeFile(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
