package snapshot_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/transforms/snapshot"
)

func TestVerifyFindsAllDamage(t *testing.T) {
	st := local(t)
	cfg := config(st, "r", "2026-01-31")
	cfg.Undigested = []string{"candidates"}
	shards := []schemas.Shard{
		mustShard(t, st, cfg, "rewrite", "1", "2"), mustShard(t, st, cfg, "rewrite", "3"), mustShard(t, st, cfg, "rewrite", "4"),
		mustShard(t, st, cfg, "rewrite", "5"), mustShard(t, st, cfg, "candidates", "6"),
	}
	if _, err := snapshot.Seal(t.Context(), st, cfg, shards, counts(5, 5, 0)); err != nil {
		t.Fatal(err)
	}
	m, err := snapshot.Outcome(t.Context(), st, set, "r")
	if err != nil {
		t.Fatal(err)
	}
	if err := snapshot.Verify(t.Context(), st, m); err != nil {
		t.Fatal(err)
	}
	file := func(i int) string { return filepath.Join(st.URL(), filepath.FromSlash(shards[i].Object)) }
	if err := errors.Join(os.WriteFile(file(0), []byte("1\n3"), 0o600), os.Truncate(file(1), 0), os.Remove(file(2))); err != nil {
		t.Fatal(err)
	}
	err = snapshot.Verify(t.Context(), st, m)
	if !errors.Is(err, store.ErrDamaged) || !errors.Is(err, store.ErrNotExist) {
		t.Fatalf("verify: %v", err)
	}
	for i, s := range shards {
		if named := strings.Contains(err.Error(), s.Object); named != (i < 3) {
			t.Errorf("damaged shard %d is named: %v\n%v", i, named, err)
		}
	}
}

func TestVerifyAddsUp(t *testing.T) {
	st := local(t)
	m := mustSeal(t, st, "r", "2026-01-31")
	for name, change := range map[string]func(*snapshot.Manifest){
		"rows":           func(m *snapshot.Manifest) { m.Rows = map[string]int64{"rewrite": 4} },
		"shard's rows":   func(m *snapshot.Manifest) { m.Shards[0].Rows++ },
		"row sum":        func(m *snapshot.Manifest) { m.Shards[0].RowSum = m.Shards[1].RowSum },
		"bad row sum":    func(m *snapshot.Manifest) { m.Shards[0].RowSum = "" },
		"schema":         func(m *snapshot.Manifest) { m.Shards[0].Schema = "other" },
		"digest":         func(m *snapshot.Manifest) { m.Digest = "" },
		"missing shard":  func(m *snapshot.Manifest) { m.Shards = m.Shards[1:] },
		"shard's object": func(m *snapshot.Manifest) { m.Shards[0].Object = "../../etc/passwd" },
	} {
		changed := m
		changed.Shards = slices.Clone(m.Shards)
		change(&changed)
		if err := snapshot.Verify(t.Context(), st, changed); !errors.Is(err, store.ErrDamaged) && !errors.Is(err, store.ErrName) {
			t.Errorf("changed %s: %v", name, err)
		}
	}
}

func TestChangedManifest(t *testing.T) {
	st := local(t)
	mustPublish(t, st, mustSeal(t, st, "r", "2026-01-31"), 0, 1)
	file := filepath.Join(st.URL(), "preference/runs/r/manifest.json")
	data, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, []byte(strings.Replace(string(data), `"n": 3`, `"n": 2`, 1)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := snapshot.Latest(t.Context(), st, set); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("latest: %v", err)
	}
	if _, err := snapshot.Load(t.Context(), st, set, "1"); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("load: %v", err)
	}
}

func TestNewerFormat(t *testing.T) {
	st := local(t)
	if err := st.PutIfAbsent(t.Context(), "preference/runs/r/manifest.json", []byte(`{"format": 2}`)); err != nil {
		t.Fatal(err)
	}
	_, err := snapshot.Load(t.Context(), st, set, "r")
	if err == nil || !strings.Contains(err.Error(), "use the release that wrote it") {
		t.Errorf("load: %v", err)
	}
	// It is not taken for damage and replaced.
	if _, serr := snapshot.Seal(t.Context(), st, config(st, "r", "2026-01-31"), nil, nil); serr == nil || serr.Error() != err.Error() {
		t.Errorf("seal: %v", serr)
	}
}

func TestClean(t *testing.T) {
	st := local(t)
	m := mustSeal(t, st, "r", "2026-01-31")
	other := mustSeal(t, st, "r2", "2026-01-31")
	keep := names(t, st, "")
	cfg := config(st, "r", "2026-01-31")
	stray := mustShard(t, st, cfg, "rewrite", "stray")
	if err := errors.Join(
		st.PutIfAbsent(t.Context(), "preference/runs/r/spill/rewrite-1", []byte("12345")),
		st.PutIfAbsent(t.Context(), "preference/runs/r/verdict-1.json", nil),
		st.PutIfAbsent(t.Context(), "preference/runs/r/README.md", nil),
	); err != nil {
		t.Fatal(err)
	}
	freed, err := snapshot.Clean(t.Context(), st, set, "r")
	if err != nil || freed != 5+stray.Bytes {
		t.Errorf("freed %d, %v; want %d", freed, err, 5+stray.Bytes)
	}
	want := append(keep, "preference/runs/r/README.md")
	slices.Sort(want)
	if got := names(t, st, ""); !slices.Equal(got, want) {
		t.Errorf("left %q, want %q", got, want)
	}
	for _, m := range []snapshot.Manifest{m, other} {
		if err := snapshot.Verify(t.Context(), st, m); err != nil {
			t.Error(err)
		}
	}
	// A run that was not committed keeps nothing.
	mustShard(t, st, config(st, "r3", "2026-01-31"), "rewrite", "x")
	if _, err := snapshot.Clean(t.Context(), st, set, "r3"); err != nil {
		t.Error(err)
	}
	if got := names(t, st, "preference/runs/r3/"); len(got) > 0 {
		t.Errorf("left %q", got)
	}
}

// FuzzLoad reads a manifest that anybody may have written.
func FuzzLoad(f *testing.F) {
	f.Add([]byte(`{"format":1,"set":"preference","run_id":"r","shards":[{"config":"a","object":"../x","rows":-1}],"rows":{"a":1}}`))
	f.Add([]byte(`{"format":1,"set":"preference","run_id":"r","digests":{"a":"b"},"shards":[{"config":"a","rows":1,"row_sum":"00"}]}`))
	f.Add([]byte(`[]`))
	st := local(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		const name = "preference/runs/r/manifest.json"
		if err := errors.Join(st.Delete(t.Context(), name), st.PutIfAbsent(t.Context(), name, data)); err != nil {
			t.Fatal(err)
		}
		m, err := snapshot.Load(t.Context(), st, set, "r")
		if err == nil && (m.Set != set || m.RunID != "r") {
			t.Errorf("loaded %+v", m.Header)
		}
		if err == nil && len(m.Shards) > 0 && snapshot.Verify(t.Context(), st, m) == nil {
			t.Error("shards that are not there were verified")
		}
	})
}
