package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/promptmill/promptmill/model/modeltest/fakeserver"
	"github.com/promptmill/promptmill/model/responselog"
	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/transforms/snapshot"
)

// inFlight is the limit that the recipes of these tests put on requests to the server.
const inFlight = 8

// served writes a recipe for the main job on n prompts with all models at url, and returns its path.
// extra are further lines of YAML.
func served(t *testing.T, url string, n int, extra string) string {
	t.Helper()
	dir := t.TempDir()
	prompts := writeFile(t, dir, "prompts.txt", promptLines(n))
	spec := func(more string) string {
		return fmt.Sprintf("{backend: openai, model: fake, revision: \"1\", endpoint: %q, concurrency: %d%s}", url, inFlight, more)
	}
	chat := spec(`, options: {probe: "off", n: "yes"}`)
	return writeFile(t, dir, "recipe.yaml", fmt.Sprintf(`extends: demo
prompts:
  inputs:
    - {name: own, path: %q}
dedup:
  mode: exact
select:
  prompts: 0
models:
  policy: %s
  images: %s
  judge: %s
%s`, prompts, chat, spec(""), chat, extra))
}

// promptLines is n different short prompts, a line each.
func promptLines(n int) string {
	things := strings.Fields("lighthouse fox castle robot dragon violin garden ship owl train teapot mountain")
	places := []string{"in the fog", "under water", "on the moon", "at dawn"}
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "a %s %s\n", things[i%len(things)], places[i/len(things)%len(places)])
	}
	return b.String()
}

func openStore(t *testing.T, dir string) store.Store {
	t.Helper()
	st, err := store.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// A process is promptmill under way.
type process struct {
	*exec.Cmd
	stdout, stderr bytes.Buffer
	// ended is closed when the process is gone and err, how, is set.
	ended chan struct{}
	err   error
}

func start(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{Cmd: command(t, args...), ended: make(chan struct{})}
	p.Stdout, p.Stderr = &p.stdout, &p.stderr
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		_ = p.Process.Kill() // most have ended
		<-p.ended
	})
	return p
}

// code waits for the end and returns the exit code, -1 after a signal.
func (p *process) code() int {
	<-p.ended
	return p.ProcessState.ExitCode()
}

// summary is the JSON line of a process that succeeded.
func (p *process) summary(t *testing.T) summary {
	t.Helper()
	if p.code() != exitDone {
		t.Fatalf("%v: %v\n%s", p.Args[1:], p.err, p.stderr.String())
	}
	lines := strings.Split(strings.TrimSpace(p.stdout.String()), "\n")
	var s summary
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &s); err != nil {
		t.Fatalf("%v: last line: %v\n%s", p.Args[1:], err, p.stdout.String())
	}
	return s
}

// await polls until ready, the end of the process (false), or a time that no healthy run takes.
func (p *process) await(t *testing.T, what string, ready func() bool) bool {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ready(); time.Sleep(200 * time.Microsecond) {
		select {
		case <-p.ended:
			return false
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v: no %s", p.Args[1:], what)
		}
	}
	return true
}

// wantWhole checks that every version of the preference set that readers can see, and every run that
// has a manifest, is there with all of its rows.
func wantWhole(ctx context.Context, st store.Store) error {
	versions, err := snapshot.Versions(ctx, st, "preference")
	if err != nil {
		return err
	}
	refs := []string{}
	for _, v := range versions {
		refs = append(refs, fmt.Sprint(v.Version))
	}
	if _, _, err := st.Read(ctx, "preference/LATEST"); err == nil {
		refs = append(refs, "latest")
	} else if !errors.Is(err, store.ErrNotExist) {
		return err
	}
	for info, err := range st.List(ctx, "preference/runs/") {
		if err != nil {
			return err
		}
		if path.Base(info.Name) == "manifest.json" {
			refs = append(refs, path.Base(path.Dir(info.Name)))
		}
	}
	for _, ref := range refs {
		m, err := snapshot.Load(ctx, st, "preference", ref)
		if err == nil {
			err = snapshot.Verify(ctx, st, m)
		}
		if err != nil {
			return fmt.Errorf("%s is visible and not whole: %w", ref, err)
		}
	}
	return nil
}

// read is a reader that looks at the store until stop, which returns how often it looked.
func read(t *testing.T, dir string) (stop func() int64) {
	t.Helper()
	st := openStore(t, dir)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var looks atomic.Int64
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			if err := wantWhole(context.WithoutCancel(ctx), st); err != nil {
				t.Error(err)
				return
			}
			looks.Add(1)
			time.Sleep(3 * time.Millisecond)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return func() int64 { cancel(); wg.Wait(); return looks.Load() }
}

