package main

import (
	"context"
	"encoding/json"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/transforms/snapshot"
)

// setFlags choose a data set of a store, and a version of it.
type setFlags struct{ set, version string }

func (a *app) addSetFlags(c *cobra.Command, f *setFlags) {
	c.Flags().StringVar(&a.flags.out, "out", "", "`directory` or URL of the store")
	c.Flags().StringVar(&f.set, "data-set", "preference", "the data `set`: preference, sft or prompts")
	c.Flags().StringVar(&f.version, "version", "latest", "a version's number, a run id, or latest")
}

func (a *app) openSet(ctx context.Context, f setFlags) (store.Store, snapshot.Manifest, error) {
	st, err := a.openOut(ctx)
	if err != nil {
		return nil, snapshot.Manifest{}, err
	}
	m, err := snapshot.Load(ctx, st, f.set, f.version)
	return st, m, err
}

func (a *app) snapshotsCmd() *cobra.Command {
	var f setFlags
	c := &cobra.Command{
		Use:   "snapshots",
		Short: "List the published versions of a data set",
		Args:  cobra.NoArgs,
		RunE: run(func(ctx context.Context, _ []string) error {
			st, err := a.openOut(ctx)
			if err != nil {
				return err
			}
			versions, err := snapshot.Versions(ctx, st, f.set)
			if err != nil {
				return err
			}
			return a.printVersions(st, f.set, versions)
		}),
	}
	c.Flags().StringVar(&a.flags.out, "out", "", "`directory` or URL of the store")
	c.Flags().StringVar(&f.set, "data-set", "preference", "the data `set`: preference or sft")
	return c
}

func (a *app) printVersions(st store.Store, set string, versions []snapshot.Version) error {
	if a.flags.json {
		return json.NewEncoder(a.out).Encode(map[string]any{"command": "snapshots", "set": set, "snapshots": versions})
	}
	if len(versions) == 0 {
		_, err := fmt.Fprintf(a.out, "no version of %s is published in %s\n", set, st.URL())
		return err
	}
	t := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "version\tday\trun\tpublished\trows\tdigest")
	for _, v := range versions {
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%.12s\n", v.Version, v.LogicalDate, v.RunID,
			v.Published.Format(time.DateTime), counted(v.Rows), v.Digest)
	}
	return t.Flush()
}

func (a *app) verifyCmd() *cobra.Command {
	var f setFlags
	c := &cobra.Command{
		Use:   "verify",
		Short: "Read every file of a version and compare size, hash and rows with its manifest",
		Args:  cobra.NoArgs,
		RunE: run(func(ctx context.Context, _ []string) error {
			st, m, err := a.openSet(ctx, f)
			if err != nil {
				return err
			}
			if err := snapshot.Verify(ctx, st, m); err != nil {
				return err
			}
			if a.flags.json {
				return json.NewEncoder(a.out).Encode(map[string]any{
					"command": "verify", "run_id": m.RunID, "digest": m.Digest, "rows": m.Rows, "files": len(m.Shards),
				})
			}
			_, err = fmt.Fprintf(a.out, "%s run %s: %d files are as the manifest says; rows %s; digest %s\n",
				m.Set, m.RunID, len(m.Shards), counted(m.Rows), m.Digest)
			return err
		}),
	}
	a.addSetFlags(c, &f)
	return c
}
