package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/promptmill/promptmill/runners/engine"
	"github.com/promptmill/promptmill/store"
)

// An app is one invocation: where it writes, and the flags that the jobs share.
type app struct {
	out, err io.Writer
	flags    flags
	start    time.Time
	// log is for the jobs' own progress; what libraries log goes to slog's default.
	log *slog.Logger
}

type flags struct {
	recipe, out, cache, runner   string
	logicalDate, runID, models   string
	set                          []string
	parallelism                  int
	dryRun, json, quiet, verbose bool
	allowShort                   bool
}

func newRoot(out, errw io.Writer) *cobra.Command {
	a := &app{out: out, err: errw, start: time.Now()}
	root := &cobra.Command{
		Use:   "promptmill",
		Short: "Preference data for self-rewarding training of prompt rewriters",
		Long: `promptmill builds preference data for self-rewarding training of prompt rewriters:
rewrites sampled, pictures drawn, judged three ways three times, best and worst kept.

Start with:  promptmill demo --out demo-out`,
		SilenceUsage: true, SilenceErrors: true,
		PersistentPreRun: func(*cobra.Command, []string) {
			a.setLogs()
		},
	}
	root.SetOut(out)
	root.SetErr(errw)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%w\nsee promptmill %s --help", err, cmd.Name())
	})
	root.PersistentFlags().BoolVar(&a.flags.json, "json", false, "print the result as one line of JSON on standard output")
	root.PersistentFlags().BoolVarP(&a.flags.quiet, "quiet", "q", false, "no progress, no logs below warnings")
	root.PersistentFlags().BoolVarP(&a.flags.verbose, "verbose", "v", false, "log what the engine does, too")
	root.AddCommand(a.demoCmd(), a.preferenceCmd(), a.sftCmd(), a.evaluationCmd(), a.judgmentCmd(), a.auditCmd(), a.trainCmd(), a.selfrewardCmd(), a.studyCmd(), a.planCmd(), a.recipeCmd(), a.snapshotsCmd(), a.gcCmd(), a.verifyCmd(), a.exportCmd(), a.replayCmd(), a.doctorCmd(), a.reportCmd(), a.serveCmd(), a.workerPoolCmd(), a.jobsCmd(), a.tinyCmd())
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SuggestionsMinimumDistance = 2
	// Cobra's own errors about arguments are faults of the command line too.
	for _, c := range root.Commands() {
		markUsage(c)
	}
	root.Args = func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		if near := root.SuggestionsFor(args[0]); len(near) > 0 {
			return usagef("no command %q; did you mean %s?", args[0], strings.Join(near, " or "))
		}
		return usagef("no command %q; there are %s", args[0], strings.Join(names(root), ", "))
	}
	root.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	return root
}

// setLogs sends logs to standard error as JSON: our own from Info, the engine's from Warn, because Beam
// and prism tell of every step they take. --verbose shows everything, --quiet warnings only.
func (a *app) setLogs() {
	own, others := slog.LevelInfo, slog.LevelWarn
	switch {
	case a.flags.quiet:
		own = slog.LevelWarn
	case a.flags.verbose:
		own, others = slog.LevelDebug, slog.LevelDebug
	}
	a.log = slog.New(slog.NewJSONHandler(a.err, &slog.HandlerOptions{Level: own}))
	slog.SetDefault(slog.New(slog.NewJSONHandler(a.err, &slog.HandlerOptions{Level: others})))
}

func markUsage(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usagef("%w\nusage: %s", err, cmd.UseLine())
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		markUsage(sub)
	}
}

func names(root *cobra.Command) []string {
	var out []string
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() {
			out = append(out, c.Name())
		}
	}
	return out
}

// recipeFlags are for every command that reads a recipe.
func (a *app) recipeFlags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&a.flags.recipe, "recipe", "paper", "embedded recipe (paper, demo) or a `file`")
	f.StringArrayVar(&a.flags.set, "set", nil, "set a `key=value` of the recipe; may be repeated")
	f.StringVar(&a.flags.models, "models", "", "use this `backend` for policy, pictures and judge (tiny: the trained models of this binary; scene: procedural, no weights)")
}

// jobFlags are for every command that builds a data set.
func (a *app) jobFlags(c *cobra.Command) {
	a.recipeFlags(c)
	f := c.Flags()
	f.StringVar(&a.flags.out, "out", "", "`directory` or URL of the store that receives the data set")
	f.StringVar(&a.flags.cache, "cache", "", "`directory` or URL of the response log and the pictures (default OUT/cache)")
	f.StringVar(&a.flags.runner, "runner", "prism", "Beam `runner`: "+strings.Join(engine.Names(), ", ")+" (docs/engines.md)")
	f.IntVar(&a.flags.parallelism, "parallelism", 0, "elements in flight at each stage of a bundle (default: the recipe's in_flight)")
	f.StringVar(&a.flags.logicalDate, "logical-date", "", "`day` the data are of, as 2026-01-31 (default today, UTC)")
	f.StringVar(&a.flags.runID, "run-id", "", "name of the run (default: a hash of recipe, inputs, models and day, so the same command resumes)")
	f.BoolVar(&a.flags.dryRun, "dry-run", false, "check recipe and inputs, print the plan, call nothing")
}

// day is the logical date of the job.
func (a *app) day() (string, error) {
	if a.flags.logicalDate == "" {
		return a.start.UTC().Format(time.DateOnly), nil
	}
	if _, err := time.Parse(time.DateOnly, a.flags.logicalDate); err != nil {
		return "", usagef("--logical-date %q is not a day: write it as 2026-01-31", a.flags.logicalDate)
	}
	return a.flags.logicalDate, nil
}

// outURL is --out, or a usage error that says what to do.
func (a *app) outURL() (string, error) {
	if a.flags.out == "" {
		return "", usagef("no --out: name the directory that receives the data set, as in --out data")
	}
	return a.flags.out, nil
}

// openOut opens the store that --out names.
func (a *app) openOut(ctx context.Context) (store.Store, error) {
	out, err := a.outURL()
	if err != nil {
		return nil, err
	}
	return store.Open(ctx, out)
}

func (a *app) cacheURL() string {
	if a.flags.cache != "" {
		return a.flags.cache
	}
	if strings.Contains(a.flags.out, "://") {
		return strings.TrimRight(a.flags.out, "/") + "/cache"
	}
	return filepath.Join(a.flags.out, "cache")
}

// say prints one line for people who wait, unless --quiet.
func (a *app) say(format string, args ...any) {
	if !a.flags.quiet {
		fmt.Fprintf(a.err, format+"\n", args...)
	}
}

// run makes f a command's RunE with the command's context.
func run(f func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error { return f(cmd.Context(), args) }
}
