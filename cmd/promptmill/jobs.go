package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/promptmill/promptmill/recipe"
	"github.com/promptmill/promptmill/runners"
	"github.com/promptmill/promptmill/runners/engine"
)

func (a *app) jobsCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "jobs",
		Short: "List, follow or cancel the jobs on an engine",
		Long: `jobs shows what an engine runs: at the job server, and on Flink. A job whose launcher was lost goes on; the
command that began it finds and follows it, and so does follow.

  promptmill jobs --endpoint localhost:8099 --rest-url http://localhost:8081
  promptmill jobs cancel promptmill-preference-... --recipe cluster.yaml --runner flink`,
		Args: cobra.NoArgs,
	}
	f := c.PersistentFlags()
	var endpoint, rest, runner string
	f.StringVar(&endpoint, "endpoint", "", "job server, `host:port` (default: the recipe's engine.endpoint)")
	f.StringVar(&rest, "rest-url", "", "Flink's REST `address` (default: the recipe's engine.rest_url)")
	f.StringVar(&runner, "runner", engine.Flink, "what the job server stands before: flink, spark or prism")
	f.StringVar(&a.flags.recipe, "recipe", "paper", "recipe with an engine section")
	f.StringArrayVar(&a.flags.set, "set", nil, "set a `key=value` of the recipe; may be repeated")
	settings := func() (engine.Config, error) {
		r, doc, err := recipe.Load(a.flags.recipe, a.flags.set)
		if err != nil {
			return engine.Config{}, usageError{err}
		}
		cfg := r.Engine
		if endpoint != "" {
			cfg.Endpoint = endpoint
		}
		if rest != "" {
			cfg.RestURL = rest
		}
		if err := cfg.Validate(); err != nil {
			return cfg, usageError{doc.Locate(err)}
		}
		return cfg, nil
	}
	// one is a job by name, for the subcommands, which need a job server.
	one := func(name string) (runners.Job, error) {
		cfg, err := settings()
		if err == nil {
			cfg = cfg.For(runner, false)
			err = errors.Join(runners.Check(runner), cfg.Check(runner))
		}
		if err == nil && cfg.InProcess(runner) {
			err = errors.New("engine.endpoint: empty; say where the job server is, as --endpoint localhost:8099")
		}
		if err != nil {
			return runners.Job{}, usageError{err}
		}
		return runners.Job{Runner: runner, Name: name, Engine: cfg, Tell: func(text string) { a.say("%s", text) }}, nil
	}
	c.RunE = run(func(ctx context.Context, _ []string) error {
		cfg, err := settings()
		if err != nil {
			return err
		}
		all, err := runners.List(ctx, cfg)
		return errors.Join(a.printJobs(all), err)
	})
	follow := &cobra.Command{Use: "follow NAME", Short: "Wait for a job's end; Ctrl-C cancels it", Args: cobra.ExactArgs(1)}
	follow.RunE = run(func(ctx context.Context, args []string) error {
		j, err := one(args[0])
		if err != nil {
			return err
		}
		found, err := runners.Follow(ctx, j)
		if err == nil && !found {
			return fmt.Errorf("%s: %w; promptmill jobs lists them", j.Name, runners.ErrNoJob)
		}
		return err
	})
	cancel := &cobra.Command{Use: "cancel NAME", Short: "End a job, at the job server and on Flink", Args: cobra.ExactArgs(1)}
	cancel.RunE = run(func(ctx context.Context, args []string) error {
		j, err := one(args[0])
		if err != nil {
			return err
		}
		if err := runners.Cancel(ctx, j); err != nil {
			return err
		}
		a.say("job %s has ended", j.Name)
		return nil
	})
	c.AddCommand(follow, cancel)
	return c
}

func (a *app) printJobs(all []runners.Status) error {
	if a.flags.json {
		if all == nil {
			all = []runners.Status{}
		}
		return json.NewEncoder(a.out).Encode(map[string]any{"command": "jobs", "jobs": all})
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tSTATE\tWHERE\tID")
	for _, j := range all {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", j.Name, strings.ToLower(j.State), j.Where, j.ID)
	}
	return w.Flush()
}
