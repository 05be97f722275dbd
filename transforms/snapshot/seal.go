package snapshot

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/transforms/ledger"
)

// Verdicts of a Result.
const (
	// Committed: the manifest is in the store.
	Committed = "committed"
	// LedgerMismatch: rows were lost or counted twice, a defect.
	LedgerMismatch = "ledger"
	// GateClosed: the run is sound but not good enough.
	GateClosed = "gate"
)

// A Result is what became of a run.
type Result struct {
	Verdict string
	// Detail says, for people, why a run was refused.
	Detail string
	Set    string
	RunID  string
	// Object is the manifest, or where the refusal is written.
	Object string
	// Digest and Rows (the sum over the digested configurations) are the manifest's.
	Digest string
	Rows   int64
}

// Seal writes the manifest of a run once its shards are in st, unless the ledger does not balance or a
// gate is closed: that is a Result, not an error, and nothing is committed. If the run has a manifest
// already, that one stands whatever the shards now given. Errors are the store's, or cfg's.
func Seal(ctx context.Context, st store.Store, cfg Config, shards []schemas.Shard, counts []schemas.Count) (Result, error) {
	if err := cfg.Validate(); err != nil {
		return Result{}, err
	}
	there, err := readManifest(ctx, st, cfg.Set, cfg.RunID)
	if err == nil {
		return there.result(), nil
	}
	// Only a crash of the machine leaves a damaged manifest. No version can name it, so it is replaced,
	// by a swap so that one of several attempts does.
	if !errors.Is(err, store.ErrNotExist) && !errors.Is(err, store.ErrDamaged) {
		return Result{}, err
	}
	m := newManifest(cfg, shards, counts)
	if err := m.balance(cfg); err != nil {
		return refuse(ctx, st, m, LedgerMismatch, err)
	}
	if err := m.pass(cfg.Gates); err != nil {
		return refuse(ctx, st, m, GateClosed, err)
	}
	err = m.write(ctx, st, there.version)
	if errors.Is(err, store.ErrConflict) {
		// Another attempt was first, or the answer to our own was lost.
		there, err = readManifest(ctx, st, m.Set, m.RunID)
		m = there.Manifest
	}
	if err != nil {
		return Result{}, fmt.Errorf("snapshot: commit run %s of %s: %w", cfg.RunID, cfg.Set, err)
	}
	return m.result(), nil
}

// write puts the manifest in the place of version old, after the shards that it names are durable.
func (m *Manifest) write(ctx context.Context, st store.Store, old store.Version) error {
	err := eachShard(ctx, m.Shards, func(s schemas.Shard) error {
		o, err := openShard(ctx, st, s)
		if err != nil {
			return err
		}
		return o.Close()
	})
	if err != nil {
		return err
	}
	if err := st.Sync(ctx); err != nil {
		return err
	}
	data, err := encode(m)
	if err != nil {
		return err
	}
	_, err = st.CompareAndSwap(ctx, manifestName(m.Set, m.RunID), old, data)
	return err
}

func newManifest(cfg Config, shards []schemas.Shard, counts []schemas.Count) Manifest {
	m := Manifest{
		Format: format, Header: cfg.Header, Created: time.Now().UTC(),
		Rows: map[string]int64{}, Schemas: map[string]string{},
		Counts: ledger.Sum(counts), Shards: slices.Clone(shards),
	}
	slices.SortFunc(m.Shards, func(a, b schemas.Shard) int {
		return cmp.Or(cmp.Compare(a.Config, b.Config), cmp.Compare(a.Split, b.Split), cmp.Compare(a.Index, b.Index), cmp.Compare(a.Object, b.Object))
	})
	for _, s := range m.Shards {
		m.Rows[s.Config] += s.Rows
		m.Schemas[s.Config] = s.Schema
	}
	return m
}

