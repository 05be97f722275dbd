package snapshot_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/transforms/snapshot"
)

func TestMain(m *testing.M) { ptest.Main(m) }

const set = "preference"

// local opens an empty store, in memory where there is a folder in memory: on a disk a commit waits for
// the writes of everything else that runs on the machine.
func local(t testing.TB) store.Store {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "snapshot-test-")
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	st, err := store.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func config(st store.Store, run, date string) snapshot.Config {
	return snapshot.Config{
		Store:     st.URL(),
		Header:    snapshot.Header{Set: set, RunID: run, LogicalDate: date},
		Equations: []string{"prefer.out = rows.rewrite", "*.dead = rows.rejected"},
		Gates:     snapshot.Gates{MaxDeadFraction: 0.5},
	}
}

// writeShard puts an object of the given rows under a name of its own and says what is in it.
func writeShard(ctx context.Context, st store.Store, cfg snapshot.Config, config string, rows ...string) (schemas.Shard, error) {
	data := []byte(strings.Join(rows, "\n"))
	var sum schemas.Sum
	for _, r := range rows {
		one, err := schemas.ParseSum(fmt.Sprintf("%x", sha256.Sum256([]byte(r))))
		if err != nil {
			return schemas.Shard{}, err
		}
		sum.Add(one)
	}
	s := schemas.Shard{
		Config: config, Split: "train", Rows: int64(len(rows)), Bytes: int64(len(data)), RowSum: sum.String(),
		Object: fmt.Sprintf("%s/%s/train-%s.parquet", snapshot.RunDir(cfg.Set, cfg.RunID), config, rand.Text()),
		SHA256: fmt.Sprintf("%x", sha256.Sum256(data)), Schema: "schema of " + config,
	}
	w, err := st.Create(ctx, s.Object)
	if err != nil {
		return schemas.Shard{}, err
	}
	defer w.Abort()
	if _, err := w.Write(data); err != nil {
		return schemas.Shard{}, err
	}
	return s, w.Commit()
}

// counts is a ledger of one stage that handed on out of in units and gave up on dead.
func counts(in, out, dead int64) []schemas.Count {
	cs := []schemas.Count{
		{Stage: "prefer", Outcome: schemas.In, N: in},
		{Stage: "prefer", Outcome: schemas.Out, N: out},
		{Stage: "prefer", Outcome: schemas.Filtered, Reason: "tie", N: in - out - dead},
	}
	if dead > 0 {
		cs = append(cs, schemas.Count{Stage: "prefer", Outcome: schemas.Dead, Reason: "refused", N: dead})
	}
	return cs
}

// seal writes two shards of three rows, with the run's name in them, and seals them.
func seal(ctx context.Context, st store.Store, cfg snapshot.Config) (snapshot.Manifest, error) {
	a, err := writeShard(ctx, st, cfg, "rewrite", cfg.RunID+" 1", cfg.RunID+" 2")
	if err != nil {
		return snapshot.Manifest{}, err
	}
	b, err := writeShard(ctx, st, cfg, "rewrite", cfg.RunID+" 3")
	if err != nil {
		return snapshot.Manifest{}, err
	}
	if _, err := snapshot.Seal(ctx, st, cfg, []schemas.Shard{a, b}, counts(4, 3, 0)); err != nil {
		return snapshot.Manifest{}, err
	}
	return snapshot.Outcome(ctx, st, cfg.Set, cfg.RunID)
}

func mustSeal(t *testing.T, st store.Store, run, date string) snapshot.Manifest {
	t.Helper()
	m, err := seal(t.Context(), st, config(st, run, date))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func mustShard(t *testing.T, st store.Store, cfg snapshot.Config, config string, rows ...string) schemas.Shard {
	t.Helper()
	s, err := writeShard(t.Context(), st, cfg, config, rows...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func names(t *testing.T, st store.Store, prefix string) []string {
	t.Helper()
	var got []string
	for info, err := range st.List(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, info.Name)
	}
	return got
}
