package rounds

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/transforms/snapshot"
)

// Garbage are rounds of a set that no committed run of it names among its parents, and what they hold.
type Garbage struct {
	Set   string   `json:"set"`
	Runs  []string `json:"runs"`
	Bytes int64    `json:"bytes"`

	objects []string
}

// Unnamed finds the rounds of a set that no committed run of it names and that were committed at least so long ago:
// of a build that is under way, or was interrupted, the rounds are younger. When a round was begun that was never
// committed is not known; it is found at 0 alone.
func Unnamed(ctx context.Context, st store.Store, set string, age time.Duration) (Garbage, error) {
	g := Garbage{Set: set + suffix, Runs: []string{}}
	keep := map[string]bool{}
	committed, err := runsOf(ctx, st, set)
	if err != nil {
		return g, err
	}
	for _, run := range slices.Sorted(maps.Keys(committed)) {
		m, err := snapshot.Load(ctx, st, set, run)
		if errors.Is(err, store.ErrNotExist) {
			continue // it is not committed: nothing reads its rounds but the command that will go on
		}
		if err != nil {
			return g, fmt.Errorf("rounds: %w", err)
		}
		for _, p := range m.Parents {
			keep[p.RunID] = keep[p.RunID] || p.Set == g.Set
		}
	}
	all, err := runsOf(ctx, st, g.Set)
	if err != nil {
		return g, err
	}
	for _, run := range slices.Sorted(maps.Keys(all)) {
		if keep[run] {
			continue
		}
		m, err := snapshot.Load(ctx, st, g.Set, run)
		uncommitted := errors.Is(err, store.ErrNotExist)
		if err != nil && !uncommitted {
			return g, fmt.Errorf("rounds: %w", err)
		}
		if age > 0 && (uncommitted || time.Since(m.Created) < age) {
			continue
		}
		g.Runs = append(g.Runs, run)
		for _, o := range all[run] {
			g.Bytes += o.Size
			g.objects = append(g.objects, o.Name)
		}
	}
	// A round without its manifest is one that was never built, whatever else is left of it.
	slices.SortStableFunc(g.objects, func(a, b string) int {
		return strings.Compare(kind(a), kind(b))
	})
	return g, nil
}

func kind(object string) string {
	if path.Base(object) == "manifest.json" {
		return "0"
	}
	return "1"
}

// Remove deletes what Unnamed found.
func (g Garbage) Remove(ctx context.Context, st store.Store) error {
	for _, name := range g.objects {
		if err := st.Delete(ctx, name); err != nil && !errors.Is(err, store.ErrNotExist) {
			return fmt.Errorf("rounds: remove %s: %w", name, err)
		}
	}
	return nil
}

// runsOf are the objects of each run of a set.
func runsOf(ctx context.Context, st store.Store, set string) (map[string][]store.Info, error) {
	out := map[string][]store.Info{}
	prefix := snapshot.RunDir(set, "") + "/"
	for info, err := range st.List(ctx, prefix) {
		if err != nil {
			return nil, fmt.Errorf("rounds: list %s: %w", prefix, err)
		}
		run, _, _ := strings.Cut(strings.TrimPrefix(info.Name, prefix), "/")
		out[run] = append(out[run], info)
	}
	return out, nil
}
