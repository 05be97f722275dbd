package onnx_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/promptmill/promptmill/model/onnx"
)

// opening names a folder whose models a child process opens and runs: files that may crash it.
const opening = "PROMPTMILL_TEST_OPEN"

func TestMain(m *testing.M) {
	if dir := os.Getenv(opening); dir != "" {
		if err := onnx.Start(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		openAll(dir)
		return
	}
	os.Exit(m.Run())
}

// openAll opens each file of a folder, runs what opens, and says so.
func openAll(dir string) {
	files, err := os.ReadDir(dir)
	if err != nil {
		panic(err)
	}
	for _, f := range files {
		start := time.Now()
		outcome := "refused"
		if s, err := onnx.Open(filepath.Join(dir, f.Name()), onnx.Options{}); err == nil {
			outcome = "opened"
			if x, err := onnx.NewTensor([]float32{1, 2}, 1, 2); err == nil {
				_, _ = s.Run(context.Background(), []*onnx.Tensor{x})
			}
			s.Close()
		} else if !strings.Contains(err.Error(), f.Name()) {
			outcome = "refused without a name: " + err.Error()
		}
		fmt.Println(f.Name(), outcome, time.Since(start).Milliseconds())
	}
}

// Damaged files, each at a random place, bring nothing down and are answered within a second.
func TestHostileFiles(t *testing.T) {
	dir := t.TempDir()
	good := affine().Marshal()
	rng := rand.New(rand.NewPCG(1, 2))
	const n = 400
	for i := range n {
		data := append([]byte(nil), good...)
		switch i % 4 {
		case 0:
			data = data[:rng.IntN(len(data))]
		case 1:
			data[rng.IntN(len(data))] ^= 1 << rng.IntN(8)
		case 2:
			for range 8 {
				data[rng.IntN(len(data))] = byte(rng.Uint32())
			}
		case 3: // a piece twice
			from := rng.IntN(len(data))
			to := from + rng.IntN(len(data)-from)
			data = append(data[:to:to], data[from:]...)
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("m%03d.onnx", i)), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), opening+"="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("a file brought the process down: %v\n%s", err, out)
	}
	refused, lines := 0, 0
	for line := range strings.Lines(string(out)) {
		var name, outcome string
		var ms int
		if _, err := fmt.Sscan(line, &name, &outcome, &ms); err != nil {
			continue // the runtime's own log
		}
		lines++
		if outcome == "refused" {
			refused++
		} else if outcome != "opened" {
			t.Error(line)
		}
		if ms > 1000 {
			t.Errorf("%s took %d ms", name, ms)
		}
	}
	if lines != n || refused < n/2 {
		t.Errorf("%d of %d files answered, %d refused\n%s", lines, n, refused, out)
	}
}

// Without the library, or with a file that is no library, the error says how to get it.
func TestNoLibrary(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "libonnxruntime.so")
	if err := os.WriteFile(bad, []byte("no library"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ variable, want string }{
		"named but absent": {"/nowhere/libonnxruntime.so", "correct it, or unset it"},
		"not a library":    {bad, "must be for"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), opening+"="+t.TempDir(), onnx.LibraryVariable+"="+c.variable)
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), c.want) {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	t.Run("nowhere", func(t *testing.T) {
		t.Setenv(onnx.LibraryVariable, "")
		t.Setenv("XDG_CACHE_HOME", t.TempDir())
		if path, err := onnx.Find(); err != nil && (!errors.Is(err, onnx.ErrLibrary) || !strings.Contains(err.Error(), "promptmill doctor --install")) {
			t.Errorf("found %s, %v", path, err)
		}
	})
}

// The runtime leaves nothing in the home of whoever runs it: published builds keep a database there and send it home.
func TestNothingAtHome(t *testing.T) {
	library, err := onnx.Find()
	if err != nil {
		t.Skipf("not executed: %v", err)
	}
	home, models := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(models, "m.onnx"), affine().Marshal(), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), opening+"="+models, onnx.LibraryVariable+"="+library, "HOME="+home, "XDG_CACHE_HOME=", "XDG_DATA_HOME=")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "opened") {
		t.Fatalf("%v\n%s", err, out)
	}
	if left, err := os.ReadDir(home); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

// Install says which tools it tried and what else can be done, and takes only the package that was pinned.
func TestInstallFails(t *testing.T) {
	tools := t.TempDir()
	t.Setenv("PATH", tools)
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	_, err := onnx.Install(t.Context())
	if !errors.Is(err, onnx.ErrLibrary) || !strings.Contains(err.Error(), "npm: not found") || !strings.Contains(err.Error(), "--models scene") {
		t.Errorf("no tool: %v", err)
	}
	script := "#!/bin/sh\necho wrong > onnxruntime-1-x.whl\n"
	if err := os.WriteFile(filepath.Join(tools, "pip3"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := onnx.Install(t.Context()); err == nil || !strings.Contains(err.Error(), "not the package that was published") {
		t.Errorf("another package: %v", err)
	}
}
