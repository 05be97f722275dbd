package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/promptmill/promptmill/report"
	"github.com/promptmill/promptmill/store"
)

func (a *app) reportCmd() *cobra.Command {
	var f setFlags
	var to string
	var pairs int
	c := &cobra.Command{
		Use:   "report",
		Short: "Show a preference snapshot as an HTML page: its ledger, and pairs with their pictures",
		Args:  cobra.NoArgs,
		RunE: run(func(ctx context.Context, _ []string) error {
			st, m, err := a.openSet(ctx, f)
			if err != nil {
				return err
			}
			cache, err := store.Open(ctx, a.cacheURL())
			if err != nil {
				return err
			}
			if to == "" {
				if strings.Contains(a.flags.out, "://") {
					return usagef("no --to: name the file that receives the page")
				}
				to = filepath.Join(a.flags.out, "report-"+m.RunID+".html")
			}
			file, err := os.Create(to)
			if err != nil {
				return err
			}
			err = report.Preference(ctx, file, st, cache, m, pairs)
			if closed := file.Close(); err == nil {
				err = closed
			}
			if err != nil {
				_ = os.Remove(to)
				return err
			}
			if a.flags.json {
				return json.NewEncoder(a.out).Encode(map[string]any{"command": "report", "run_id": m.RunID, "digest": m.Digest, "file": to})
			}
			_, err = fmt.Fprintf(a.out, "%s: open it in a browser\n", to)
			return err
		}),
	}
	c.Flags().StringVar(&a.flags.out, "out", "", "`directory` or URL of the store")
	c.Flags().StringVar(&a.flags.cache, "cache", "", "`directory` or URL of the pictures (default OUT/cache)")
	c.Flags().StringVar(&f.version, "version", "latest", "a version's number, a run id, or latest")
	c.Flags().StringVar(&to, "to", "", "`file` that receives the page (default OUT/report-RUN.html)")
	c.Flags().IntVar(&pairs, "pairs", 40, "how many pairs to show")
	f.set = "preference"
	return c
}