// balance checks the ledger and that the shards belong together, and fills in the digests.
func (m *Manifest) balance(cfg Config) error {
	var errs []error
	dir := RunDir(m.Set, m.RunID) + "/"
	seen := map[string]bool{}
	for _, s := range m.Shards {
		switch {
		case !strings.HasPrefix(s.Object, dir) || strings.HasPrefix(s.Object, spillPrefix(m.Set, m.RunID)):
			errs = append(errs, fmt.Errorf("shard %s is not among the run's own in %s", s.Object, dir))
		case seen[s.Object]:
			errs = append(errs, fmt.Errorf("shard %s is there twice", s.Object))
		case s.Rows < 0 || s.Bytes < 0:
			errs = append(errs, fmt.Errorf("shard %s has %d rows in %d bytes", s.Object, s.Rows, s.Bytes))
		}
		seen[s.Object] = true
	}
	var err error
	m.Digest, m.Digests, err = Digest(m.Shards, cfg.Undigested...)
	return errors.Join(errors.Join(errs...), err, ledger.Check(m.Counts, m.Rows, cfg.Equations))
}

// pass checks the gates: every stage for itself, so that a stage of many units does not hide the dead
// of one of few.
func (m *Manifest) pass(g Gates) error {
	var errs []error
	var stages []string
	for _, c := range m.Counts {
		stages = append(stages, c.Stage)
	}
	for _, s := range slices.Compact(stages) { // the counts are sorted by stage
		in, dead := ledger.Total(m.Counts, s, schemas.In), ledger.Total(m.Counts, s, schemas.Dead)
		if float64(dead) > g.MaxDeadFraction*float64(in) {
			errs = append(errs, fmt.Errorf("gates.max_dead_fraction: stage %s gave up on %d of %d (%.3g), %g is allowed; %s", s, dead, in,
				float64(dead)/float64(in), g.MaxDeadFraction, m.reasons(s)))
		}
	}
	for _, config := range slices.Sorted(maps.Keys(g.MinRows)) {
		if n := m.Rows[config]; n < g.MinRows[config] {
			errs = append(errs, fmt.Errorf("gates.min_rows.%s: %d rows, at least %d are wanted; bring more input or lower it", config, n, g.MinRows[config]))
		}
	}
	return errors.Join(errs...)
}

// reasons lists why units of a stage are dead, the most frequent reason first.
func (m *Manifest) reasons(stage string) string {
	dead := slices.DeleteFunc(slices.Clone(m.Counts), func(c schemas.Count) bool { return c.Stage != stage || c.Outcome != schemas.Dead })
	slices.SortStableFunc(dead, func(a, b schemas.Count) int { return cmp.Compare(b.N, a.N) })
	var say []string
	for _, c := range dead {
		say = append(say, fmt.Sprintf("%s %d", c.Reason, c.N))
	}
	return strings.Join(say, ", ")
}

func (m *Manifest) result() Result {
	r := Result{Verdict: Committed, Set: m.Set, RunID: m.RunID, Object: manifestName(m.Set, m.RunID), Digest: m.Digest}
	for config := range m.Digests {
		r.Rows += m.Rows[config]
	}
	return r
}

// refuse writes down why, under a name of its own: another attempt of the run is free to succeed.
func refuse(ctx context.Context, st store.Store, m Manifest, verdict string, why error) (Result, error) {
	r := RefusedError{
		Format: format, Set: m.Set, RunID: m.RunID, Verdict: verdict, Detail: why.Error(), Time: m.Created,
		Counts: m.Counts, Rows: m.Rows, Shards: m.Shards,
	}
	name := fmt.Sprintf("%s%s-%s.json", verdictPrefix(m.Set, m.RunID), m.Created.Format("20060102T150405.000000000Z"), rand.Text()[:8])
	data, err := encode(r)
	if err == nil {
		err = st.PutIfAbsent(ctx, name, data)
	}
	if err != nil {
		return Result{}, fmt.Errorf("snapshot: run %s of %s is refused, %s: %w", m.RunID, m.Set, r.Detail, err)
	}
	return Result{Verdict: verdict, Detail: r.Detail, Set: m.Set, RunID: m.RunID, Object: name}, nil
}
