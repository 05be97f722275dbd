package main

import (
	"context"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/promptmill/promptmill/pipelines/evaluation"
	"github.com/promptmill/promptmill/pipelines/judgment"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/snapshot"
	"github.com/promptmill/promptmill/transforms/template"
)

func (a *app) judgmentCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "judgment",
		Short: "Build the judgment set: a teacher's scores of good and of irrelevant answers",
		Long: `judgment puts beside each answer of the evaluation set, which it builds if it is not there, the answer about two
other pictures, has the teacher score both, and keeps what it scores rightly, in the recipe's numbers of rows.

  promptmill judgment --recipe demo --out data`,
		Args: cobra.NoArgs,
		RunE: a.supervised("judgment", (*job).judgmentSet),
	}
	a.jobFlags(c)
	a.shortFlag(c)
	return c
}

// judgmentSet returns the judgment set of the recipe, building it and the evaluation set if they are not there.
func (j *job) judgmentSet(ctx context.Context, own bool) (snapshot.Manifest, error) {
	const set = "judgment"
	inputs, err := j.evaluationInputs(ctx)
	if err != nil {
		return snapshot.Manifest{}, err
	}
	h := j.header(set, j.named(own, append(inputs, set, j.recipe.DecidesJudgment())...))
	if m, err := snapshot.Outcome(ctx, j.st, set, h.RunID); err == nil {
		return m, nil
	}
	e, err := j.evaluationSet(ctx, false)
	if err != nil {
		return snapshot.Manifest{}, err
	}
	if h.Models, err = j.teacher(ctx); err != nil {
		return snapshot.Manifest{}, err
	}
	h.Parents = []snapshot.Parent{e.Parent()}
	c := j.recipe.Judgment
	for _, aspect := range slices.Sorted(maps.Keys(c.Rows)) {
		stored, _ := c.Judgment.Stored.Task(template.Judgment + aspect)
		h.Templates = append(h.Templates, stored.ID)
	}
	c.Evaluations = schemas.ShardsOf(e.Shards, evaluation.Items)
	c.Sink, c.Gates = j.sink(h), j.recipe.Gates.Gates
	return judgment.Run(ctx, j.st, c, h, j.rounds(set))
}
