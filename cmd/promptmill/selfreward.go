package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/spf13/cobra"

	"github.com/promptmill/promptmill/pipelines/metrics"
	"github.com/promptmill/promptmill/pipelines/prompts"
	"github.com/promptmill/promptmill/pipelines/selfreward"
	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/transforms/dedup"
	"github.com/promptmill/promptmill/transforms/heldout"
	"github.com/promptmill/promptmill/transforms/parquetio"
	"github.com/promptmill/promptmill/transforms/snapshot"
	"github.com/promptmill/promptmill/transforms/source"
	"github.com/promptmill/promptmill/transforms/train"
)

func (a *app) selfrewardCmd() *cobra.Command {
	var from, until string
	c := &cobra.Command{
		Use:   "selfreward",
		Short: "Run the whole loop: supervised training, then pairs and preference training in turns",
		Long: `selfreward trains a policy on the supervised set, then lets it rewrite, draw, judge and learn from its own
pairs as often as the recipe says, and measures every policy on held-out prompts. Given again, the command
goes on at the step that the last one was in.

  promptmill selfreward --recipe mine.yaml --out data
  promptmill selfreward status --recipe mine.yaml --out data`,
		Args: cobra.NoArgs,
		RunE: run(func(ctx context.Context, _ []string) error {
			j, err := a.newJob(ctx)
			if err != nil {
				return err
			}
			state, err := j.loop(ctx, from, until)
			if err != nil {
				return err
			}
			return j.looped(ctx, "selfreward", state)
		}),
	}
	a.loopFlags(c)
	f := c.Flags()
	f.StringVar(&a.flags.cache, "cache", "", "`directory` or URL of the response log and the pictures (default OUT/cache)")
	f.StringVar(&a.flags.runner, "runner", "prism", "Beam `runner`: prism or direct")
	f.IntVar(&a.flags.parallelism, "parallelism", 0, "elements in flight at each stage of a bundle (default: the recipe's in_flight)")
	f.StringVar(&a.flags.logicalDate, "logical-date", "", "`day` the data are of, as 2026-01-31 (default that of the loop, or today)")
	f.StringVar(&until, "until", "", "stop after this `step`")
	f.StringVar(&from, "from", "", "let the present recipe hold from this `step` on; the steps before it stay as they are")
	status := &cobra.Command{
		Use:   "status",
		Short: "Say which steps of a loop are done",
		Args:  cobra.NoArgs,
		RunE: run(func(ctx context.Context, _ []string) error {
			return a.loopStatus(ctx)
		}),
	}
	a.loopFlags(status)
	c.AddCommand(status)
	return c
}

func (a *app) loopFlags(c *cobra.Command) {
	a.recipeFlags(c)
	c.Flags().StringVar(&a.flags.out, "out", "", "`directory` or URL of the store of the loop")
}

// loop runs the loop from and to a step, and returns its state.
func (j *job) loop(ctx context.Context, from, until string) (state selfreward.State, err error) {
	if err := j.recipe.LoopFaults(); err != nil {
		return state, usageError{j.doc.Locate(err)}
	}
	inputs, err := j.promptInputs(ctx)
	if err != nil {
		return state, err
	}
	defer func() { err = j.closeLog(ctx, err) }()
	l := &selfreward.Loop{
		Recipe: j.recipe, LogicalDate: j.flags.logicalDate, Store: j.st, Cache: j.cache,
		Header: j.header, Say: j.say,
		Prompts: func(ctx context.Context) (snapshot.Manifest, error) { return j.promptSet(ctx, inputs) },
		Heldout: j.heldoutSet,
	}
	l.Ensure = func(ctx context.Context, h snapshot.Header, stage string, total int64, graph func(beam.Scope)) (snapshot.Manifest, error) {
		what := h.Set
		if stage == train.Stage {
			what = l.Current() // a loop has more than one training
		}
		m, _, err := j.ensure(ctx, build{header: h, what: what, stage: stage, total: total, shared: !strings.HasPrefix(h.Set, "loop/"), graph: graph})
		return m, err
	}
	l.Supervised = func(ctx context.Context) (snapshot.Manifest, error) {
		j.day = l.LogicalDate
		return j.sftSet(ctx)
	}
	state, err = l.Run(ctx, from, until)
	switch {
	case errors.Is(err, selfreward.ErrNoStep), errors.Is(err, selfreward.ErrOtherRecipe):
		err = usageError{err}
	case errors.Is(err, selfreward.ErrUnfit):
		err = usageError{j.doc.Locate(err)}
	case errors.Is(err, selfreward.ErrCollapsed):
		err = fmt.Errorf("%w: %w", snapshot.ErrGate, err)
	}
	return state, err
}

