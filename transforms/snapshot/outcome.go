package snapshot

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
)

// Errors that Outcome's errors wrap.
var (
	// ErrLedger: the counts do not balance, which is a defect of the pipeline.
	ErrLedger = errors.New("the ledger does not balance")
	// ErrGate: a quality gate is closed.
	ErrGate = errors.New("a gate is closed")
	// ErrNotCommitted: no attempt of the run came to its end.
	ErrNotCommitted = errors.New("the run was not committed")
)

// A RefusedError is why a run was not committed, and what it had made. Its shards are in the store, so
// that the dead letters among them can be read; nothing names them as data.
type RefusedError struct {
	Format int    `json:"format"`
	Set    string `json:"set"`
	RunID  string `json:"run_id"`
	// Verdict is LedgerMismatch or GateClosed.
	Verdict string           `json:"verdict"`
	Detail  string           `json:"detail"`
	Time    time.Time        `json:"time"`
	Counts  []schemas.Count  `json:"counts"`
	Rows    map[string]int64 `json:"rows"`
	Shards  []schemas.Shard  `json:"shards"`
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("run %s of %s is not published: %v: %s", e.RunID, e.Set, e.Unwrap(), e.Detail)
}

// Unwrap is ErrLedger or ErrGate.
func (e *RefusedError) Unwrap() error {
	if e.Verdict == GateClosed {
		return ErrGate
	}
	return ErrLedger
}

// Outcome is the manifest of a run whose pipeline has ended. Otherwise the error is a *RefusedError, the
// last attempt's, or wraps ErrNotCommitted. It is for the launcher: errors lose their type on a runner.
func Outcome(ctx context.Context, st store.Store, set, runID string) (Manifest, error) {
	there, err := readManifest(ctx, st, set, runID)
	if err == nil || !errors.Is(err, store.ErrNotExist) {
		return there.Manifest, err
	}
	var last string
	for info, err := range st.List(ctx, verdictPrefix(set, runID)) {
		if err != nil {
			return Manifest{}, fmt.Errorf("snapshot: run %s of %s: %w", runID, set, err)
		}
		last = info.Name // names ascend with time
	}
	if last == "" {
		return Manifest{}, fmt.Errorf("snapshot: run %s of %s: %w; the same command goes on where it stopped", runID, set, ErrNotCommitted)
	}
	data, _, err := st.Read(ctx, last)
	if err != nil {
		return Manifest{}, fmt.Errorf("snapshot: run %s of %s: %w", runID, set, err)
	}
	refused := &RefusedError{}
	if err := decode(last, data, refused); err != nil {
		return Manifest{}, err
	}
	return Manifest{}, refused
}
