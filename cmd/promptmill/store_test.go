package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/promptmill/promptmill/runners"
	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/store/storetest"
)

var initRunners = sync.OnceFunc(runners.Init)

// tiny is the arguments of a main job that writes one of everything and little of it.
func tiny(t *testing.T, out string) []string {
	t.Helper()
	prompts := writeFile(t, t.TempDir(), "prompts.txt", promptLines(2))
	return append(tinyOn(prompts), "--out", out)
}

func tinyOn(prompts string) []string {
	return []string{
		"preference", "--recipe", "demo", "--json", "--quiet", "--logical-date", "2026-01-31",
		"--set", fmt.Sprintf("prompts.inputs=[{name: own, path: %q}]", prompts), "--set", "dedup.mode=exact",
		"--set", "rewrite.candidates=2", "--set", "judge.aspects=[aesthetic]", "--set", "judge.samples=1", "--set", "prefer.min_samples=1",
	}
}

// inProcess runs a command line here, because its store is here, and returns exit code and output.
func inProcess(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	initRunners()
	var o bytes.Buffer
	var e logs
	root := newRoot(&o, &e)
	root.SetArgs(args)
	code = explain(&e, root.ExecuteContext(t.Context()))
	return code, o.String(), e.String()
}

// logs takes what the engine still says after its job has ended, beside the test that reads it.
type logs struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// A disk is a store of which some writes fail.
type disk struct {
	store.Store // with the failures
	inner       store.Store
	writes      atomic.Int64
	// broken says whether the n-th write fails, and how.
	broken atomic.Pointer[func(n int64) error]
	failed atomic.Int64
	// first is the first write that failed.
	mu    sync.Mutex
	first string
}

var writes = []string{"put", "create", "write", "commit", "cas", "sync", "append", "append_write", "append_sync"}

func newDisk(t *testing.T) *disk {
	t.Helper()
	d := &disk{inner: openStore(t, t.TempDir())}
	d.Store = storetest.Faulty(d.inner, func(op, name string) error {
		broken := d.broken.Load()
		if broken == nil || !slices.Contains(writes, op) {
			return nil
		}
		err := (*broken)(d.writes.Add(1))
		if err == nil {
			return nil
		}
		if d.failed.Add(1) == 1 {
			d.mu.Lock()
			d.first = op + " " + name
			d.mu.Unlock()
		}
		return fmt.Errorf("%s %s: %w", op, name, err)
	})
	return d
}

// fails makes the writes fail that broken names; nil mends the disk.
func (d *disk) fails(broken func(n int64) error) {
	if broken == nil {
		d.broken.Store(nil)
		return
	}
	d.broken.Store(&broken)
}

// wantNoHalfFiles checks that every file of data that a reader may come upon is whole.
func wantNoHalfFiles(t *testing.T, st store.Store) {
	t.Helper()
	if err := wantWhole(t.Context(), st); err != nil {
		t.Error(err)
	}
	for info, err := range st.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(info.Name, ".parquet") {
			continue
		}
		data, _, err := st.Read(t.Context(), info.Name)
		if err != nil || !bytes.HasPrefix(data, []byte("PAR1")) || !bytes.HasSuffix(data, []byte("PAR1")) {
			t.Errorf("%s is half a file: %d bytes, %v", info.Name, len(data), err)
		}
	}
}

func lastLine(t *testing.T, out string) (s summary) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &s); err != nil {
		t.Fatalf("last line: %v\n%s", err, out)
	}
	return s
}

// The disk is full at each write in turn, for good or for that write alone. The command says so and
// publishes nothing; when there is room the same command ends as if nothing had happened.
func TestNoSpaceLeft(t *testing.T) {
	healthy := newDisk(t)
	args := tiny(t, healthy.URL())
	healthy.fails(func(int64) error { return nil }) // counts
	code, stdout, stderr := inProcess(t, args...)
	if code != exitDone {
		t.Fatalf("healthy: exit code %d\n%s", code, stderr)
	}
	want := lastLine(t, stdout)
	if want.Rows["candidates"] != 4 {
		t.Fatalf("healthy: %v", want.Rows)
	}
	for name, full := range map[string]func(k int64) func(n int64) error{
		"for good": func(k int64) func(int64) error {
			return func(n int64) error {
				if n >= k {
					return syscall.ENOSPC
				}
				return nil
			}
		},
		"once": func(k int64) func(int64) error {
			return func(n int64) error {
				if n == k {
					return syscall.ENOSPC
				}
				return nil
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			var borne []string
			k := int64(1)
			for ; ; k++ {
				d := newDisk(t)
				d.fails(full(k))
				args[len(args)-1] = d.URL()
				code, stdout, stderr := inProcess(t, args...)
				d.fails(nil)
				if d.failed.Load() == 0 {
					if code != exitDone || lastLine(t, stdout).Digest != want.Digest {
						t.Errorf("no write failed: exit code %d\n%s", code, stderr)
					}
					break
				}
				wantNoHalfFiles(t, d.inner)
				switch {
				case code == exitDone && name == "once" && lastLine(t, stdout).Digest == want.Digest:
					borne = append(borne, d.first) // tried again, and it went well
				case code != exitFailed || !strings.Contains(stderr, "no space left"):
					t.Errorf("write %d (%s): exit code %d: %s%s", k, d.first, code, stdout, stderr)
				}
				code, stdout, stderr = inProcess(t, args...)
				if code != exitDone {
					t.Errorf("write %d (%s), then with room: exit code %d: %s", k, d.first, code, stderr)
					continue
				}
				if got := lastLine(t, stdout); got.Digest != want.Digest || got.RunID != want.RunID {
					t.Errorf("write %d (%s), then with room: run %s, digest %s; want %s, %s", k, d.first, got.RunID, got.Digest, want.RunID, want.Digest)
				}
				wantNoHalfFiles(t, d.inner)
			}
			t.Logf("%d writes; borne: %q", k-1, borne)
		})
	}
}

// A disk that takes no write at all ends the command at once.
func TestReadOnly(t *testing.T) {
	d := newDisk(t)
	d.fails(func(int64) error { return syscall.EROFS })
	args := tiny(t, d.URL())
	code, stdout, stderr := inProcess(t, args...)
	if code != exitFailed || !strings.Contains(stderr, "read-only file system") || stdout != "" {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	for info, err := range d.inner.List(t.Context(), "") {
		t.Errorf("it wrote %s, %v", info.Name, err)
	}
	d.fails(nil)
	if code, _, stderr := inProcess(t, args...); code != exitDone {
		t.Errorf("writable again: exit code %d: %s", code, stderr)
	}
}
