package snapshot

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/promptmill/promptmill/store"
)

// ErrLostRace says: another run published the version that this one was to be.
var ErrLostRace = errors.New("another run published first")

// A LostRaceError says who won. It wraps ErrLostRace.
type LostRaceError struct {
	Set string
	// Winner is the run that is Version, the one after Parent; Loser is the run that is not.
	Winner, Loser   string
	Parent, Version int
}

func (e *LostRaceError) Error() string {
	return fmt.Sprintf("%v: run %s is version %d of %s, so run %s, which was to follow version %d, changed nothing that readers see; "+
		"run the same command again to build on version %d, answers that were paid for are kept",
		ErrLostRace, e.Winner, e.Version, e.Set, e.Loser, e.Parent, e.Version)
}

// Unwrap is ErrLostRace.
func (e *LostRaceError) Unwrap() error { return ErrLostRace }

// Publish makes the committed run m the version after parent (0 for the first; see Newest) and moves
// LATEST to it, unless LATEST is of a later day. It returns the version's number. Where the run is
// published already, by an attempt whose end nobody saw, that version is returned. If another run
// follows parent the error is a *LostRaceError. LATEST is moved for a winner that died before it could.
func Publish(ctx context.Context, st store.Store, m Manifest, parent int) (int, error) {
	there, err := readManifest(ctx, st, m.Set, m.RunID)
	if errors.Is(err, store.ErrNotExist) {
		err = fmt.Errorf("%w: %w", ErrNotCommitted, err)
	}
	if err != nil {
		return 0, err
	}
	if there.Digest != m.Digest {
		return 0, fmt.Errorf("snapshot: publish run %s of %s: its digest is %s, the one committed has %s", m.RunID, m.Set, m.Digest, there.Digest)
	}
	versions, err := Versions(ctx, st, m.Set)
	if err != nil {
		return 0, err
	}
	newest := Version{}
	for _, v := range versions {
		if v.RunID == m.RunID {
			return v.Version, moveLatest(ctx, st, v)
		}
		newest = v
	}
	if newest.Version > 0 {
		if err := moveLatest(ctx, st, newest); err != nil {
			return 0, err
		}
	}
	switch {
	case parent > newest.Version:
		return 0, fmt.Errorf("snapshot: publish run %s of %s: there is no version %d to follow, the newest is %d", m.RunID, m.Set, parent, newest.Version)
	case parent < newest.Version:
		return 0, lostRace(m, parent, winner(versions, parent))
	}
	next := Version{
		Format: format, Version: parent + 1, Set: m.Set, RunID: m.RunID, LogicalDate: there.LogicalDate,
		Manifest: manifestName(m.Set, m.RunID), SHA256: there.sha256, Digest: there.Digest, Rows: there.Rows,
		Published: time.Now().UTC(),
	}
	data, err := encode(next)
	if err != nil {
		return 0, err
	}
	_, err = st.CompareAndSwap(ctx, versionName(m.Set, next.Version), "", data)
	if errors.Is(err, store.ErrConflict) {
		// Another run was faster, or the answer to our own request was lost.
		next, err = readVersion(ctx, st, versionName(m.Set, next.Version))
	}
	if err != nil {
		return 0, fmt.Errorf("snapshot: publish run %s of %s: %w", m.RunID, m.Set, err)
	}
	if err := moveLatest(ctx, st, next); err != nil {
		return 0, err
	}
	if next.RunID != m.RunID {
		return 0, lostRace(m, parent, next)
	}
	return next.Version, nil
}

func lostRace(m Manifest, parent int, winner Version) error {
	return &LostRaceError{Set: m.Set, Winner: winner.RunID, Loser: m.RunID, Parent: parent, Version: winner.Version}
}

// winner is the first version after parent.
func winner(versions []Version, parent int) Version {
	for _, v := range versions {
		if v.Version > parent {
			return v
		}
	}
	return Version{}
}

// moveLatest makes LATEST v, unless it is that far already.
func moveLatest(ctx context.Context, st store.Store, v Version) error {
	name := latestName(v.Set)
	data, err := encode(v)
	if err != nil {
		return err
	}
	for {
		there, old, err := st.Read(ctx, name)
		switch {
		case err == nil:
			var now Version
			if err := decode(name, there, &now); err != nil {
				return fmt.Errorf("%w; delete it, the next command that publishes writes it anew", err)
			}
			if !v.after(now) {
				return nil
			}
		case !errors.Is(err, store.ErrNotExist):
			return fmt.Errorf("snapshot: move %s to version %d: %w", name, v.Version, err)
		}
		// A conflict means that another publisher moved it: each round somebody gets on.
		_, err = st.CompareAndSwap(ctx, name, old, data)
		if err == nil {
			return nil
		}
		if !errors.Is(err, store.ErrConflict) {
			return fmt.Errorf("snapshot: move %s to version %d: %w", name, v.Version, err)
		}
	}
}
