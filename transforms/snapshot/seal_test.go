package snapshot_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/transforms/snapshot"
)

// Flink ran the last step again after the manifest was written, over shards that were made anew.
func TestCommitTwiceWithOtherInputs(t *testing.T) {
	st := local(t)
	cfg := config(st, "r", "2026-01-31")
	first := mustShard(t, st, cfg, "rewrite", "1", "2")
	run(t, cfg, []schemas.Shard{first}, counts(2, 2, 0), snapshot.Committed)
	want, _, err := st.Read(t.Context(), "preference/runs/r/manifest.json")
	if err != nil {
		t.Fatal(err)
	}
	second := mustShard(t, st, cfg, "rewrite", "1", "2", "other")
	run(t, cfg, []schemas.Shard{second}, counts(3, 3, 0), snapshot.Committed)
	run(t, cfg, nil, counts(5, 4, 0), snapshot.Committed) // not even the ledger matters any more
	got, _, err := st.Read(t.Context(), "preference/runs/r/manifest.json")
	if err != nil || string(got) != string(want) {
		t.Errorf("the manifest changed: %v\n%s", err, got)
	}
}

func TestSealRace(t *testing.T) {
	for _, damaged := range []bool{false, true} {
		st := local(t)
		cfg := config(st, "r", "2026-01-31")
		if damaged { // as a crash of the machine leaves it
			if err := st.PutIfAbsent(t.Context(), "preference/runs/r/manifest.json", []byte(`{"format": 1, "se`)); err != nil {
				t.Fatal(err)
			}
			if _, err := snapshot.Outcome(t.Context(), st, set, "r"); !errors.Is(err, store.ErrDamaged) {
				t.Errorf("outcome of a damaged manifest: %v", err)
			}
		}
		digests := make([]string, 20)
		var wg sync.WaitGroup
		for i := range digests {
			shard := mustShard(t, st, cfg, "rewrite", fmt.Sprint(i))
			wg.Go(func() {
				r, err := snapshot.Seal(t.Context(), st, cfg, []schemas.Shard{shard}, counts(1, 1, 0))
				if err != nil {
					t.Error(err)
				}
				digests[i] = r.Digest
			})
		}
		wg.Wait()
		m, err := snapshot.Outcome(t.Context(), st, set, "r")
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(digests)
		if got := slices.Compact(digests); len(got) != 1 || got[0] != m.Digest {
			t.Errorf("damaged %v: attempts saw the digests %q, the manifest has %s", damaged, got, m.Digest)
		}
	}
}

