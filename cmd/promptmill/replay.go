package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/promptmill/promptmill/transforms/snapshot"
)

// replayAttempts is how many more times than the recipe says a replay asks for an answer of no use.
const replayAttempts = 3

func (a *app) replayCmd() *cobra.Command {
	var f setFlags
	c := &cobra.Command{
		Use:   "replay",
		Short: "Bring dead letters back: run a version again where only what failed is asked anew",
		Long: `replay runs the recipe of a preference version again under a new run id. Every answer that was paid for
comes from the response log; what was dead is asked again, with seeds that were not tried. The result is
a whole new version of the set. With nothing dead there is nothing to do.`,
		Args: cobra.NoArgs,
		RunE: run(func(ctx context.Context, _ []string) error {
			_, m, err := a.openSet(ctx, f)
			if err != nil {
				return err
			}
			if m.Set != "preference" {
				return usagef("replay is for preference: the dead letters of %s are records of the input files; mend those and run the command again", m.Set)
			}
			if m.Rows[snapshot.Rejected] == 0 {
				_, err := fmt.Fprintf(a.out, "run %s has no dead letters\n", m.RunID)
				return err
			}
			return a.replay(ctx, m)
		}),
	}
	a.addSetFlags(c, &f)
	c.Flags().StringVar(&a.flags.cache, "cache", "", "`directory` or URL of the response log and the pictures (default OUT/cache)")
	c.Flags().StringVar(&a.flags.runner, "runner", "prism", "Beam `runner`: prism or direct")
	c.Flags().StringVar(&a.flags.runID, "run-id", "", "name of the new run (default: the old one's with -replay)")
	return c
}

// replay runs m's recipe again, from the copy that its manifest keeps.
func (a *app) replay(ctx context.Context, m snapshot.Manifest) (err error) {
	dir, err := os.MkdirTemp("", "promptmill-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	a.flags.recipe = filepath.Join(dir, "recipe.yaml")
	if err := os.WriteFile(a.flags.recipe, []byte(m.Recipe), 0o600); err != nil {
		return err
	}
	a.flags.logicalDate, a.flags.models = m.LogicalDate, m.Metadata["models"]
	if a.flags.runID == "" {
		a.flags.runID = m.RunID + "-replay"
	}
	j, err := a.newJob(ctx)
	if err != nil {
		return fmt.Errorf("recipe of run %s: %w", m.RunID, err)
	}
	r := j.recipe
	for _, n := range []*int{&r.Rewrite.ExtraAttempts, &r.Imagegen.ExtraAttempts, &r.Judge.ExtraAttempts, &r.JudgmentPairs.ExtraAttempts} {
		*n += replayAttempts
	}
	return j.preference(ctx, "replay")
}
