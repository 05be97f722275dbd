package snapshot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"

	"github.com/promptmill/promptmill/store"
)

const latest = "latest"

// isVersion says that ref is a version's number and not a run id.
func isVersion(ref string) bool {
	_, err := strconv.ParseUint(ref, 10, 32)
	return err == nil && len(ref) <= 8
}

// Latest returns the manifest that LATEST names and its version. The error wraps store.ErrNotExist if
// nothing was ever published, store.ErrDamaged if a hash does not match.
func Latest(ctx context.Context, st store.Store, set string) (Manifest, int, error) {
	v, err := readVersion(ctx, st, latestName(set))
	if errors.Is(err, store.ErrNotExist) {
		return Manifest{}, 0, fmt.Errorf("snapshot: nothing of %s is published in %s: %w", set, st.URL(), err)
	}
	if err != nil {
		return Manifest{}, 0, err
	}
	m, err := v.load(ctx, st)
	return m, v.Version, err
}

// Versions returns what was published of a set, oldest first; nothing at all is no error.
func Versions(ctx context.Context, st store.Store, set string) ([]Version, error) {
	names, err := versionNames(ctx, st, set)
	if err != nil {
		return nil, err
	}
	var versions []Version
	for _, name := range names {
		v, err := readVersion(ctx, st, name)
		if err != nil {
			return nil, err
		}
		versions = append(versions, v)
	}
	return versions, nil
}

// Newest is the number of the newest version of a set, 0 if there is none: the parent to publish on. It
// may be of an earlier day than LATEST.
func Newest(ctx context.Context, st store.Store, set string) (int, error) {
	names, err := versionNames(ctx, st, set)
	if err != nil || len(names) == 0 {
		return 0, err
	}
	return versionNumber(set, names[len(names)-1]), nil
}

func versionNames(ctx context.Context, st store.Store, set string) ([]string, error) {
	if err := checkSet(set); err != nil {
		return nil, fmt.Errorf("snapshot: set: %w", err)
	}
	var names []string
	for info, err := range st.List(ctx, versionsPrefix(set)) {
		if err != nil {
			return nil, fmt.Errorf("snapshot: versions of %s: %w", set, err)
		}
		if versionNumber(set, info.Name) > 0 {
			names = append(names, info.Name)
		}
	}
	return names, nil
}

// Load returns the manifest that ref names: a version's number, the id of a committed run whether it is
// published or not, or "latest".
func Load(ctx context.Context, st store.Store, set, ref string) (Manifest, error) {
	switch {
	case ref == latest || ref == "":
		m, _, err := Latest(ctx, st, set)
		return m, err
	case isVersion(ref):
		n, err := strconv.Atoi(ref)
		if err != nil {
			return Manifest{}, fmt.Errorf("snapshot: version %s of %s: %w", ref, set, err)
		}
		v, err := readVersion(ctx, st, versionName(set, n))
		if err != nil {
			return Manifest{}, err
		}
		return v.load(ctx, st)
	default:
		m, err := readManifest(ctx, st, set, ref)
		return m.Manifest, err
	}
}

func readVersion(ctx context.Context, st store.Store, name string) (Version, error) {
	data, _, err := st.Read(ctx, name)
	if err != nil {
		return Version{}, fmt.Errorf("snapshot: %w", err)
	}
	var v Version
	return v, decode(name, data, &v)
}

// load reads the manifest of v and checks that it is the one that was published.
func (v Version) load(ctx context.Context, st store.Store) (Manifest, error) {
	there, err := readManifest(ctx, st, v.Set, v.RunID)
	if err != nil {
		return Manifest{}, err
	}
	if there.sha256 != v.SHA256 {
		return Manifest{}, fmt.Errorf("snapshot: %s: %w: its SHA-256 is %s, version %d was published with %s",
			v.Manifest, store.ErrDamaged, there.sha256, v.Version, v.SHA256)
	}
	return there.Manifest, nil
}

// A stored manifest, with the state of its object.
type stored struct {
	Manifest
	version store.Version
	sha256  string
}

// readManifest reads a run's manifest; if that is damaged the result still has the object's version.
func readManifest(ctx context.Context, st store.Store, set, runID string) (stored, error) {
	if err := errors.Join(checkSet(set), checkRunID(runID)); err != nil {
		return stored{}, fmt.Errorf("snapshot: run %q of %q: %w", runID, set, err)
	}
	name := manifestName(set, runID)
	data, version, err := st.Read(ctx, name)
	if err != nil {
		return stored{}, fmt.Errorf("snapshot: %w", err)
	}
	sum := sha256.Sum256(data)
	m := stored{version: version, sha256: hex.EncodeToString(sum[:])}
	err = decode(name, data, &m.Manifest)
	if err == nil && (m.Set != set || m.RunID != runID) {
		err = fmt.Errorf("snapshot: %s: %w: it is of run %s of %s", name, store.ErrDamaged, m.RunID, m.Set)
	}
	return m, err
}
