package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/pipelines/prompts"
	"github.com/promptmill/promptmill/pipelines/selfreward"
	"github.com/promptmill/promptmill/pipelines/study"
	"github.com/promptmill/promptmill/recipe"
	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/transforms/snapshot"
)

func (a *app) studyCmd() *cobra.Command {
	var f studyFlags
	c := &cobra.Command{
		Use:   "study",
		Short: "Run variants of a loop with several seeds and compare them",
		Long: `study runs the loop of each variant of a recipe with each seed, in one store, where they share what they have in common,
and compares them on the same held-out prompts, with bootstrap intervals over seeds and prompts. Given again, the
command goes on where the last one was. The embedded studies are ` + strings.Join(recipe.Studies(), ", ") + `.

  promptmill study --recipe reward --out study-out
  promptmill study --recipe mine.yaml --out study-out --only base,other`,
		Args: cobra.NoArgs,
		RunE: run(func(ctx context.Context, _ []string) error {
			// The flags are shared with other commands, which have other defaults.
			a.flags.out, a.flags.runner = f.out, "prism"
			return a.study(ctx, f)
		}),
	}
	flags := c.Flags()
	flags.StringVar(&f.recipe, "recipe", "settings", "embedded study or a `file`")
	flags.StringVar(&f.out, "out", "", "`directory` or URL of the store of all loops")
	flags.StringVar(&a.flags.cache, "cache", "", "`directory` or URL of the response log and the pictures (default OUT/cache)")
	flags.StringSliceVar(&f.only, "only", nil, "run the loops of these `variants` only; of the others those that are there are shown")
	flags.StringArrayVar(&f.set, "set", nil, "set a `key=value` of the recipe of all loops; may be repeated")
	flags.BoolVar(&a.flags.dryRun, "dry-run", false, "list the loops and how far they are; nothing is called")
	return c
}

type studyFlags struct {
	recipe, out string
	only, set   []string
}

// A studyRun is one invocation.
type studyRun struct {
	*app
	study *recipe.Study
	flags studyFlags
	loops []study.Loop
}

// study runs what is to be run of a study and shows what was found.
func (a *app) study(ctx context.Context, f studyFlags) error {
	s, err := recipe.LoadStudy(f.recipe)
	if err != nil {
		return usageError{err}
	}
	if _, err := a.outURL(); err != nil {
		return err
	}
	var names []string
	for _, v := range s.Variants {
		names = append(names, v.Name)
	}
	for _, name := range f.only {
		if !slices.Contains(names, name) {
			return usagef("--only: study %s has no variant %q; there are %s", s.Name, name, strings.Join(names, ", "))
		}
	}
	s.Set = append(slices.Clone(s.Set), f.set...)
	r := &studyRun{app: a, study: s, flags: f}
	// All recipes are looked at before the first loop is run.
	for _, v := range s.Variants {
		for _, seed := range s.Seeds {
			if _, err := r.job(ctx, v, seed, prompts.Test); err != nil {
				return fmt.Errorf("variant %s: %w", v.Name, err)
			}
		}
	}
	if a.flags.dryRun {
		return r.list(ctx)
	}
	if err := r.run(ctx); err != nil {
		return err
	}
	return r.show(ctx)
}

// job is the loop of a variant with a seed.
func (r *studyRun) job(ctx context.Context, v recipe.Variant, seed int64, part string) (*job, error) {
	a := *r.app
	a.flags.recipe, a.flags.models, a.flags.set = r.study.Recipe, "", r.study.Assignments(v, seed, part)
	j, err := a.newJob(ctx)
	if err != nil {
		return nil, err
	}
	if err := j.recipe.LoopFaults(); err != nil {
		return nil, usageError{j.doc.Locate(err)}
	}
	if !slices.ContainsFunc(j.recipe.Metrics.Scorers, func(s recipe.Scorer) bool { return s.Name == r.study.Measure }) {
		return nil, usagef("measure: the recipe has no metrics.scorers of the name %s", r.study.Measure)
	}
	return j, nil
}

// part is the half that variants are compared on.
func (r *studyRun) part() string {
	if r.study.Choose {
		return prompts.Validation
	}
	return prompts.Test
}

// run runs the loops; of a study that chooses, then those that are tested.
func (r *studyRun) run(ctx context.Context) error {
	whole := true
	for _, v := range r.study.Variants {
		wanted := len(r.flags.only) == 0 || slices.Contains(r.flags.only, v.Name)
		done, err := r.variant(ctx, v, r.part(), wanted)
		if err != nil {
			return err
		}
		whole = whole && done
	}
	if !r.study.Choose {
		return nil
	}
	if !whole {
		r.say("study %s: not all variants are there, so none is chosen and nothing is tested", r.study.Name)
		return nil
	}
	chosen := study.Best(r.study, r.loops)
	r.say("study %s: chosen on the validation half: %s", r.study.Name, chosen)
	for i, v := range r.study.Variants {
		if i == 0 || v.Name == chosen {
			if _, err := r.variant(ctx, v, prompts.Test, true); err != nil {
				return err
			}
		}
	}
	return nil
}

