package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/spf13/cobra"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/pipelines/evaluation"
	"github.com/promptmill/promptmill/pipelines/rounds"
	"github.com/promptmill/promptmill/transforms/heldout"
	"github.com/promptmill/promptmill/transforms/snapshot"
)

func (a *app) evaluationCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "evaluation",
		Short: "Build the evaluation set: what a teacher explains of what people said about pictures",
		Long: `evaluation shows a teacher pairs of pictures and what people preferred, and keeps the answers whose scores
agree with that. The set has the recipe's numbers of rows exactly; too few are exit code 3, with what became of the
others.

  promptmill evaluation --recipe demo --out data`,
		Args: cobra.NoArgs,
		RunE: a.supervised("evaluation", (*job).evaluationSet),
	}
	a.jobFlags(c)
	a.shortFlag(c)
	return c
}

// shortFlag is for the commands that build sets of exact numbers of rows.
func (a *app) shortFlag(c *cobra.Command) {
	c.Flags().BoolVar(&a.flags.allowShort, "allow-short", false, "take what there is where rows are too few, instead of exit code 3")
}

// supervised is the RunE of a command that builds and publishes one of the supervised sets.
func (a *app) supervised(set string, build func(*job, context.Context, bool) (snapshot.Manifest, error)) func(*cobra.Command, []string) error {
	return run(func(ctx context.Context, _ []string) (err error) {
		j, err := a.newJob(ctx)
		if err != nil {
			return err
		}
		if a.flags.dryRun {
			return a.writePlan(ctx, set, j.recipe, j.doc)
		}
		parent, err := snapshot.Newest(ctx, j.st, set)
		if err != nil {
			return err
		}
		defer func() { err = j.closeLog(ctx, err) }()
		m, err := build(j, ctx, true)
		if err != nil {
			return err
		}
		return j.done(ctx, set, m, parent)
	})
}

// named is the id of a run: that of the command's own set may be given by --run-id. Another set that it needs is
// named by what decides its rows, so that all commands of a day share it.
func (j *job) named(own bool, parts ...any) string {
	if own {
		return j.runID(parts...)
	}
	return j.day + "-" + digest(parts...)[:12]
}

// rounds runs the graphs of a set.
func (j *job) rounds(what string) rounds.Ensure {
	return func(ctx context.Context, h snapshot.Header, stage string, total int64, graph func(beam.Scope)) (snapshot.Manifest, error) {
		m, _, err := j.ensure(ctx, build{header: h, what: what, stage: stage, total: total, shared: true, graph: graph})
		return m, err
	}
}

// evaluationInputs checks the inputs of the evaluation set before anything is built, and returns what decides its
// rows.
func (j *job) evaluationInputs(ctx context.Context) ([]any, error) {
	r := j.recipe
	if j.flags.allowShort {
		r.Evaluation.AllowShort, r.Judgment.AllowShort = true, true
	}
	if len(r.Evaluation.Parts) == 0 {
		return nil, usageError{j.doc.Locate(errors.New("evaluation.parts: none; name the sources of facts"))}
	}
	files, err := evaluation.Digest(ctx, "evaluation.parts", r.Evaluation.Parts)
	if err = errors.Join(err, heldout.Inspect(ctx, r.Heldout)); err != nil {
		return nil, usageError{j.doc.Locate(err)}
	}
	benchmarks, err := heldout.Digests(ctx, r.Heldout)
	if err != nil {
		return nil, err
	}
	return []any{"evaluation", files, benchmarks, r.DecidesEvaluation(), r.Seed}, nil
}

// evaluationSet returns the evaluation set of the recipe, building it if it is not there.
func (j *job) evaluationSet(ctx context.Context, own bool) (snapshot.Manifest, error) {
	const set = "evaluation"
	inputs, err := j.evaluationInputs(ctx)
	if err != nil {
		return snapshot.Manifest{}, err
	}
	h := j.header(set, j.named(own, inputs...))
	if m, err := snapshot.Outcome(ctx, j.st, set, h.RunID); err == nil {
		return m, nil // open no model
	}
	if h.Models, err = j.teacher(ctx); err != nil {
		return snapshot.Manifest{}, err
	}
	c := j.recipe.Evaluation
	for _, aspect := range c.Teacher.Aspects {
		stored, _ := c.Teacher.Stored.Task(aspect)
		h.Templates = append(h.Templates, stored.ID)
	}
	c.Sink, c.Gates = j.sink(h), j.recipe.Gates.Gates
	return evaluation.Run(ctx, j.st, c, h, j.rounds(set))
}

// teacher opens the teacher, so that a wrong key or name is found before any work, and returns who it is.
func (j *job) teacher(ctx context.Context) (map[string]string, error) {
	chat, err := model.OpenChat(ctx, j.recipe.Models.Teacher)
	if err != nil {
		return nil, fmt.Errorf("models.teacher: %w", err)
	}
	return map[string]string{"teacher": chat.Info().Weights}, nil
}
