package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/promptmill/promptmill/model/responselog"
	"github.com/promptmill/promptmill/recipe"
	"github.com/promptmill/promptmill/runners"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/transforms/async"
	"github.com/promptmill/promptmill/transforms/ledger"
	"github.com/promptmill/promptmill/transforms/parquetio"
	"github.com/promptmill/promptmill/transforms/snapshot"
)

// A job is one command's work: a recipe on a store.
type job struct {
	*app
	recipe *recipe.Recipe
	doc    *recipe.Document
	st     store.Store
	cache  string
	day    string
	// spent is what this process had counted when the job began.
	spent []schemas.Count
}

// newJob reads and checks recipe and flags and opens the store.
func (a *app) newJob(ctx context.Context) (*job, error) {
	if err := runners.Check(a.flags.runner); err != nil {
		return nil, usageError{err}
	}
	out, err := a.outURL()
	if err != nil {
		return nil, err
	}
	day, err := a.day()
	if err != nil {
		return nil, err
	}
	r, doc, err := a.loadRecipe()
	if err != nil {
		return nil, err
	}
	if err := a.bindEngine(r, doc); err != nil {
		return nil, err
	}
	st, err := store.Open(ctx, out)
	if err != nil {
		return nil, err
	}
	return &job{app: a, recipe: r, doc: doc, st: st, cache: a.cacheURL(), day: day, spent: ledger.Live()}, nil
}

// loadRecipe reads the recipe of the flags; its faults are usage errors.
func (a *app) loadRecipe() (*recipe.Recipe, *recipe.Document, error) {
	var set []string
	if a.flags.models != "" {
		set = recipe.Using(a.flags.models)
	}
	r, doc, err := recipe.Load(a.flags.recipe, append(set, a.flags.set...))
	if err != nil {
		return nil, nil, usageError{err}
	}
	if n := a.flags.parallelism; n != 0 {
		if n < 0 || n > async.MaxInFlight {
			return nil, nil, usageError{fmt.Errorf("--parallelism: %d is not in 1..%d", n, async.MaxInFlight)}
		}
		r.SetInFlight(n)
	}
	if err := r.Bind(a.cacheURL()); err != nil {
		return nil, nil, usageError{doc.Locate(err)}
	}
	if err := r.Validate(); err != nil {
		return nil, nil, usageError{doc.Locate(err)}
	}
	return r, doc, nil
}

// header is what the manifest says about a run of set before it starts.
func (j *job) header(set, runID string) snapshot.Header {
	return snapshot.Header{
		Set: set, RunID: runID, LogicalDate: j.day,
		Recipe: string(j.doc.Bytes()), RecipeDigest: digest(j.recipe.Decides()), CodeVersion: codeVersion(),
		Metadata: map[string]string{"recipe": j.flags.recipe, "models": j.flags.models},
	}
}

// A build is one run of one data set.
type build struct {
	header snapshot.Header
	// what and stage are for the progress display: units that enter stage, of total; the steps of a training.
	what, stage string
	total       int64
	// shared says that other runs need this one too: if another process builds it, wait for that.
	shared bool
	graph  func(s beam.Scope)
}

// ensure returns the manifest of a run, running its pipeline if the run is not committed yet; existed
// says that it was. Stray objects of attempts that died are removed before and after.
func (j *job) ensure(ctx context.Context, b build) (m snapshot.Manifest, existed bool, err error) {
	h := b.header
	m, err = snapshot.Outcome(ctx, j.st, h.Set, h.RunID)
	if err == nil {
		return m, true, nil
	}
	if !errors.Is(err, snapshot.ErrNotCommitted) && !errors.Is(err, snapshot.ErrGate) && !errors.Is(err, snapshot.ErrLedger) {
		return m, false, err
	}
	unlock, err := j.lock(ctx, h, b.shared)
	if err != nil {
		return m, false, err
	}
	defer unlock()
	if m, err = snapshot.Outcome(ctx, j.st, h.Set, h.RunID); err == nil {
		return m, true, nil // by the process that had the lock before
	}
	// A lost launcher's job may still run: what it wrote is not stray, and its manifest is as good.
	found, err := runners.Follow(ctx, j.onEngine(h))
	if err != nil {
		return m, false, err
	}
	if found {
		if m, err = snapshot.Outcome(ctx, j.st, h.Set, h.RunID); err == nil {
			j.countRemote(m)
			return m, false, nil
		}
	}
	if _, err := snapshot.Clean(ctx, j.st, h.Set, h.RunID); err != nil {
		return m, false, err
	}
	p, s := beam.NewPipelineWithRoot()
	b.graph(s)
	stop := j.startProgress(ctx, b.what, b.stage, b.total)
	err = runners.Run(ctx, j.onEngine(h), p)
	stop()
	if err != nil {
		return m, false, err
	}
	if m, err = snapshot.Outcome(ctx, j.st, h.Set, h.RunID); err != nil {
		return m, false, errors.Join(err, j.examples(ctx, err))
	}
	j.countRemote(m)
	_, err = snapshot.Clean(ctx, j.st, h.Set, h.RunID)
	return m, false, err
}

