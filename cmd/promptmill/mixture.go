package main

import (
	"context"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/promptmill/promptmill/pipelines/sft"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/heldout"
	"github.com/promptmill/promptmill/transforms/mix"
	"github.com/promptmill/promptmill/transforms/parquetio"
	"github.com/promptmill/promptmill/transforms/snapshot"
	"github.com/promptmill/promptmill/transforms/source"
)

// mixture returns the supervised set of all parts that the recipe names, building what of it is not there.
func (j *job) mixture(ctx context.Context) (snapshot.Manifest, error) {
	const set = "sft"
	var none snapshot.Manifest
	r := j.recipe
	decides := []any{set, r.SFT, j.flags.allowShort, r.Rewrite.Template, r.Rewrite.Continues, r.Seed}
	var pairs, rest []any
	var err error
	if r.SFT.Has(schemas.TaskRewrite) {
		if pairs, err = j.pairInputs(ctx); err != nil {
			return none, err
		}
		decides = append(decides, pairs)
	}
	if r.SFT.Has(schemas.TaskEvaluation) || r.SFT.Has(schemas.TaskJudgment) {
		if rest, err = j.evaluationInputs(ctx); err != nil {
			return none, err
		}
		decides = append(decides, rest, r.DecidesJudgment())
	}
	h := j.header(set, j.runID(decides...))
	if m, err := snapshot.Outcome(ctx, j.st, set, h.RunID); err == nil {
		return m, nil
	}
	m := sft.Mixture{
		RewriteRows: r.SFT.RewriteRows, AllowShort: j.flags.allowShort, Mix: mix.Config{Rewrite: r.Rewrite.Template, Continues: r.Rewrite.Continues},
		ValidationPermille: r.SFT.ValidationPermille, ShardRows: r.Parquet.ShardRows, VisionShardRows: r.Evaluation.ShardRows,
		Cache: j.cache, Seed: r.Seed, Sink: j.sink(h), Gates: r.Gates.Gates,
	}
	part := func(task string, build func(context.Context) (snapshot.Manifest, error), into **snapshot.Manifest) {
		if err != nil || !r.SFT.Has(task) {
			return
		}
		var p snapshot.Manifest
		if p, err = build(ctx); err == nil {
			*into, h.Templates = &p, append(h.Templates, p.Templates...)
		}
	}
	part(schemas.TaskRewrite, func(ctx context.Context) (snapshot.Manifest, error) { return j.pairSet(ctx, pairs) }, &m.Pairs)
	part(schemas.TaskEvaluation, func(ctx context.Context) (snapshot.Manifest, error) { return j.evaluationSet(ctx, false) }, &m.Evaluation)
	part(schemas.TaskJudgment, func(ctx context.Context) (snapshot.Manifest, error) { return j.judgmentSet(ctx, false) }, &m.Judgment)
	if err != nil {
		return none, err
	}
	return m.Run(ctx, j.st, h, j.rounds(set))
}

// pairInputs checks the pairs of the recipe before anything is built, and returns what decides the set of them.
func (j *job) pairInputs(ctx context.Context) ([]any, error) {
	src := j.recipe.Pairs
	if err := inspect(ctx, "sft", j.recipe, j.doc); err != nil {
		return nil, err
	}
	files, err := source.Digest(ctx, src)
	if err != nil {
		return nil, err
	}
	benchmarks, err := heldout.Digests(ctx, j.recipe.Heldout)
	if err != nil {
		return nil, err
	}
	return []any{"pairs", files, benchmarks, src, j.recipe.Heldout, j.recipe.Seed}, nil
}

// pairSet returns the set of the recipe's pairs, one for each raw prompt, building it if it is not there.
func (j *job) pairSet(ctx context.Context, inputs []any) (snapshot.Manifest, error) {
	h := j.header("pairs", j.named(false, inputs...))
	h.Templates = []string{j.recipe.Rewrite.Template.ID}
	rows, err := source.Estimate(ctx, j.recipe.Pairs)
	if err != nil {
		return snapshot.Manifest{}, err
	}
	sink := j.sink(h)
	sink.Buckets = parquetio.Buckets(rows, j.recipe.Parquet.ShardRows)
	return j.rounds("pairs")(ctx, h, "source", rows, func(s beam.Scope) {
		sft.BuildPairs(s, sft.Config{
			Source: j.recipe.Pairs, Heldout: j.recipe.Heldout, Sink: sink,
			Snapshot: snapshot.Config{Store: j.st.URL(), Header: h, Gates: snapshot.Gates{MaxDeadFraction: j.recipe.Gates.MaxDeadFraction}},
		})
	})
}
