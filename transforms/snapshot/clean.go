package snapshot

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/promptmill/promptmill/store"
)

// Clean deletes what a run has no more use for: spilled rows, shards that are not in its manifest, and
// refusals. Of a run without a manifest no shard is kept. It returns how many bytes it freed. Call it
// when no attempt of the run is under way.
func Clean(ctx context.Context, st store.Store, set, runID string) (freed int64, err error) {
	keep := map[string]bool{}
	m, err := readManifest(ctx, st, set, runID)
	if err != nil && !errors.Is(err, store.ErrNotExist) {
		return 0, err
	}
	for _, s := range m.Shards {
		keep[s.Object] = true
	}
	for info, err := range st.List(ctx, RunDir(set, runID)+"/") {
		if err == nil && !keep[info.Name] && cleanable(set, runID, info.Name) {
			err = st.Delete(ctx, info.Name)
			freed += info.Size
		}
		if err != nil {
			return freed, fmt.Errorf("snapshot: clean run %s of %s: %w", runID, set, err)
		}
	}
	return freed, nil
}

func cleanable(set, runID, name string) bool {
	return strings.HasPrefix(name, spillPrefix(set, runID)) || strings.HasPrefix(name, verdictPrefix(set, runID)) ||
		strings.HasSuffix(name, ".parquet")
}
