package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/spf13/cobra"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/pipelines/training"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/transforms/snapshot"
	"github.com/promptmill/promptmill/transforms/train"
)

func (a *app) trainCmd() *cobra.Command {
	var f trainFlags
	c := &cobra.Command{
		Use:   "train sft|dpo",
		Short: "Hand a version of a data set to a trainer and register the checkpoint",
		Long: `train hands a version of a data set to the recipe's trainer (section training) and commits what it makes
as a version of the set checkpoint. Every row is looked at first. The same command given again finds the
job that is there, running or done: nothing is trained twice.

  promptmill train dpo --recipe mine.yaml --out data`,
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{model.MethodSFT, model.MethodDPO},
		RunE: run(func(ctx context.Context, args []string) error {
			f.method = args[0]
			j, err := a.newJob(ctx)
			if err != nil {
				return err
			}
			return j.train(ctx, f)
		}),
	}
	a.jobFlags(c)
	c.Flags().StringVar(&f.set, "data-set", "", "the data `set` to train on (default sft or preference)")
	c.Flags().StringVar(&f.version, "version", "latest", "a version's number, a run id, or latest")
	c.Flags().StringSliceVar(&f.configurations, "configuration", []string{"rewrite"}, "the `name` of the configuration to train on; several for trainers that take rows with and without pictures")
	return c
}

type trainFlags struct {
	method, set, version string
	configurations       []string
}

// train makes and publishes one checkpoint.
func (j *job) train(ctx context.Context, f trainFlags) error {
	if f.set == "" {
		f.set = map[string]string{model.MethodSFT: "sft", model.MethodDPO: "preference"}[f.method]
	}
	data, err := snapshot.Load(ctx, j.st, f.set, f.version)
	if errors.Is(err, store.ErrNotExist) {
		return fmt.Errorf("%w; build it first with promptmill %s --out %s", err, f.set, j.flags.out)
	}
	if err != nil {
		return err
	}
	cfg := training.New(j.recipe, f.method).On(data, f.configurations...)
	if err := j.startOf(ctx, &cfg.Train); err != nil {
		return err
	}
	runID := j.runID("train", f.method, data.Digest, f.configurations, cfg.Train.Weights, cfg.Train.Params, j.recipe.Training.Trainer, cfg.Train.Attempt, j.recipe.Seed)
	h := j.header(training.Set, runID)
	h.Parents = []snapshot.Parent{data.Parent()}
	h.Models = map[string]string{"start": cfg.Train.Weights}
	cfg.Sink, cfg.Snapshot = j.sink(h), snapshot.Config{Store: j.st.URL(), Header: h}
	if err := cfg.Train.Validate(); err != nil {
		return usageError{j.doc.Locate(err)}
	}
	if j.flags.dryRun {
		var rows int64
		for _, c := range f.configurations {
			rows += data.Rows[c]
		}
		_, err := fmt.Fprintf(j.out, "train %s on %s run %s, %d rows of %s, from %s (%s); nothing is called\n",
			f.method, data.Set, data.RunID, rows, strings.Join(f.configurations, ", "), cfg.Train.Start, cfg.Train.Weights)
		return err
	}
	parent, err := snapshot.Newest(ctx, j.st, training.Set)
	if err != nil {
		return err
	}
	// A trainer that is not there is found before any work.
	if _, err := model.OpenTrainer(ctx, j.recipe.Training.Trainer); err != nil {
		return fmt.Errorf("training.trainer: %w", err)
	}
	m, _, err := j.ensure(ctx, build{
		header: h, what: "train " + f.method, stage: train.Stage, total: 1,
		graph: func(s beam.Scope) { training.Build(s, cfg) },
	})
	if err != nil {
		cfg.Interrupted(ctx, j.recipe, j.say)
		return training.Err(ctx, j.st, err)
	}
	return j.trained(ctx, m, parent)
}

// startOf sets where a training starts from: training.start, or else the policy.
func (j *job) startOf(ctx context.Context, c *train.Config) (err error) {
	c.Store = j.st.URL()
	if c.Start, c.Weights, err = training.Start(ctx, j.recipe); err != nil {
		return err
	}
	if c.Start == "" {
		return usagef("training.start: empty, as is the model of models.policy: name the checkpoint to start from")
	}
	return nil
}

// A trainSummary says what a training made.
type trainSummary struct {
	summary
	Weights  string           `json:"weights"`
	Location string           `json:"checkpoint"`
	Log      string           `json:"log"`
	Steps    int64            `json:"steps"`
	Metrics  []schemas.Metric `json:"metrics"`
}

// trained publishes a checkpoint and says what it is.
func (j *job) trained(ctx context.Context, m snapshot.Manifest, parent int) error {
	made, how, err := training.Load(ctx, j.st, m)
	if err != nil {
		return err
	}
	v, err := snapshot.Publish(ctx, j.st, m, parent)
	if err != nil {
		return err
	}
	s := trainSummary{
		summary: summarise("train", fmt.Sprintf("%s/%s@%d", j.st.URL(), m.Set, v), []snapshot.Manifest{m}, spentSince(j.spent), j.start),
		Weights: made.Weights, Location: how.Location, Log: how.Log, Steps: made.Steps, Metrics: how.Metrics,
	}
	if j.flags.json {
		return json.NewEncoder(j.out).Encode(s)
	}
	_, err = fmt.Fprintf(j.out, "%s trained on %d rows in %d steps, from %s\n  checkpoint  %s\n  weights     %s\n  log         %s\n  snapshot    %s\n",
		made.Method, made.Rows, made.Steps, made.Start, s.Location, s.Weights, s.Log, s.Snapshot)
	for _, metric := range s.Metrics {
		fmt.Fprintf(j.out, "  %s %g\n", metric.Name, metric.Value)
	}
	return err
}