func TestSealRefuses(t *testing.T) {
	st := local(t)
	cfg := config(st, "r", "2026-01-31")
	cfg.Gates.MinRows = map[string]int64{"rewrite": 2}
	good := mustShard(t, st, cfg, "rewrite", "1", "2", "3")
	with := func(change func(*schemas.Shard)) []schemas.Shard {
		s := good
		change(&s)
		return []schemas.Shard{s}
	}
	for _, tt := range []struct {
		name    string
		shards  []schemas.Shard
		counts  []schemas.Count
		verdict string
		say     string
	}{
		{"rows lost in a stage", []schemas.Shard{good}, counts(4, 3, 0)[:2], snapshot.LedgerMismatch, "stage prefer: 4 in, but 3 out"},
		{"rows lost on disk", nil, counts(3, 3, 0), snapshot.LedgerMismatch, "prefer.out = rows.rewrite does not hold: 3 is not 0"},
		{"dead letters not written", []schemas.Shard{good}, counts(4, 3, 1), snapshot.LedgerMismatch, "*.dead = rows.rejected does not hold: 1 is not 0"},
		{"shard twice", []schemas.Shard{good, good}, counts(6, 6, 0), snapshot.LedgerMismatch, "is there twice"},
		{"shard of another run", with(func(s *schemas.Shard) { s.Object = "preference/runs/other/x.parquet" }), counts(3, 3, 0), snapshot.LedgerMismatch, "not among the run's own"},
		{"spilled shard", with(func(s *schemas.Shard) { s.Object = "preference/runs/r/spill/x" }), counts(3, 3, 0), snapshot.LedgerMismatch, "not among the run's own"},
		{"bad row sum", with(func(s *schemas.Shard) { s.RowSum = "zz" }), counts(3, 3, 0), snapshot.LedgerMismatch, "row sum"},
		{"negative rows", with(func(s *schemas.Shard) { s.Rows = -1 }), nil, snapshot.LedgerMismatch, "-1 rows"},
		{"too few rows", []schemas.Shard{mustShard(t, st, cfg, "rewrite", "1")}, counts(1, 1, 0), snapshot.GateClosed, "gates.min_rows.rewrite: 1 rows, at least 2"},
		{
			"too many dead in a small stage",
			[]schemas.Shard{good, mustShard(t, st, cfg, "rejected", "1", "2", "3")},
			append(counts(1000, 3, 0), schemas.Count{Stage: "draw", Outcome: schemas.In, N: 5}, schemas.Count{Stage: "draw", Outcome: schemas.Out, N: 2},
				schemas.Count{Stage: "draw", Outcome: schemas.Dead, Reason: "black", N: 2}, schemas.Count{Stage: "draw", Outcome: schemas.Dead, Reason: "flagged", N: 1}),
			snapshot.GateClosed, "stage draw gave up on 3 of 5 (0.6), 0.5 is allowed; black 2, flagged 1",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := snapshot.Seal(t.Context(), st, cfg, tt.shards, tt.counts)
			if err != nil || r.Verdict != tt.verdict || !strings.Contains(r.Detail, tt.say) {
				t.Errorf("seal: %+v, %v; want %s with %q", r, err, tt.verdict, tt.say)
			}
			_, err = snapshot.Outcome(t.Context(), st, set, "r")
			if want := map[string]error{snapshot.LedgerMismatch: snapshot.ErrLedger, snapshot.GateClosed: snapshot.ErrGate}[tt.verdict]; !errors.Is(err, want) || !strings.Contains(err.Error(), tt.say) {
				t.Errorf("outcome: %v, want %v with %q", err, want, tt.say)
			}
		})
	}
	if got := names(t, st, "preference/runs/r/manifest"); len(got) > 0 {
		t.Errorf("a refused run has %q", got)
	}
	if _, err := snapshot.Publish(t.Context(), st, snapshot.Manifest{Header: cfg.Header}, 0); !errors.Is(err, snapshot.ErrNotCommitted) {
		t.Errorf("publish a refused run: %v", err)
	}
}

func TestSealChecksShards(t *testing.T) {
	st := local(t)
	cfg := config(st, "r", "2026-01-31")
	short := mustShard(t, st, cfg, "rewrite", "1")
	short.Bytes++
	if _, err := snapshot.Seal(t.Context(), st, cfg, []schemas.Shard{short}, counts(1, 1, 0)); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("a shard cut short: %v", err)
	}
	missing := short
	missing.Object += ".gone"
	if _, err := snapshot.Seal(t.Context(), st, cfg, []schemas.Shard{missing}, counts(1, 1, 0)); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("a missing shard: %v", err)
	}
	if _, err := snapshot.Outcome(t.Context(), st, set, "r"); !errors.Is(err, snapshot.ErrNotCommitted) {
		t.Errorf("outcome: %v", err)
	}
}

