package snapshot

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/transforms/ledger"
	"github.com/promptmill/promptmill/transforms/settings"
)

// Config says what to commit and what it must satisfy.
type Config struct {
	// Store is the URL of the store.
	Store  string `json:"store" yaml:"store"`
	Header `yaml:",inline"`
	// Equations tie the ledger's stages and the rows written together: see ledger.Check.
	Equations []string `json:"equations,omitempty" yaml:"equations,omitempty"`
	Gates     Gates    `json:"gates" yaml:"gates"`
	// Undigested names configurations that, like Rejected, are no part of the data set's digest.
	Undigested []string `json:"undigested,omitempty" yaml:"undigested,omitempty"`
}

// Gates are what a run must satisfy to be committed.
type Gates struct {
	// MaxDeadFraction is the largest part of what goes into any one stage that may be dead: 0 allows
	// none, 1 everything.
	MaxDeadFraction float64 `json:"max_dead_fraction" yaml:"max_dead_fraction"`
	// MinRows is the smallest number of rows by configuration.
	MinRows map[string]int64 `json:"min_rows,omitempty" yaml:"min_rows,omitempty"`
}

// Validate joins all faults.
func (c Config) Validate() error {
	faults := settings.Of("snapshot")
	faults.Check(c.Store != "", "store: empty; give the URL or the folder of a store")
	faults.CheckErr("set", checkSet(c.Set))
	faults.CheckErr("run_id", checkRunID(c.RunID))
	_, err := time.Parse(time.DateOnly, c.LogicalDate)
	faults.Check(err == nil, "logical_date: %q is not a day; write it as 2026-01-31", c.LogicalDate)
	for i, eq := range c.Equations {
		faults.CheckErr(fmt.Sprintf("equations[%d]", i), checkEquation(eq))
	}
	faults.Join(c.Gates.Validate())
	return faults.Err()
}

// Validate joins all faults.
func (g Gates) Validate() error {
	faults := settings.Of("gates")
	faults.Check(g.MaxDeadFraction >= 0 && g.MaxDeadFraction <= 1, "max_dead_fraction: %g is not in 0..1; 0.05 allows five in a hundred", g.MaxDeadFraction)
	for _, config := range slices.Sorted(maps.Keys(g.MinRows)) {
		n := g.MinRows[config]
		faults.Check(n >= 0, "min_rows.%s: %d is negative; give the smallest number of rows that will do", config, n)
	}
	return faults.Err()
}

func checkSet(set string) error {
	if err := store.CheckName(set); err != nil {
		return err
	}
	for segment := range strings.SplitSeq(set, "/") {
		if slices.Contains([]string{"runs", "snapshots", "LATEST", "blobs"}, segment) {
			return fmt.Errorf("%q has the segment %q, which stores use themselves; choose another name", set, segment)
		}
	}
	return nil
}

func checkRunID(id string) error {
	if err := store.CheckName(id); err != nil {
		return err
	}
	if strings.Contains(id, "/") {
		return fmt.Errorf("%q has a slash; a run id is one word", id)
	}
	if isVersion(id) || id == latest {
		return fmt.Errorf("%q reads like a version; choose a word with a letter in it", id)
	}
	return nil
}

// checkEquation finds a malformed equation before the run and not at its end: a side is well formed if
// it equals itself.
func checkEquation(eq string) error {
	left, right, ok := strings.Cut(eq, "=")
	if !ok {
		return fmt.Errorf("%q has no =; write it as in \"draw.in = rewrite.out\"", eq)
	}
	if ledger.Check(nil, nil, []string{left + "=" + left, right + "=" + right}) != nil {
		return fmt.Errorf("%q has a term that is neither stage.outcome, 8*stage.outcome nor a whole number", eq)
	}
	return nil
}
