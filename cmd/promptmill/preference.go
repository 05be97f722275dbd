package main

import (
	"context"
	"fmt"
	"path"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/spf13/cobra"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/pipelines/preference"
	"github.com/promptmill/promptmill/pipelines/prompts"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/heldout"
	"github.com/promptmill/promptmill/transforms/parquetio"
	"github.com/promptmill/promptmill/transforms/snapshot"
	"github.com/promptmill/promptmill/transforms/source"
)

func (a *app) preferenceCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "preference",
		Short: "Build preference pairs: rewrite, draw, judge, keep best and worst",
		Long: `preference samples rewrites of each prompt, draws them, has each picture judged, and commits
the best and the worst rewrite of each prompt as a pair, with everything that led to it.

  promptmill preference --recipe demo --out demo-out`,
		Args: cobra.NoArgs,
		RunE: run(func(ctx context.Context, _ []string) error {
			j, err := a.newJob(ctx)
			if err != nil {
				return err
			}
			if a.flags.dryRun {
				return a.writePlan(ctx, "preference", j.recipe, j.doc)
			}
			return j.preference(ctx, "preference")
		}),
	}
	a.jobFlags(c)
	return c
}

// preference builds and publishes one iteration's pairs.
func (j *job) preference(ctx context.Context, command string) (err error) {
	const set = "preference"
	inputs, err := j.promptInputs(ctx)
	if err != nil {
		return err
	}
	runID := j.runID(set, inputs, j.recipe.Decides())
	parent, err := snapshot.Newest(ctx, j.st, set)
	if err != nil {
		return err
	}
	if m, err := snapshot.Outcome(ctx, j.st, set, runID); err == nil {
		return j.done(ctx, command, m, parent) // say what is there, open no model
	}
	defer func() { err = j.closeLog(ctx, err) }()
	p, err := j.promptSet(ctx, inputs)
	if err != nil {
		return err
	}
	h := j.header(set, runID)
	h.Parents = []snapshot.Parent{p.Parent()}
	if h.Models, err = j.identities(ctx); err != nil {
		return err
	}
	cfg := preference.New(j.recipe)
	h.Templates = cfg.Templates()
	total := p.Rows[prompts.Rows]
	if k := j.recipe.Select.Prompts; k > 0 {
		total = min(total, k)
	}
	cfg.Prompts = parquetio.ReadConfig{Store: j.st.URL(), Shards: schemas.ShardsOf(p.Shards, prompts.Rows), Limit: total}
	cfg.Sink, cfg.ShardRows = j.sink(h), j.recipe.Parquet.ShardRows
	cfg.Snapshot = snapshot.Config{Store: j.st.URL(), Header: h, Gates: j.recipe.Gates.Gates}
	j.say("%d prompts x %d candidates, judged on %d aspects x %d samples; run %s", total, cfg.Rewrite.Candidates,
		len(cfg.Judge.Aspects), cfg.Judge.Samples, runID)

	m, _, err := j.ensure(ctx, build{
		header: h, what: "preference", stage: "prefer", total: total,
		graph: func(s beam.Scope) { preference.Build(s, cfg) },
	})
	if err != nil {
		return err
	}
	return j.done(ctx, command, m, parent)
}

// promptInputs checks the inputs of the prompt set before anything is built, and returns what decides
// its rows.
func (j *job) promptInputs(ctx context.Context) (string, error) {
	src := j.recipe.Prompts
	if err := inspect(ctx, "preference", j.recipe, j.doc); err != nil {
		return "", err
	}
	files, err := source.Digest(ctx, src)
	if err != nil {
		return "", err
	}
	benchmarks, err := heldout.Digests(ctx, j.recipe.Heldout)
	if err != nil {
		return "", err
	}
	return digest("prompts", files, benchmarks, src, j.recipe.Heldout, j.recipe.Dedup, j.recipe.Seed), nil
}

// promptSet returns the prompt set of the recipe, building it if it is not there: it is named by what
// decides its rows, so every run with the same prompts reads the same one.
func (j *job) promptSet(ctx context.Context, inputs string) (snapshot.Manifest, error) {
	const set = "prompts"
	h := j.header(set, "p-"+inputs[:16])
	cfg := prompts.Config{
		Source: j.recipe.Prompts, Heldout: j.recipe.Heldout, Dedup: j.recipe.Dedup,
		// One file: a prefix by rank is then a range of row groups, which are small so that each is a
		// unit of work.
		Sink:     parquetio.WriteConfig{Store: j.st.URL(), Dir: snapshot.RunDir(h.Set, h.RunID), Seed: j.recipe.Seed, Buckets: 1, RowGroup: 64},
		Snapshot: snapshot.Config{Store: j.st.URL(), Header: h, Gates: j.recipe.Gates.Gates},
	}
	records, err := source.Estimate(ctx, cfg.Source)
	if err != nil {
		return snapshot.Manifest{}, err
	}
	m, existed, err := j.ensure(ctx, build{
		header: h, what: "prompts", stage: "source", total: records, shared: true,
		graph: func(s beam.Scope) { prompts.Build(s, cfg) },
	})
	if err != nil {
		return m, err
	}
	if m.Rows[prompts.Rows] == 0 {
		return m, fmt.Errorf("no prompt is left of the inputs: see the counts in %s", path.Join(j.st.URL(), snapshot.RunDir(h.Set, h.RunID), "manifest.json"))
	}
	if !existed {
		j.say("prompt set: %d prompts", m.Rows[prompts.Rows])
	}
	return m, nil
}

// identities opens the three models, so that a wrong key or name is found before any work, and returns
// who they are.
func (j *job) identities(ctx context.Context) (map[string]string, error) {
	policy, err := model.OpenChat(ctx, j.recipe.Models.Policy)
	if err != nil {
		return nil, fmt.Errorf("models.policy: %w", err)
	}
	pictures, err := model.OpenImages(ctx, j.recipe.Models.Images)
	if err != nil {
		return nil, fmt.Errorf("models.images: %w", err)
	}
	judge, err := model.OpenChat(ctx, j.recipe.Models.Judge)
	if err != nil {
		return nil, fmt.Errorf("models.judge: %w", err)
	}
	return map[string]string{
		"policy": policy.Info().Weights, "images": pictures.Info().Weights, "judge": judge.Info().Weights,
	}, nil
}