// variant takes the loops of a variant, which it runs if that is wanted; done says that all of them are at an end.
func (r *studyRun) variant(ctx context.Context, v recipe.Variant, part string, wanted bool) (done bool, err error) {
	done = true
	for _, seed := range r.study.Seeds {
		j, err := r.job(ctx, v, seed, part)
		if err != nil {
			return false, err
		}
		l := study.Loop{Variant: v.Name, Seed: seed, Part: part}
		var state selfreward.State
		if wanted {
			r.say("study %s: %s, seed %d, %s half", r.study.Name, v.Name, seed, part)
			state, err = j.loop(ctx, "", "")
			// The next loop's policies are others.
			model.ReleaseChats(func(model.Spec) bool { return false })
			if errors.Is(err, snapshot.ErrGate) && ctx.Err() == nil {
				l.Stopped, err = err.Error(), nil // a finding: the variant collapses
			}
		} else {
			state, err = selfreward.Load(ctx, j.st, j.recipe.SelfReward.Name)
			if errors.Is(err, store.ErrNotExist) {
				done, err = false, nil
				continue
			}
			if err == nil && state.Steps[len(state.Steps)-1].State != selfreward.Done {
				done = false
				continue
			}
		}
		if err != nil {
			return false, err
		}
		if err := r.take(ctx, j, l, state); err != nil {
			return false, err
		}
	}
	return done, nil
}

// take reads what a loop measured.
func (r *studyRun) take(ctx context.Context, j *job, l study.Loop, state selfreward.State) (err error) {
	if l.Rows, err = selfreward.Measurements(ctx, j.st, state); err != nil {
		return err
	}
	l.Stages = selfreward.StagesOf(l.Rows, j.recipe, state)
	for _, s := range state.Steps {
		if t, ok := strings.CutPrefix(s.Name, "judgments-"); ok && j.recipe.SelfReward.JudgmentPairs > 0 && s.Note != "" {
			l.Notes = append(l.Notes, fmt.Sprintf("dpo%s: %d judgment pairs: %s", t, s.Rows[selfreward.Own], s.Note))
		}
	}
	r.loops = append(r.loops, l)
	return nil
}

// list says how far the loops are.
func (r *studyRun) list(ctx context.Context) error {
	t := tabwriter.NewWriter(r.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "  variant\tseed\thalf\tsteps done\tassignments")
	for _, v := range r.study.Variants {
		for _, seed := range r.study.Seeds {
			j, err := r.job(ctx, v, seed, r.part())
			if err != nil {
				return err
			}
			state, err := selfreward.Load(ctx, j.st, j.recipe.SelfReward.Name)
			if err != nil && !errors.Is(err, store.ErrNotExist) {
				return err
			}
			n := 0
			for _, s := range state.Steps {
				if s.State == selfreward.Done || s.State == selfreward.Skipped {
					n++
				}
			}
			fmt.Fprintf(t, "  %s\t%d\t%s\t%d of %d\t%s\n", v.Name, seed, r.part(), n, len(selfreward.Steps(j.recipe)), strings.Join(v.Set, " "))
		}
	}
	return t.Flush()
}

// show writes the results beside the loops and prints them.
func (r *studyRun) show(ctx context.Context) error {
	result := study.Summarise(r.study, r.loops)
	tables := result.Tables(r.study)
	var page, markdown bytes.Buffer
	data, err := json.MarshalIndent(result, "", " ")
	if err = errors.Join(err, study.WritePage(&page, result, tables), study.WriteMarkdown(&markdown, tables)); err != nil {
		return err
	}
	st, err := store.Open(ctx, r.app.flags.out)
	if err != nil {
		return err
	}
	dir := "study/" + r.study.Name
	for name, text := range map[string][]byte{"results.json": append(data, '\n'), "tables.md": markdown.Bytes(), "report.html": page.Bytes()} {
		if err := store.Replace(ctx, st, dir+"/"+name, text); err != nil {
			return err
		}
	}
	if r.app.flags.json {
		return json.NewEncoder(r.out).Encode(struct {
			Command string `json:"command"`
			study.Result
			Report string  `json:"report"`
			WallS  float64 `json:"wall_s"`
		}{"study", result, st.URL() + "/" + dir + "/report.html", round(time.Since(r.start).Seconds())})
	}
	for _, table := range tables {
		fmt.Fprintf(r.out, "\n%s\n", table.Title)
		if table.Note != "" {
			fmt.Fprintln(r.out, table.Note)
		}
		t := tabwriter.NewWriter(r.out, 0, 8, 2, ' ', 0)
		for _, row := range append([][]string{table.Head}, table.Rows...) {
			fmt.Fprintln(t, "  "+strings.Join(row, "\t"))
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(r.out, "\n  report  %s/%s/report.html\n  tables  %[1]s/%[2]s/tables.md\n", st.URL(), dir)
	return err
}
