package main

import (
	"context"
	"slices"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/spf13/cobra"

	"github.com/promptmill/promptmill/pipelines/sft"
	"github.com/promptmill/promptmill/recipe"
	"github.com/promptmill/promptmill/transforms/heldout"
	"github.com/promptmill/promptmill/transforms/mix"
	"github.com/promptmill/promptmill/transforms/parquetio"
	"github.com/promptmill/promptmill/transforms/snapshot"
	"github.com/promptmill/promptmill/transforms/source"
)

func (a *app) sftCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "sft",
		Short: "Build the supervised set: rewrite pairs, evaluations and judgments, shuffled and split",
		Long: `sft turns pairs of raw and rewritten prompts into chat rows for supervised fine-tuning, one row for each raw
prompt, and mixes in the evaluation and the judgment set, which it builds if they are not there: free of
benchmarks, in a seeded order, split so that no prompt and no picture is in both splits.

  promptmill sft --recipe demo --out data
  promptmill sft --set sft.parts=[rewrite] --set 'pairs.inputs=[{name: mine, path: pairs.jsonl}]' --out data`,
		Args: cobra.NoArgs,
		RunE: a.supervised("sft", func(j *job, ctx context.Context, _ bool) (snapshot.Manifest, error) {
			return j.supervisedSet(ctx)
		}),
	}
	a.jobFlags(c)
	a.shortFlag(c)
	return c
}

// sftSet returns the set that policy 0 of the loop is trained on: the recipe's mixture, or of it the pairs alone if the
// trainer gets no more.
func (j *job) sftSet(ctx context.Context) (snapshot.Manifest, error) {
	if slices.Contains(j.recipe.Training.Configurations, sft.Vision) {
		return j.mixture(ctx)
	}
	return j.rewriteSet(ctx)
}

// supervisedSet is the recipe's mixture, or the pairs alone.
func (j *job) supervisedSet(ctx context.Context) (snapshot.Manifest, error) {
	if !j.recipe.SFT.Mixed() {
		return j.rewriteSet(ctx)
	}
	return j.mixture(ctx)
}

// rewriteSet returns the supervised set that has the pairs alone, building it if it is not there.
func (j *job) rewriteSet(ctx context.Context) (m snapshot.Manifest, err error) {
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
	runID := j.runID(set, files, benchmarks, src, j.recipe.Heldout, recipe.SFT{ValidationPermille: j.recipe.SFT.ValidationPermille}, j.recipe.Rewrite.Template, j.recipe.Rewrite.Continues, j.recipe.Seed)
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
		Source: src, Heldout: j.recipe.Heldout, Mix: mix.Config{Rewrite: j.recipe.Rewrite.Template, Continues: j.recipe.Rewrite.Continues},
		Sink:     sink,
		Snapshot: snapshot.Config{Store: j.st.URL(), Header: h, Gates: j.recipe.Gates.Gates},
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