// examples reads, of a refused run's dead letters, one for each stage and reason: what people need to see.
func (j *job) examples(ctx context.Context, err error) error {
	var refused *snapshot.RefusedError
	if !errors.As(err, &refused) {
		return nil
	}
	seen := map[string]bool{}
	var errs []error
	err = parquetio.Rows(ctx, j.st, schemas.ShardsOf(refused.Shards, snapshot.Rejected), func(r schemas.Rejected) error {
		if kind := r.Stage + "/" + r.Reason; !seen[kind] {
			seen[kind] = true
			errs = append(errs, fmt.Errorf("for example %s, row %s: %s", kind, r.Key, r.Detail))
		}
		return nil
	})
	return errors.Join(append(errs, err)...)
}

// lock keeps a second process from working on the same run, on stores that can: a lock ends with the
// process that holds it, however that ends. With wait it waits for that.
func (j *job) lock(ctx context.Context, h snapshot.Header, wait bool) (unlock func(), err error) {
	a, ok := j.st.(store.Appender)
	if !ok {
		return func() {}, nil
	}
	name := snapshot.RunDir(h.Set, h.RunID) + "/lock"
	f, err := a.Append(ctx, name)
	for wait && errors.Is(err, store.ErrConflict) {
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(100 * time.Millisecond):
		}
		f, err = a.Append(ctx, name)
	}
	if errors.Is(err, store.ErrConflict) {
		return nil, fmt.Errorf("run %s of %s is under way in another process: wait for it, or give another --run-id", h.RunID, h.Set)
	}
	if err != nil {
		return nil, err
	}
	return func() {
		// The run is over: a lock file that stays behind locks nothing.
		_ = errors.Join(j.st.Delete(ctx, name), f.Close())
	}, nil
}

// done makes a committed run the version after parent, unless it is published, and prints what it is.
func (j *job) done(ctx context.Context, command string, m snapshot.Manifest, parent int) error {
	v, err := snapshot.Publish(ctx, j.st, m, parent)
	if err != nil {
		return err
	}
	runs := []snapshot.Manifest{m}
	for _, p := range m.Parents {
		pm, err := snapshot.Load(ctx, j.st, p.Set, p.RunID)
		if err != nil {
			return err
		}
		runs = append([]snapshot.Manifest{pm}, runs...)
	}
	version := fmt.Sprintf("%s/%s@%d", j.st.URL(), m.Set, v)
	s := summarise(command, version, runs, spentSince(j.spent), j.start)
	if j.flags.json {
		return s.writeJSON(j.out)
	}
	return s.writeTable(j.out, runs, j.next(m))
}

// next are the commands that a user may want after this one.
func (j *job) next(m snapshot.Manifest) []string {
	config := "rewrite"
	if m.Rows[config] == 0 {
		config = m.Set // evaluation, judgment
	}
	files := j.st.URL() + "/" + snapshot.RunDir(m.Set, m.RunID) + "/" + config + "/*.parquet"
	lines := []string{
		fmt.Sprintf("duckdb -c \"from '%s' limit 5\"", strings.TrimPrefix(files, "file://")),
		fmt.Sprintf("promptmill verify --out %s --data-set %s", j.flags.out, m.Set),
		fmt.Sprintf("promptmill snapshots --out %s --data-set %s", j.flags.out, m.Set),
	}
	if m.Set == "preference" && m.Rows[snapshot.Rejected] > 0 {
		lines = append(lines, fmt.Sprintf("promptmill replay --out %s   # ask again for what is dead", j.flags.out))
	}
	return lines
}

// closeLog seals the response log, so that what it holds is durable, and joins its error to err.
func (j *job) closeLog(ctx context.Context, err error) error {
	log, openErr := responselog.Open(context.WithoutCancel(ctx), j.cache)
	if openErr != nil {
		return errors.Join(err, openErr)
	}
	return errors.Join(err, log.Close())
}

// sink is where a run's rows go.
func (j *job) sink(h snapshot.Header) parquetio.WriteConfig {
	return parquetio.WriteConfig{
		Store: j.st.URL(), Dir: snapshot.RunDir(h.Set, h.RunID), Seed: j.recipe.Seed, RowGroup: j.recipe.Parquet.RowGroup,
	}
}

// runID is the name of the command's run: --run-id, or the day and a hash of what decides the rows.
func (j *job) runID(parts ...any) string {
	if j.flags.runID != "" {
		return j.flags.runID
	}
	return j.day + "-" + digest(parts...)[:12]
}

// digest is the hex SHA-256 of the canonical JSON of its parts.
func digest(parts ...any) string {
	sum := sha256.Sum256(recipe.Canonical(parts))
	return hex.EncodeToString(sum[:])
}

// codeVersion is the module version or the commit that the binary was built from.
func codeVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return info.Main.Version
}
