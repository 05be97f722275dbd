package snapshot_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/store/storetest"
	"github.com/promptmill/promptmill/transforms/snapshot"
)

func mustPublish(t *testing.T, st store.Store, m snapshot.Manifest, parent, want int) {
	t.Helper()
	if v, err := snapshot.Publish(t.Context(), st, m, parent); err != nil || v != want {
		t.Fatalf("publish %s after %d: version %d, %v; want %d", m.RunID, parent, v, err, want)
	}
}

// wantLatest checks that readers see version and run, whole.
func wantLatest(t *testing.T, st store.Store, version int, run string) {
	t.Helper()
	m, v, err := snapshot.Latest(t.Context(), st, set)
	if err != nil || v != version || m.RunID != run {
		t.Fatalf("latest is version %d, run %s, %v; want version %d, run %s", v, m.RunID, err, version, run)
	}
	if err := snapshot.Verify(t.Context(), st, m); err != nil {
		t.Fatal(err)
	}
}

func TestPublish(t *testing.T) {
	st, ctx := local(t), t.Context()
	if _, _, err := snapshot.Latest(ctx, st, set); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("latest of nothing: %v", err)
	}
	if n, err := snapshot.Newest(ctx, st, set); n != 0 || err != nil {
		t.Errorf("newest of nothing: %d, %v", n, err)
	}
	a, b, c := mustSeal(t, st, "a", "2026-01-02"), mustSeal(t, st, "b", "2026-01-02"), mustSeal(t, st, "c", "2026-01-01")
	if _, err := snapshot.Publish(ctx, st, a, 3); err == nil {
		t.Error("published after a version that is not there")
	}
	mustPublish(t, st, a, 0, 1)
	mustPublish(t, st, a, 0, 1) // again, after an end that nobody saw
	mustPublish(t, st, a, 1, 1)
	mustPublish(t, st, b, 1, 2)
	wantLatest(t, st, 2, "b")
	mustPublish(t, st, c, 2, 3)
	wantLatest(t, st, 2, "b") // c fills in an earlier day
	mustPublish(t, st, a, 3, 1)
	if n, err := snapshot.Newest(ctx, st, set); n != 3 || err != nil {
		t.Errorf("newest is %d, %v; want 3", n, err)
	}

	versions, err := snapshot.Versions(ctx, st, set)
	if err != nil || len(versions) != 3 {
		t.Fatalf("versions: %+v, %v", versions, err)
	}
	for i, m := range []snapshot.Manifest{a, b, c} {
		if v := versions[i]; v.Version != i+1 || v.RunID != m.RunID || v.Digest != m.Digest || v.Rows["rewrite"] != 3 {
			t.Errorf("version %d is %+v", i+1, v)
		}
		for _, ref := range []string{m.RunID, fmt.Sprint(i + 1)} {
			got, err := snapshot.Load(ctx, st, set, ref)
			if diff := cmp.Diff(m, got); diff != "" || err != nil {
				t.Errorf("load %s: %v\n%s", ref, err, diff)
			}
		}
	}
	if m, err := snapshot.Load(ctx, st, set, "latest"); err != nil || m.RunID != "b" {
		t.Errorf("load latest: run %s, %v", m.RunID, err)
	}
	for _, ref := range []string{"4", "0", "nobody"} {
		if _, err := snapshot.Load(ctx, st, set, ref); !errors.Is(err, store.ErrNotExist) {
			t.Errorf("load %s: %v", ref, err)
		}
	}
	for _, ref := range []string{"..", "a/b"} {
		if _, err := snapshot.Load(ctx, st, set, ref); !errors.Is(err, store.ErrName) && err == nil {
			t.Errorf("load %s: %v", ref, err)
		}
	}
	other := a
	other.Digest = "changed"
	if _, err := snapshot.Publish(ctx, st, other, 3); err == nil {
		t.Error("published a manifest that is not the one committed")
	}
}

func TestPublishLostRace(t *testing.T) {
	st := local(t)
	a, b := mustSeal(t, st, "a", "2026-01-01"), mustSeal(t, st, "b", "2026-01-02")
	mustPublish(t, st, a, 0, 1)
	_, err := snapshot.Publish(t.Context(), st, b, 0)
	var lost *snapshot.LostRaceError
	if !errors.Is(err, snapshot.ErrLostRace) || !errors.As(err, &lost) || lost.Winner != "a" || lost.Loser != "b" || lost.Version != 1 {
		t.Fatalf("publish after the race: %v", err)
	}
	if !strings.Contains(err.Error(), "run a is version 1 of preference") || !strings.Contains(err.Error(), "run the same command again") {
		t.Errorf("the error does not say what to do: %v", err)
	}
	wantLatest(t, st, 1, "a")
	mustPublish(t, st, b, 1, 2)
}