// heldoutSet returns the prompts that policies are measured on, building the set if it is not there.
func (j *job) heldoutSet(ctx context.Context) (snapshot.Manifest, error) {
	src := j.recipe.Metrics.Prompts
	files, err := source.Digest(ctx, src)
	if err != nil {
		return snapshot.Manifest{}, err
	}
	h := j.header("heldout", "h-"+digest("heldout", files, src, j.recipe.MetricsSeed(), j.recipe.Metrics.Part)[:16])
	cfg := prompts.Config{
		Source: src, Heldout: heldout.Config{}, Dedup: dedup.Config{Mode: dedup.ModeExact, Seed: src.Seed}, Part: j.recipe.Metrics.Part,
		Sink:     parquetio.WriteConfig{Store: j.st.URL(), Dir: snapshot.RunDir(h.Set, h.RunID), Seed: src.Seed, Buckets: 1, RowGroup: 256},
		Snapshot: snapshot.Config{Store: j.st.URL(), Header: h, Gates: j.recipe.Gates.Gates},
	}
	cfg.Snapshot.Gates.MinRows = map[string]int64{prompts.Rows: 1}
	m, _, err := j.ensure(ctx, build{
		header: h, what: "held-out prompts", stage: "source", shared: true,
		graph: func(s beam.Scope) { prompts.Build(s, cfg) },
	})
	return m, err
}

// A loopSummary says how far a loop has come and what it made.
type loopSummary struct {
	summary
	Loop    string `json:"loop"`
	Weights string `json:"weights"`
	Report  string `json:"report,omitempty"`
	// Galleries are the pages with each iteration's pairs and their pictures.
	Galleries []string          `json:"galleries,omitempty"`
	Stages    []metrics.Stage   `json:"stages"`
	Steps     []selfreward.Step `json:"steps"`
}

// looped prints what a loop made so far.
func (j *job) looped(ctx context.Context, command string, state selfreward.State, galleries ...string) error {
	stages, err := selfreward.Stages(ctx, j.st, j.recipe, state)
	if err != nil {
		return err
	}
	s := loopSummary{Loop: state.Name, Weights: state.Weights(), Stages: stages, Steps: state.Steps, Galleries: galleries}
	rows := map[string]int64{}
	var runs []snapshot.Manifest
	for _, step := range state.Steps {
		if step.RunID == "" {
			continue
		}
		m, err := snapshot.Load(ctx, j.st, step.Set, step.RunID)
		if err != nil {
			return err
		}
		runs = append(runs, m)
		for config, n := range m.Rows {
			rows[step.Name+"/"+config] = n
		}
	}
	if len(runs) > 0 {
		s.summary = summarise(command, j.st.URL()+"/"+selfreward.Dir(state.Name), runs, spentSince(j.spent), j.start)
	}
	s.Command, s.RunID, s.Digest, s.Rows = command, state.Name, state.Digest(), rows
	if last := state.Steps[len(state.Steps)-1]; last.State == selfreward.Done {
		s.Report = j.st.URL() + "/" + selfreward.Report(state.Name)
	}
	if j.flags.json {
		return json.NewEncoder(j.out).Encode(s)
	}
	if err := j.printSteps(state); err != nil {
		return err
	}
	if err := j.printStages(stages); err != nil {
		return err
	}
	fmt.Fprintf(j.out, "\n  %d chat calls, %d pictures, %d scores; %d answers from the response log\n  took %.1f s, %.0f MB at most\n",
		s.Calls.Chat, s.Calls.Image, s.Calls.Score, s.CacheHits, s.WallS, s.MaxRSSMB)
	fmt.Fprintf(j.out, "  weights %s\n  digest  %s\n", s.Weights, s.Digest)
	if s.Report != "" {
		fmt.Fprintf(j.out, "  report  %s\n", s.Report)
	}
	for _, g := range s.Galleries {
		fmt.Fprintf(j.out, "  gallery %s\n", g)
	}
	return nil
}

