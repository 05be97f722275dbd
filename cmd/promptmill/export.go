package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/promptmill/promptmill/pipelines/export"
	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/transforms/conformance"
	"github.com/promptmill/promptmill/transforms/snapshot"
)

func (a *app) exportCmd() *cobra.Command {
	var f setFlags
	var cfg export.Config
	var to string
	c := &cobra.Command{
		Use:   "export " + strings.Join(export.Formats(), "|"),
		Short: "Write a version of a data set as the files that a trainer or a hub reads",
		Long: `Write a version of a data set as the files that a trainer or a hub reads:

  trl           Parquet that TRL's SFTTrainer and DPOTrainer load as it is
  llamafactory  sharegpt JSONL with dataset_info.json, pictures as files
  openai        JSONL of fine-tuning endpoints
  llava         the JSON array of LLaVA and VILA, pictures as files
  hf            a repository for Hugging Face's hub, all configurations, with a card

Every row is looked at first; one that a trainer would stumble over stops the export (exit code 3).`,
		Args: cobra.ExactArgs(1),
		RunE: run(func(ctx context.Context, args []string) error {
			cfg.Format = args[0]
			if err := cfg.Validate(); err != nil {
				return usageError{err}
			}
			if to == "" {
				return usagef("no --to: name the empty directory that receives the files, as in --to export")
			}
			st, m, err := a.openSet(ctx, f)
			if err != nil {
				return err
			}
			dst, err := store.Open(ctx, to)
			if err != nil {
				return err
			}
			r, err := export.Write(ctx, st, m, dst, cfg)
			if errors.Is(err, conformance.ErrFaulty) {
				return fmt.Errorf("%w: %w", snapshot.ErrGate, err)
			}
			if err != nil {
				return err
			}
			return a.printExport(dst, r)
		}),
	}
	a.addSetFlags(c, &f)
	c.Flags().StringVar(&to, "to", "", "empty `directory` or URL that receives the files")
	c.Flags().StringVar(&cfg.Configuration, "configuration", "", "the `name` of the configuration, if more than one can be trained on")
	c.Flags().Int64Var(&cfg.ShardRows, "shard-rows", 0, "most `rows` of a file that is rewritten (default: no limit)")
	c.Flags().StringVar(&cfg.License, "license", "", "SPDX `identifier` for the card of hf")
	return c
}

func (a *app) printExport(dst store.Store, r export.Result) error {
	if a.flags.json {
		return json.NewEncoder(a.out).Encode(struct {
			Command string `json:"command"`
			To      string `json:"to"`
			export.Result
		}{"export", dst.URL(), r})
	}
	_, err := fmt.Fprintf(a.out, "%s: %s run %s as %s: %s in %d files, %d pictures\n", dst.URL(), r.Set, r.RunID, r.Format, counted(r.Rows), len(r.Files), r.Pictures)
	return err
}
