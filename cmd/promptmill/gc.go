package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/promptmill/promptmill/pipelines/rounds"
	"github.com/promptmill/promptmill/store"
)

func (a *app) gcCmd() *cobra.Command {
	var age time.Duration
	c := &cobra.Command{
		Use:   "gc",
		Short: "Remove rounds of data sets that no committed version was made of",
		Long: `The evaluation and the judgment set are built in rounds, which are kept beside them. gc removes the rounds that no
committed version names as its parents: what builds left that missed their target, or that were given up. A build
that goes on later makes them again from the answers that are kept. A round that was broken off has no age: it goes
with --older-than 0s only, which is not for the time while one of these sets is built.

  promptmill gc --out data --dry-run`,
		Args: cobra.NoArgs,
		RunE: run(func(ctx context.Context, _ []string) error {
			st, err := a.openOut(ctx)
			if err != nil {
				return err
			}
			if age < 0 {
				return usageError{fmt.Errorf("--older-than: %v is negative", age)}
			}
			return a.collect(ctx, st, age)
		}),
	}
	c.Flags().StringVar(&a.flags.out, "out", "", "`directory` or URL of the store")
	c.Flags().DurationVar(&age, "older-than", 24*time.Hour, "leave what is younger, and rounds that were broken off unless it is 0")
	c.Flags().BoolVar(&a.flags.dryRun, "dry-run", false, "only say what would be removed")
	return c
}

// collect removes what is so old and nothing names, or says what it would.
func (a *app) collect(ctx context.Context, st store.Store, age time.Duration) error {
	found := []rounds.Garbage{}
	for _, set := range []string{"evaluation", "judgment"} {
		g, err := rounds.Unnamed(ctx, st, set, age)
		if err == nil && !a.flags.dryRun {
			err = g.Remove(ctx, st)
		}
		if err != nil {
			return err
		}
		found = append(found, g)
	}
	if a.flags.json {
		return json.NewEncoder(a.out).Encode(map[string]any{"command": "gc", "removed": !a.flags.dryRun, "rounds": found})
	}
	verb := "removed"
	if a.flags.dryRun {
		verb = "would remove"
	}
	for _, g := range found {
		if _, err := fmt.Fprintf(a.out, "%s: %s %d rounds, %.1f MB\n", g.Set, verb, len(g.Runs), float64(g.Bytes)/1e6); err != nil {
			return err
		}
	}
	return nil
}