// The process is killed twenty times, from before its first call to after its commit, and each time the
// same command goes on. In the end the rows are those of a run that nothing disturbed, no reader ever
// saw a part of them, and no more calls were made twice than were in flight when a kill came.
func TestKill(t *testing.T) {
	const kills, prompts = 20, 24
	server := fakeserver.New(t, fakeserver.Config{Slots: inFlight, Latency: 8 * time.Millisecond})
	recipe := served(t, server.URL, prompts, "")
	job := func(out string, more ...string) []string {
		return append([]string{"preference", "--recipe", recipe, "--logical-date", "2026-01-31", "--json", "--quiet", "--out", out}, more...)
	}

	calm := t.TempDir()
	want := succeed(t, job(calm)...)
	undisturbed := server.Stats()
	if undisturbed.Repeated != 0 || undisturbed.Calls != int(want.Calls.Chat+want.Calls.Image) || undisturbed.MaxInFlight > inFlight {
		t.Fatalf("undisturbed: the job counts %+v, the server %+v", want.Calls, undisturbed)
	}
	cached := succeed(t, job(calm, "--run-id", "cached")...)
	if cached.Digest != want.Digest || cached.Calls != (calls{}) {
		t.Fatalf("undisturbed, again: %+v", cached)
	}

	server.ResetStats()
	out := t.TempDir()
	stop := read(t, out)
	rng := rand.New(rand.NewPCG(7, 11))
	// Three quarters come at random numbers of calls made, the rest at random times of a run that has
	// every answer already: it starts, reads the log, writes shards, commits and publishes.
	var moments []float64
	for range kills {
		moments = append(moments, rng.Float64())
	}
	const amid = kills * 3 / 4
	slices.Sort(moments[:amid])
	slices.Sort(moments[amid:])
	runID, published := "", 0
	most, inLog := 0, 0
	for i := 0; i < kills; {
		args := job(out)
		if runID != "" {
			args = append(args, "--run-id", runID)
		}
		before := server.Stats()
		p := start(t, args...)
		if i < amid {
			target := int(moments[i] * float64(undisturbed.Distinct))
			p.await(t, "calls", func() bool { return server.Stats().Distinct >= target })
			time.Sleep(time.Duration(rng.IntN(10)) * time.Millisecond)
		} else {
			wait := time.Duration((0.2 + 0.8*moments[i]) * cached.WallS * float64(time.Second))
			select {
			case <-p.ended:
			case <-time.After(wait):
			}
		}
		if err := p.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
		if p.code() == -1 {
			i++
		} else {
			// It was faster than we: the rest of the kills are for another run.
			if s := p.summary(t); s.Digest != want.Digest {
				t.Errorf("after %d kills: digest %s, want %s", i, s.Digest, want.Digest)
			}
			published++
			runID = fmt.Sprintf("more-%d", published)
		}
		// What was sent and is not in the log was in flight. What the dead process wrote to its sockets
		// still arrives.
		time.Sleep(20 * time.Millisecond)
		after, now := server.Stats(), kept(t, out)
		lost := after.Calls - before.Calls - (now - inLog)
		most, inLog = max(most, lost), now
		if lost > inFlight {
			t.Errorf("kill %d: of %d calls %d are not in the log, %d may be in flight", i, after.Calls-before.Calls, lost, inFlight)
		}
	}
	args := job(out)
	if runID != "" {
		args = append(args, "--run-id", runID)
	}
	got := start(t, args...).summary(t)
	looks := stop()
	stats := server.Stats()
	t.Logf("%d kills, %d runs published, %d looks of a reader; %d calls, at most %d lost by a kill, %d sent again, %d answered twice; undisturbed %.1f s, from the log %.1f s",
		kills, published+1, looks, stats.Calls, most, stats.Repeated, stats.PaidTwice, want.WallS, cached.WallS)
	if got.Digest != want.Digest || !maps.Equal(got.Rows, want.Rows) {
		t.Errorf("rows %v, digest %s; undisturbed %v, %s", got.Rows, got.Digest, want.Rows, want.Digest)
	}
	if stats.PaidTwice > kills*inFlight || stats.Repeated > kills*inFlight {
		t.Errorf("%d calls sent twice and %d answered twice after %d kills with %d in flight", stats.Repeated, stats.PaidTwice, kills, inFlight)
	}
	if stats.Distinct != undisturbed.Distinct {
		t.Errorf("%d different calls, undisturbed %d", stats.Distinct, undisturbed.Distinct)
	}
	if err := wantWhole(t.Context(), openStore(t, out)); err != nil {
		t.Error(err)
	}
}

// kept is the number of calls whose answers are in the response log that a dead process left.
func kept(t *testing.T, out string) int {
	t.Helper()
	copied := t.TempDir() // opening a log tidies it up: that is for the next process to do
	err := os.CopyFS(filepath.Join(copied, "responses"), os.DirFS(filepath.Join(out, "cache", "responses")))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	log, err := responselog.New(t.Context(), openStore(t, copied))
	if err != nil {
		t.Fatal(err)
	}
	n := log.Stats().Calls
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	return n
}

