package main

import (
	"context"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/spf13/cobra"

	"github.com/promptmill/promptmill/pipelines/sft"
	"github.com/promptmill/promptmill/transforms/heldout"
	"github.com/promptmill/promptmill/transforms/mix"
	"github.com/promptmill/promptmill/transforms/parquetio"
	"github.com/promptmill/promptmill/transforms/snapshot"
	"github.com/promptmill/promptmill/transforms/source"
)

func (a *app) sftCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "sft",
		Short: "Build the supervised set: rewrite pairs as chat rows, shuffled and split",
		Long: `sft turns pairs of raw and rewritten prompts into chat rows for supervised fine-tuning: one row for each
raw prompt, free of benchmarks, in a seeded order, split by hash.

  promptmill sft --set 'pairs.inputs=[{name: mine, path: pairs.jsonl}]' --out data`,
		Args: cobra.NoArgs,
		RunE: run(func(ctx context.Context, _ []string) error {
			j, err := a.newJob(ctx)
			if err != nil {
				return err
			}
			if a.flags.dryRun {
				return a.writePlan(ctx, "sft", j.recipe, j.doc)
			}
			return j.sft(ctx)
		}),
	}
	a.jobFlags(c)
	return c
}

// sft builds and publishes the supervised set.
func (j *job) sft(ctx context.Context) error {
	parent, err := snapshot.Newest(ctx, j.st, "sft")
	if err != nil {
		return err
	}
	m, err := j.sftSet(ctx)
	if err != nil {
		return err
	}
	return j.done(ctx, "sft", m, parent)
}

// sftSet returns the supervised set of the recipe, building it if it is not there.
func (j *job) sftSet(ctx context.Context) (m snapshot.Manifest, err error) {
	const set = "sft"
	src := j.recipe.Pairs
	if err := inspect(ctx, set, j.recipe, j.doc); err != nil {
		return m, err
	}
	files, err := source.Digest(ctx, src)
	if err != nil {
		return m, err
	}
	benchmarks, err := heldout.Digests(ctx, j.recipe.Heldout)
	if err != nil {
		return m, err
	}
	runID := j.runID(set, files, benchmarks, src, j.recipe.Heldout, j.recipe.SFT, j.recipe.Rewrite.Template, j.recipe.Seed)
	h := j.header(set, runID)
	h.Templates = []string{j.recipe.Rewrite.Template.ID}
	rows, err := source.Estimate(ctx, src)
	if err != nil {
		return m, err
	}
	sink := j.sink(h)
	sink.Buckets = parquetio.Buckets(rows, j.recipe.Parquet.ShardRows)
	sink.Splits = splits(j.recipe.SFT.ValidationPermille)
	cfg := sft.Config{
		Source: src, Heldout: j.recipe.Heldout, Mix: mix.Config{Rewrite: j.recipe.Rewrite.Template},
		Sink:     sink,
		Snapshot: snapshot.Config{Store: j.st.URL(), Header: h, Gates: j.recipe.Gates},
	}
	m, _, err = j.ensure(ctx, build{
		header: h, what: "sft", stage: "source", total: rows,
		graph: func(s beam.Scope) { sft.Build(s, cfg) },
	})
	return m, err
}

// splits cuts off the validation split, if there is one.
func splits(validation int) []parquetio.Split {
	if validation == 0 {
		return nil
	}
	return []parquetio.Split{{Name: "train", Permille: 1000 - validation}, {Name: "validation", Permille: validation}}
}
