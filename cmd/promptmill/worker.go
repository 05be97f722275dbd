package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/guard"
	"github.com/promptmill/promptmill/recipe"
	"github.com/promptmill/promptmill/runners"
	"github.com/promptmill/promptmill/runners/engine"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/ledger"
	"github.com/promptmill/promptmill/transforms/snapshot"
)

// work is the life of a process that an engine started.
func work(args []string) int {
	err := runners.Work(args)
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "promptmill:", err)
		return exitFailed
	}
	return exitDone
}

func (a *app) workerPoolCmd() *cobra.Command {
	var listen string
	c := &cobra.Command{
		Use:   "worker-pool",
		Short: "Be the worker of every job that an engine sends to this machine",
		Long: `worker-pool waits for an engine (engine.environment: external) and works for it: one process and one copy of
each model on the machine, kept between stages and jobs. Run one beside each TaskManager or Spark worker, with
the file that the launcher is: another build refuses the jobs.

  promptmill worker-pool --listen localhost:50000`,
		Args: cobra.NoArgs,
	}
	c.Flags().StringVar(&listen, "listen", "localhost:50000", "`host:port` for the engine on this machine; whoever reaches it may run jobs")
	c.RunE = run(func(ctx context.Context, _ []string) error {
		pool, err := runners.OpenPool(listen)
		if err != nil {
			return err
		}
		pool.Tell = func(text string) { a.log.Warn(text) }
		a.say("worker pool at %s", pool.Address())
		return pool.Serve(ctx)
	})
	return c
}

// bindEngine settles how the recipe's job runs on the runner of the flags: what the runner lacks is a
// usage error, and every model server's limit is divided over the workers, so that all of them together
// stay within it. In process it changes nothing.
func (a *app) bindEngine(r *recipe.Recipe, doc *recipe.Document) error {
	r.Engine = r.Engine.For(a.flags.runner, wantsGPU(r))
	err := r.Engine.Check(a.flags.runner)
	if e := r.Engine; err == nil && !e.InProcess(a.flags.runner) && (e.Workers > 1 || e.WorkerConcurrency > 0) {
		if err = shareLimits(r); err == nil {
			err = r.Bind(a.cacheURL()) // the sections have copies of the models
		}
	}
	if err != nil {
		return usageError{doc.Locate(err)}
	}
	return nil
}

// shareLimits gives each worker its part of what the models' servers take at once. Models without a
// server are each worker's own.
func shareLimits(r *recipe.Recipe) error {
	var errs []error
	for _, m := range []struct {
		role string
		spec *model.Spec
	}{{"policy", &r.Models.Policy}, {"images", &r.Models.Images}, {"judge", &r.Models.Judge}, {"teacher", &r.Models.Teacher}} {
		if m.spec.Endpoint == "" {
			continue
		}
		limit := m.spec.Concurrency
		if limit == 0 {
			limit = guard.DefaultConcurrency
		}
		share, err := r.Engine.Share(limit)
		if err != nil {
			errs = append(errs, fmt.Errorf("models.%s.concurrency: %w", m.role, err))
			continue
		}
		m.spec.Concurrency = share
	}
	return errors.Join(errs...)
}

// wantsGPU says whether a model of the recipe runs in the worker and asks for a GPU.
func wantsGPU(r *recipe.Recipe) bool {
	return slices.ContainsFunc([]model.Spec{r.Models.Policy, r.Models.Images, r.Models.Judge, r.Models.Teacher}, func(s model.Spec) bool {
		p := s.Options["provider"]
		return s.Endpoint == "" && (p == "cuda" || p == "tensorrt" || p == "auto")
	})
}

// jobName is how a run is found again on an engine: the same for every launch of it, another for the
// same run in another store.
func jobName(h snapshot.Header, storeURL string) string {
	return strings.Join([]string{"promptmill", h.Set, h.RunID, digest(storeURL)[:8]}, "-")
}

// onEngine is a run as the engine of the flags knows it.
func (j *job) onEngine(h snapshot.Header) runners.Job {
	return runners.Job{
		Runner: j.flags.runner, Name: jobName(h, j.st.URL()), Engine: j.recipe.Engine,
		Tell: func(text string) { j.say("%s", text) },
	}
}

// countRemote adds what workers on an engine spent to what this process counted: it knows by the manifest.
func (j *job) countRemote(m snapshot.Manifest) {
	if j.recipe.Engine.InProcess(j.flags.runner) || j.recipe.Engine.Environment == engine.Loopback {
		return
	}
	var t ledger.Tally
	for _, c := range m.Counts {
		if c.Outcome == schemas.Used {
			t.Used(c.Stage, c.Reason, int(c.N))
		}
	}
}

// examineEngine is doctor's look at the recipe's engine, for a runner.
func (a *app) examineEngine(ctx context.Context, runner string) ([]finding, error) {
	if err := runners.Check(runner); err != nil {
		return nil, usageError{err}
	}
	r, doc, err := a.loadRecipe()
	if err != nil {
		return nil, err
	}
	a.flags.runner = runner
	if err := a.bindEngine(r, doc); err != nil {
		return nil, err
	}
	var all []finding
	for _, f := range runners.Preflight(ctx, runners.Job{Runner: runner, Engine: r.Engine}) {
		all = append(all, finding{Name: f.Name, OK: f.OK, Detail: f.Detail})
	}
	return all, nil
}
