package snapshot

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/transforms/ledger"
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
	var errs []error
	fault := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", field, fmt.Sprintf(format, args...)))
	}
	if c.Store == "" {
		fault("snapshot.store", "empty; give the URL or the folder of a store")
	}
	if err := checkSet(c.Set); err != nil {
		fault("snapshot.set", "%v", err)
	}
	if err := checkRunID(c.RunID); err != nil {
		fault("snapshot.run_id", "%v", err)
	}
	if _, err := time.Parse(time.DateOnly, c.LogicalDate); err != nil {
		fault("snapshot.logical_date", "%q is not a day; write it as 2026-01-31", c.LogicalDate)
	}
	for i, eq := range c.Equations {
		if err := checkEquation(eq); err != nil {
			fault(fmt.Sprintf("snapshot.equations[%d]", i), "%v", err)
		}
	}
	return errors.Join(errors.Join(errs...), c.Gates.Validate())
}

// Validate joins all faults.
func (g Gates) Validate() error {
	var errs []error
	if f := g.MaxDeadFraction; !(f >= 0 && f <= 1) {
		errs = append(errs, fmt.Errorf("gates.max_dead_fraction: %g is not in 0..1; 0.05 allows five in a hundred", f))
	}
	for _, config := range slices.Sorted(maps.Keys(g.MinRows)) {
		if n := g.MinRows[config]; n < 0 {
			errs = append(errs, fmt.Errorf("gates.min_rows.%s: %d is negative; give the smallest number of rows that will do", config, n))
		}
	}
	return errors.Join(errs...)
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