// Ctrl-C ends the job with a code of its own; the same command goes on.
func TestInterrupt(t *testing.T) {
	const prompts = 12
	server := fakeserver.New(t, fakeserver.Config{Slots: inFlight, Latency: 8 * time.Millisecond})
	recipe := served(t, server.URL, prompts, "")
	out := t.TempDir()
	args := []string{"preference", "--recipe", recipe, "--out", out, "--json", "--quiet"}
	p := start(t, args...)
	if !p.await(t, "half of the calls", func() bool { return server.Stats().OK >= prompts*34/2 }) {
		t.Fatalf("ended early: %v\n%s", p.err, p.stderr.String())
	}
	asked := time.Now()
	if err := p.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	code := p.code()
	took := time.Since(asked)
	if code != exitInterrupted || !strings.Contains(p.stderr.String(), "interrupted: paid answers are kept") {
		t.Errorf("exit code %d, %q", code, p.stderr.String())
	}
	if took > 10*time.Second {
		t.Errorf("it took %v to stop", took)
	}
	if v, err := snapshot.Versions(t.Context(), openStore(t, out), "preference"); err != nil || len(v) > 0 {
		t.Errorf("published %v, %v", v, err)
	}
	got := start(t, args...).summary(t)
	stats := server.Stats()
	t.Logf("stopped after %v; %d calls, %d sent again, %d answered twice", took, stats.Calls, stats.Repeated, stats.PaidTwice)
	if stats.Repeated > inFlight {
		t.Errorf("%d calls sent again, %d were in flight at most", stats.Repeated, inFlight)
	}
	if got.CacheHits == 0 {
		t.Error("no answer came from the response log")
	}
	if want := succeed(t, "preference", "--recipe", recipe, "--out", t.TempDir(), "--json", "--quiet"); got.Digest != want.Digest {
		t.Errorf("digest %s, undisturbed %s", got.Digest, want.Digest)
	}
}

// Two people give the same command at once: one works, the other is told so or finds the result.
func TestSameCommandTwice(t *testing.T) {
	server := fakeserver.New(t, fakeserver.Config{Slots: inFlight, Latency: 8 * time.Millisecond})
	recipe := served(t, server.URL, 12, "")
	out := t.TempDir()
	stop := read(t, out)
	args := []string{"preference", "--recipe", recipe, "--out", out, "--json", "--quiet"}
	both := []*process{start(t, args...), start(t, args...)}
	var done, told int
	for _, p := range both {
		switch code := p.code(); {
		case code == exitDone:
			done++
		case code == exitFailed && strings.Contains(p.stderr.String(), "under way in another process"):
			told++
		default:
			t.Errorf("exit code %d: %s", code, p.stderr.String())
		}
	}
	if done == 0 {
		t.Errorf("%d done, %d told to wait", done, told)
	}
	got := start(t, args...).summary(t)
	stop()
	stats := server.Stats()
	t.Logf("%d done, %d told to wait; %d calls, %d sent again", done, told, stats.Calls, stats.Repeated)
	if stats.Repeated > 0 || got.Calls != (calls{}) {
		t.Errorf("%d calls sent again, the last command made %+v", stats.Repeated, got.Calls)
	}
	if v, err := snapshot.Versions(t.Context(), openStore(t, out), "preference"); err != nil || len(v) != 1 {
		t.Errorf("published %v, %v; want one version", v, err)
	}
	if want := succeed(t, "preference", "--recipe", recipe, "--out", t.TempDir(), "--json", "--quiet"); got.Digest != want.Digest {
		t.Errorf("digest %s, alone %s", got.Digest, want.Digest)
	}
}

// Two runs on one store and one response log at once: both are published, or one is told that it lost
// the race and is published when it tries again.
func TestTwoRunsAtOnce(t *testing.T) {
	server := fakeserver.New(t, fakeserver.Config{Slots: 2 * inFlight, Latency: 8 * time.Millisecond})
	recipe := served(t, server.URL, 12, "")
	out := t.TempDir()
	args := func(id string) []string {
		return []string{"preference", "--recipe", recipe, "--out", out, "--json", "--quiet", "--run-id", id}
	}
	stop := read(t, out)
	both := []*process{start(t, args("one")...), start(t, args("two")...)}
	var digests []string
	for i, p := range both {
		if p.code() == exitLostRace {
			if !strings.Contains(p.stderr.String(), "another run published first") || !strings.Contains(p.stderr.String(), "run the same command again") {
				t.Errorf("exit code %d: %s", p.code(), p.stderr.String())
			}
			t.Logf("run %s: %s", []string{"one", "two"}[i], p.stderr.String())
			p = start(t, args([]string{"one", "two"}[i])...)
		}
		digests = append(digests, p.summary(t).Digest)
	}
	stop()
	if digests[0] != digests[1] {
		t.Errorf("digests %v", digests)
	}
	st := openStore(t, out)
	versions, err := snapshot.Versions(t.Context(), st, "preference")
	if err != nil || len(versions) != 2 {
		t.Errorf("published %v, %v; want two versions", versions, err)
	}
	if err := wantWhole(t.Context(), st); err != nil {
		t.Error(err)
	}
	for v := range versions {
		p := start(t, "verify", "--out", out, "--version", fmt.Sprint(v+1))
		if p.code() != exitDone {
			t.Errorf("verify: %s", p.stderr.String())
		}
	}
	t.Logf("%d calls, %d sent by both", server.Stats().Calls, server.Stats().Repeated)
}