// printStages prints the table of the systems.
func (a *app) printStages(stages []metrics.Stage) error {
	if len(stages) == 0 {
		return nil
	}
	names := metrics.Page{Stages: stages}.Measures()
	t := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	fmt.Fprint(t, "\n  system\tprompts")
	for _, name := range names {
		fmt.Fprintf(t, "\t%s (95%%)\tgain", name)
	}
	fmt.Fprint(t, "\twords\tdistinct-2")
	if judged := (metrics.Page{Stages: stages}).Judged(); judged {
		fmt.Fprint(t, "\tjudge agrees with the facts\tjudge of judgments")
	}
	fmt.Fprintln(t)
	for _, s := range stages {
		fmt.Fprintf(t, "  %s\t%d", s.Name, s.Prompts)
		for _, name := range names {
			score, gain := "", ""
			if v, ok := s.Scores[name]; ok {
				score = v.Level()
			}
			if v, ok := s.Gains[name]; ok {
				gain = v.Signed()
			}
			fmt.Fprintf(t, "\t%s\t%s", score, gain)
		}
		fmt.Fprintf(t, "\t%.1f\t%.3f\t%s\t%s\n", s.Words, s.Distinct2, s.JudgeText(), s.JudgmentText())
	}
	return t.Flush()
}

// loopStatus prints the state of the recipe's loop; nothing is called.
func (a *app) loopStatus(ctx context.Context) error {
	out, err := a.outURL()
	if err != nil {
		return err
	}
	r, _, err := a.loadRecipe()
	if err != nil {
		return err
	}
	st, err := store.Open(ctx, out)
	if err != nil {
		return err
	}
	state, err := selfreward.Load(ctx, st, r.SelfReward.Name)
	if errors.Is(err, store.ErrNotExist) {
		return fmt.Errorf("loop %s was never begun in %s: %w", r.SelfReward.Name, st.URL(), err)
	}
	if err != nil {
		return err
	}
	if a.flags.json {
		return json.NewEncoder(a.out).Encode(struct {
			Command string `json:"command"`
			selfreward.State
			Digest  string `json:"digest"`
			Weights string `json:"weights"`
		}{"selfreward status", state, state.Digest(), state.Weights()})
	}
	return a.printSteps(state)
}

func (a *app) printSteps(state selfreward.State) error {
	fmt.Fprintf(a.out, "\nloop %s, begun %s\n\n", state.Name, state.Begun.Format(time.DateTime))
	t := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "  step\tstate\ttries\tseconds\tdigest\tweights\tnote")
	for _, s := range state.Steps {
		took := ""
		if !s.Ended.IsZero() {
			took = fmt.Sprintf("%.1f", s.Ended.Sub(s.Begun).Seconds())
		}
		fmt.Fprintf(t, "  %s\t%s\t%d\t%s\t%.12s\t%.20s\t%.100s\n", s.Name, s.State, s.Attempts, took, s.Digest, s.Weights, s.Note)
	}
	return t.Flush()
}
