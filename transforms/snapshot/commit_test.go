package snapshot_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/passert"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/ledger"
	"github.com/promptmill/promptmill/transforms/snapshot"
)

func init() {
	register.Function1x1(verdict)
	register.Function2x0(noShard)
	register.Function2x0(noCount)
	register.Emitter1[schemas.Shard]()
	register.Emitter1[schemas.Count]()
}

func verdict(r snapshot.Result) string { return r.Verdict }

// run commits on a runner and checks the verdict that comes out.
func run(t *testing.T, cfg snapshot.Config, shards []schemas.Shard, counts []schemas.Count, want string) {
	t.Helper()
	p, s := beam.NewPipelineWithRoot()
	results := snapshot.Commit(s, cfg, list(s, shards, noShard), list(s, counts, noCount))
	passert.Equals(s, beam.ParDo(s, verdict, results), want)
	ptest.RunAndValidate(t, p)
}

// list is beam.CreateList for lists that may be empty.
func list[T any](s beam.Scope, rows []T, none func([]byte, func(T))) beam.PCollection {
	if len(rows) == 0 {
		return beam.ParDo(s, none, beam.Impulse(s))
	}
	return beam.CreateList(s, rows)
}

func noShard([]byte, func(schemas.Shard)) {}
func noCount([]byte, func(schemas.Count)) {}

func TestCommit(t *testing.T) {
	st := local(t)
	cfg := config(st, "run-a", "2026-01-31")
	cfg.Header = snapshot.Header{
		Set: set, RunID: "run-a", LogicalDate: "2026-01-31", Recipe: "sft: {}", RecipeDigest: "abc", CodeVersion: "v1",
		Models: map[string]string{"policy": "p0"}, Templates: []string{"paper/1"},
		Parents: []snapshot.Parent{{Set: "sft", RunID: "s", Digest: "d"}}, Metadata: map[string]string{"k": "v"},
	}
	two := mustShard(t, st, cfg, "rewrite", "1", "2")
	two.Index = 1
	one := mustShard(t, st, cfg, "rewrite", "3")
	dead := mustShard(t, st, cfg, "rejected", "x")
	cs := slices.Concat(counts(3, 2, 0), counts(3, 1, 1)) // of two bundles
	run(t, cfg, []schemas.Shard{two, dead, one}, cs, snapshot.Committed)

	got, err := snapshot.Outcome(t.Context(), st, set, "run-a")
	if err != nil {
		t.Fatal(err)
	}
	digest, digests, err := snapshot.Digest([]schemas.Shard{one, two})
	if err != nil {
		t.Fatal(err)
	}
	want := snapshot.Manifest{
		Format: 1, Header: cfg.Header, Digest: digest, Digests: digests,
		Rows:    map[string]int64{"rewrite": 3, "rejected": 1},
		Schemas: map[string]string{"rewrite": "schema of rewrite", "rejected": "schema of rejected"},
		Counts:  ledger.Sum(cs), Shards: []schemas.Shard{dead, one, two},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(snapshot.Manifest{}, "Created")); diff != "" {
		t.Errorf("manifest (-want +got):\n%s", diff)
	}
	if err := snapshot.Verify(t.Context(), st, got); err != nil {
		t.Error(err)
	}
}

func TestCommitEmpty(t *testing.T) {
	st := local(t)
	run(t, config(st, "empty", "2026-01-31"), nil, nil, snapshot.Committed)
	m, err := snapshot.Outcome(t.Context(), st, set, "empty")
	if err != nil || len(m.Shards) != 0 || m.Digest == "" {
		t.Errorf("manifest %+v, %v", m, err)
	}
	if err := snapshot.Verify(t.Context(), st, m); err != nil {
		t.Error(err)
	}
}

func TestCommitRefuses(t *testing.T) {
	st := local(t)
	cfg := config(st, "r", "2026-01-31")
	shard := mustShard(t, st, cfg, "rewrite", "1")
	dead := mustShard(t, st, cfg, "rejected", "2", "3", "4")

	run(t, cfg, []schemas.Shard{shard}, counts(4, 2, 0), snapshot.LedgerMismatch)
	_, err := snapshot.Outcome(t.Context(), st, set, "r")
	if !errors.Is(err, snapshot.ErrLedger) || !strings.Contains(err.Error(), "prefer.out = rows.rewrite") {
		t.Errorf("outcome of a ledger that does not balance: %v", err)
	}
	run(t, cfg, []schemas.Shard{shard, dead}, counts(4, 1, 3), snapshot.GateClosed)
	_, err = snapshot.Outcome(t.Context(), st, set, "r")
	if !errors.Is(err, snapshot.ErrGate) || !strings.Contains(err.Error(), "stage prefer gave up on 3 of 4 (0.75), 0.5 is allowed; refused 3") {
		t.Errorf("outcome of a closed gate: %v", err)
	}
	var refused *snapshot.RefusedError
	if !errors.As(err, &refused) || refused.Rows["rejected"] != 3 || !slices.Contains(refused.Shards, dead) {
		t.Errorf("the refusal does not lead to the dead letters: %+v", refused)
	}
	// The same run may try again.
	run(t, cfg, []schemas.Shard{shard}, counts(1, 1, 0), snapshot.Committed)
	if _, err := snapshot.Outcome(t.Context(), st, set, "r"); err != nil {
		t.Errorf("outcome of the third attempt: %v", err)
	}
}

func TestCommitPanicsOnBadConfig(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	p, s := beam.NewPipelineWithRoot()
	snapshot.Commit(s, snapshot.Config{}, beam.Impulse(s), beam.Impulse(s))
	_ = p
}

func TestCommitFailsWithTheStore(t *testing.T) {
	st := local(t)
	cfg := config(st, "r", "2026-01-31")
	shard := mustShard(t, st, cfg, "rewrite", "1")
	if err := st.Delete(t.Context(), shard.Object); err != nil {
		t.Fatal(err)
	}
	p, s := beam.NewPipelineWithRoot()
	snapshot.Commit(s, cfg, beam.Create(s, shard), beam.CreateList(s, counts(1, 1, 0)))
	if err := ptest.Run(p); err == nil || !strings.Contains(err.Error(), shard.Object) {
		t.Errorf("commit of a missing shard: %v", err)
	}
	if _, err := snapshot.Outcome(t.Context(), st, set, "r"); !errors.Is(err, snapshot.ErrNotCommitted) {
		t.Errorf("outcome: %v", err)
	}
}

func ExampleCommit() {
	p, s := beam.NewPipelineWithRoot()
	shards := beam.Create(s, schemas.Shard{Config: "rewrite", Split: "train", Object: "preference/runs/r1/rewrite/train-0.parquet"})
	counts := beam.Create(s, schemas.Count{Stage: "prefer", Outcome: schemas.In, N: 1}, schemas.Count{Stage: "prefer", Outcome: schemas.Out, N: 1})
	results := snapshot.Commit(s, snapshot.Config{
		Store:     "out",
		Header:    snapshot.Header{Set: "preference", RunID: "r1", LogicalDate: "2026-01-31"},
		Equations: []string{"prefer.out = rows.rewrite"},
		Gates:     snapshot.Gates{MaxDeadFraction: 0.05},
	}, shards, counts)
	_, _ = p, results
}