func TestDigest(t *testing.T) {
	st := local(t)
	cfg := config(st, "a", "2026-01-31")
	digest := func(shards ...schemas.Shard) string {
		t.Helper()
		d, _, err := snapshot.Digest(shards, "candidates")
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	shard := func(config string, rows ...string) schemas.Shard { return mustShard(t, st, cfg, config, rows...) }
	want := digest(shard("rewrite", "1", "2", "3"), shard("judgment", "4"))
	moved := shard("judgment", "4")
	moved.Object, moved.Split, moved.Index, moved.Bytes, moved.SHA256 = "elsewhere", "test", 7, 1, "other"
	empty := shard("rewrite")
	for name, shards := range map[string][]schemas.Shard{
		"other cut and order": {shard("judgment", "4"), shard("rewrite", "3", "1"), empty, shard("rewrite", "2")},
		"other file":          {shard("rewrite", "1", "2", "3"), moved},
		"dead letters":        {shard("rewrite", "1", "2", "3"), shard("judgment", "4"), shard("rejected", "5"), shard("candidates", "6")},
	} {
		if got := digest(shards...); got != want {
			t.Errorf("%s changed the digest", name)
		}
	}
	other := shard("judgment", "4")
	other.Schema = "another"
	seen := map[string]string{"": want}
	for name, shards := range map[string][]schemas.Shard{
		"a row twice":   {shard("rewrite", "1", "2", "3", "3"), shard("judgment", "4")},
		"a row less":    {shard("rewrite", "1", "2"), shard("judgment", "4")},
		"another row":   {shard("rewrite", "1", "2", "x"), shard("judgment", "4")},
		"moved row":     {shard("rewrite", "1", "2", "3", "4")},
		"swapped names": {shard("judgment", "1", "2", "3"), shard("rewrite", "4")},
		"other schema":  {shard("rewrite", "1", "2", "3"), other},
		"nothing":       {},
	} {
		got := digest(shards...)
		for before, d := range seen {
			if d == got {
				t.Errorf("%q has the digest of %q", name, before)
			}
		}
		seen[name] = got
	}
	if _, _, err := snapshot.Digest([]schemas.Shard{shard("judgment", "4"), other}); err == nil {
		t.Error("two schemas in one configuration have a digest")
	}
}

func TestConfigValidate(t *testing.T) {
	bad := snapshot.Config{
		Header:    snapshot.Header{Set: "../x", RunID: "2026", LogicalDate: "yesterday"},
		Equations: []string{"a.in = b.out", "a.in", "a.in = 8*"},
		Gates:     snapshot.Gates{MaxDeadFraction: 1.5, MinRows: map[string]int64{"rewrite": -1}},
	}
	err := bad.Validate()
	if err == nil {
		t.Fatal("no error")
	}
	paths := []string{
		"snapshot.store: ", "snapshot.set: ", "snapshot.run_id: ", "snapshot.logical_date: ", "snapshot.equations[1]: ", "snapshot.equations[2]: ",
		"gates.max_dead_fraction: ", "gates.min_rows.rewrite: ",
	}
	lines := strings.Split(err.Error(), "\n")
	for i, path := range paths {
		if i >= len(lines) || !strings.HasPrefix(lines[i], path) {
			t.Fatalf("fault %d should be at %q:\n%v", i, path, err)
		}
	}
	if len(lines) != len(paths) {
		t.Errorf("more faults than %d:\n%v", len(paths), err)
	}
	good := config(local(t), "r", "2026-01-31")
	for _, set := range []string{"a", "loop/1/preference", "a b#c"} {
		good.Set = set
		if err := good.Validate(); err != nil {
			t.Errorf("set %q: %v", set, err)
		}
	}
	for _, set := range []string{"", "/a", "a/", "a/runs/b", "blobs", "LATEST", ".."} {
		good.Set = set
		if err := good.Validate(); err == nil {
			t.Errorf("set %q is taken", set)
		}
	}
	good.Set = "a"
	for _, id := range []string{"", "a/b", "..", "12345678", "latest"} {
		good.RunID = id
		if err := good.Validate(); err == nil {
			t.Errorf("run id %q is taken", id)
		}
	}
	for _, id := range []string{"123456789", "1a"} {
		good.RunID = id
		if err := good.Validate(); err != nil {
			t.Errorf("run id %q: %v", id, err)
		}
	}
	if err := (snapshot.Gates{MaxDeadFraction: math.NaN()}).Validate(); err == nil {
		t.Error("a gate of NaN is taken")
	}
}

func TestConfigJSON(t *testing.T) {
	want := snapshot.Config{
		Store: "s",
		Header: snapshot.Header{
			Set: "a", RunID: "b", LogicalDate: "c", Recipe: "d", RecipeDigest: "e", CodeVersion: "f", Models: map[string]string{"g": "h"},
			Templates: []string{"i"}, Parents: []snapshot.Parent{{Set: "j", RunID: "k", Digest: "l"}}, Metadata: map[string]string{"m": "n"},
		},
		Equations: []string{"o"}, Gates: snapshot.Gates{MaxDeadFraction: 0.1, MinRows: map[string]int64{"p": 1}}, Undigested: []string{"q"},
	}
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got snapshot.Config
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("round trip (-want +got):\n%s", diff)
	}
}