func TestPublishRace(t *testing.T) {
	const runs = 50
	st := local(t)
	manifests := make([]snapshot.Manifest, runs)
	for i := range manifests {
		manifests[i] = mustSeal(t, st, fmt.Sprintf("run-%d", i), "2026-01-01")
	}
	var wg sync.WaitGroup
	var first atomic.Int64
	var versions [runs]int
	for i, m := range manifests {
		wg.Go(func() {
			v, err := snapshot.Publish(t.Context(), st, m, 0)
			if err == nil {
				first.Add(1)
			}
			// What a person told to run it again does.
			for errors.Is(err, snapshot.ErrLostRace) {
				var lost *snapshot.LostRaceError
				if !errors.As(err, &lost) || lost.Winner == m.RunID || lost.Loser != m.RunID || lost.Version != lost.Parent+1 {
					t.Errorf("run %s lost: %+v", m.RunID, lost)
				}
				var parent int
				if parent, err = snapshot.Newest(t.Context(), st, set); err == nil {
					v, err = snapshot.Publish(t.Context(), st, m, parent)
				}
			}
			if err != nil {
				t.Error(err)
			}
			versions[i] = v
		})
	}
	wg.Wait()
	if first.Load() != 1 {
		t.Errorf("%d runs became the first version", first.Load())
	}
	for i, v := range versions {
		if m, err := snapshot.Load(t.Context(), st, set, fmt.Sprint(v)); err != nil || m.RunID != manifests[i].RunID {
			t.Errorf("version %d is run %s, %v; want %s", v, m.RunID, err, manifests[i].RunID)
		}
	}
	wantLatest(t, st, runs, manifests[slices.Index(versions[:], runs)].RunID)
}

func TestReadersDuringCommits(t *testing.T) {
	st := local(t)
	mustPublish(t, st, mustSeal(t, st, "run-0", "2026-01-01"), 0, 1)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var reads atomic.Int64
	for range 3 {
		wg.Go(func() {
			last := 0
			for ctx.Err() == nil {
				m, v, err := snapshot.Latest(t.Context(), st, set)
				if err == nil {
					err = snapshot.Verify(t.Context(), st, m)
				}
				if err != nil || v < last || m.RunID != fmt.Sprintf("run-%d", v-1) {
					t.Errorf("read version %d, run %s, after version %d: %v", v, m.RunID, last, err)
				}
				last = v
				reads.Add(1)
			}
		})
	}
	for i := 1; i <= 30; i++ {
		mustPublish(t, st, mustSeal(t, st, fmt.Sprintf("run-%d", i), "2026-01-01"), i, i+1)
	}
	stop()
	wg.Wait()
	t.Logf("%d whole reads", reads.Load())
}

// build is a launcher: it writes, seals and publishes a run.
func build(ctx context.Context, st store.Store, run, date string) (int, error) {
	parent, err := snapshot.Newest(ctx, st, set)
	if err != nil {
		return 0, err
	}
	m, err := seal(ctx, st, config(st, run, date))
	if err != nil {
		return 0, err
	}
	return snapshot.Publish(ctx, st, m, parent)
}

// The launcher dies before or after each of its requests to the store; or the disk is full for one
// request, before or after which all is well. Readers see a whole version throughout, and running the
// same command again, or another one, ends as if nothing had happened.
func TestCrashAtEveryRequest(t *testing.T) {
	for _, dead := range []bool{false, true} {
		requests := 0
		for k := 1; ; k++ {
			st := local(t)
			if _, err := build(t.Context(), st, "old", "2026-01-01"); err != nil {
				t.Fatal(err)
			}
			n := 0
			var at string
			var mu sync.Mutex
			faulty := storetest.Faulty(st, func(op, name string) error {
				mu.Lock()
				defer mu.Unlock()
				if n++; n == k {
					at = op + " " + name
				}
				if n == k || n > k && dead {
					return syscall.ENOSPC
				}
				return nil
			})
			_, err := build(t.Context(), faulty, "new", "2026-01-02")
			if n < k {
				if err != nil {
					t.Fatal(err)
				}
				requests = k - 1
				break
			}
			if !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("request %d, %s: the launcher saw %v", k, at, err)
			}
			m, v, err := snapshot.Latest(t.Context(), st, set)
			if err != nil || v == 1 && m.RunID != "old" || v == 2 && m.RunID != "new" {
				t.Fatalf("request %d, %s: readers see version %d, run %s, %v", k, at, v, m.RunID, err)
			}
			wantLatest(t, st, v, m.RunID)

			// In between, an earlier day is filled in: it must help the dead launcher, not bury its work.
			wantVersion, last := 2, 2
			if newest, err := snapshot.Newest(t.Context(), st, set); err != nil {
				t.Fatal(err)
			} else if dead {
				if newest == 1 {
					wantVersion = 3
				}
				last = 3
				if v, err := build(t.Context(), st, "back-fill", "2025-12-31"); err != nil || v != newest+1 {
					t.Fatalf("request %d, %s: the back-fill is version %d, %v", k, at, v, err)
				}
				if newest == 2 {
					wantLatest(t, st, 2, "new")
				}
			}
			if v, err := build(t.Context(), st, "new", "2026-01-02"); err != nil || v != wantVersion {
				t.Fatalf("request %d, %s: run again: version %d, %v", k, at, v, err)
			}
			wantLatest(t, st, wantVersion, "new")
			if newest, err := snapshot.Newest(t.Context(), st, set); err != nil || newest != last {
				t.Fatalf("request %d, %s: newest is %d, %v; want %d", k, at, newest, err, last)
			}
			if v, err := build(t.Context(), st, "next", "2026-01-03"); err != nil || v != last+1 {
				t.Fatalf("request %d, %s: the next run is version %d, %v", k, at, v, err)
			}
			wantLatest(t, st, last+1, "next")
		}
		if requests < 30 {
			t.Errorf("only %d requests failed", requests)
		}
		t.Logf("dead %v: %d requests", dead, requests)
	}
}
