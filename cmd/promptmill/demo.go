package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/promptmill/promptmill/model/onnx"
	"github.com/promptmill/promptmill/pipelines/selfreward"
	"github.com/promptmill/promptmill/pipelines/training"
	"github.com/promptmill/promptmill/recipe"
	"github.com/promptmill/promptmill/report"
	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/transforms/snapshot"
)

// fromInit is the recipe of the loop that begins one step earlier.
const fromInit = "init"

func (a *app) demoCmd() *cobra.Command {
	var untaught bool
	var name, out string
	c := &cobra.Command{
		Use:   "demo",
		Short: "Run the whole loop on the models that come along: pairs, training, pairs, training, table",
		Long: `demo lets the embedded vision-language model rewrite prompts, judge its own pictures and learn from what it
found best, twice, and measures it on held-out prompts before, between and after. Given again, the command goes on
where the last one was. Without ONNX Runtime it builds one iteration's pairs with the procedural models.

  promptmill demo --out demo-out`,
		Args: cobra.NoArgs,
		RunE: run(func(ctx context.Context, _ []string) error {
			// The flags are shared with other commands, which have other defaults.
			a.flags.recipe, a.flags.out, a.flags.runner = name, out, "prism"
			if untaught {
				a.flags.recipe = fromInit
			}
			if _, err := onnx.Find(); err != nil {
				return a.demoWithout(ctx, err)
			}
			j, err := a.newJob(ctx)
			if err != nil {
				return err
			}
			return j.demo(ctx)
		}),
	}
	f := c.Flags()
	f.StringVar(&name, "recipe", "demo", "embedded recipe or a `file`")
	f.StringArrayVar(&a.flags.set, "set", nil, "set a `key=value` of the recipe; may be repeated")
	f.StringVar(&out, "out", "demo-out", "`directory` or URL of the store of the loop")
	f.StringVar(&a.flags.cache, "cache", "", "`directory` or URL of the response log and the pictures (default OUT/cache)")
	f.StringVar(&a.flags.logicalDate, "logical-date", "", "`day` the data are of, as 2026-01-31 (default that of the loop, or today)")
	f.BoolVar(&untaught, "from-init", false, "begin with the model that has seen no task, and train it on the supervised set first (recipe init)")
	c.MarkFlagsMutuallyExclusive("recipe", "from-init")
	return c
}

// demoWithout shows the main job, which is what can be shown without ONNX Runtime.
func (a *app) demoWithout(ctx context.Context, why error) error {
	a.say("%v\nso there is no model to train: going on with one iteration's pairs of the procedural models.\nTo see the whole loop: promptmill doctor --install", why)
	a.flags.models = "scene"
	j, err := a.newJob(ctx)
	if err != nil {
		return err
	}
	return j.preference(ctx, "demo")
}

// demo runs the loop and shows what came of it.
func (j *job) demo(ctx context.Context) error {
	if err := j.introduce(ctx); err != nil {
		return err
	}
	state, err := j.loop(ctx, "", "")
	if err != nil {
		return err
	}
	galleries, err := j.galleries(ctx, state)
	if err != nil {
		return err
	}
	if err := j.looped(ctx, "demo", state, galleries...); err != nil || j.flags.json {
		return err
	}
	_, err = fmt.Fprintf(j.out, demoEnd, j.rewarder())
	if err == nil && j.recipe.Models.Judge.Backend == "tiny" {
		_, err = fmt.Fprintln(j.out, "  It is the oracle from which the judge learned in supervised training: the card says so.")
	}
	return err
}

// demoEnd says how the table is to be read.
const demoEnd = `
  Each line of the table is one system on the same held-out prompts: its score with sampled answers and, as _beam, with the
  likeliest ones; gains are over the stage before, prompt by prompt, with 95%% bootstrap intervals.
  The reward in the loop was that of %s. What measures above was asked about no picture of the loop's pairs.
`

// rewarder says who judges the pictures of the loop.
func (j *job) rewarder() string {
	switch judge := j.recipe.Models.Judge.Backend; {
	case judge != j.recipe.Models.Policy.Backend:
		return "an outside judge, " + judge
	case j.recipe.SelfReward.Reward == recipe.RewardFixed:
		return "policy 0, as the judge of all pictures"
	}
	return "the policy itself, as the judge of its own pictures"
}

// introduce says which model begins, how it came to be what it is, and what rewards it.
func (j *job) introduce(ctx context.Context) error {
	start, weights, err := training.Start(ctx, j.recipe)
	if err != nil {
		return err
	}
	l := j.recipe.SelfReward
	first := "it is policy 0"
	if l.Start == recipe.StartSFT {
		first = "policy 0 is what supervised training makes of it"
	}
	j.say("start: %s\n  weights %s; %s", start, weights, first)
	for _, line := range taught(start) {
		j.say("  %s", line)
	}
	j.say("%d iterations of %d candidates a prompt; the reward is that of %s; trainer %s\n", len(l.Iterations), j.recipe.Rewrite.Candidates, j.rewarder(), j.recipe.Training.Trainer.Backend)
	return nil
}

// taught is what the card of the model in a folder says under "Training", up to its first table.
func taught(folder string) []string {
	card, err := os.ReadFile(filepath.Join(folder, "README.md"))
	if err != nil {
		return nil // a model of somebody else's
	}
	_, text, found := strings.Cut(string(card), "\n## Training\n")
	if !found {
		return nil
	}
	var lines []string
	for line := range strings.Lines(strings.TrimSpace(text)) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "#") || strings.HasPrefix(line, "|") {
			break
		}
		if line != "" {
			lines = append(lines, line)
		}
	}
	return append(lines, "card: "+filepath.Join(folder, "README.md"))
}

// galleries writes a page for each iteration, with pairs and their pictures, and returns where they are.
func (j *job) galleries(ctx context.Context, state selfreward.State) ([]string, error) {
	cache, err := store.Open(ctx, j.cache)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, step := range state.Steps {
		number, isPairs := strings.CutPrefix(step.Name, "pairs-")
		if !isPairs || step.RunID == "" {
			continue
		}
		first, err := snapshot.Load(ctx, j.st, step.Set, step.RunID)
		if err != nil {
			return nil, err
		}
		round, err := snapshot.Load(ctx, j.st, first.Parents[0].Set, first.Parents[0].RunID)
		if err != nil {
			return nil, err
		}
		var page bytes.Buffer
		if err := report.Preference(ctx, &page, j.st, cache, round, 40); err != nil {
			return nil, err
		}
		name := selfreward.Dir(state.Name) + "/gallery-" + number + ".html"
		if err := store.Replace(ctx, j.st, name, page.Bytes()); err != nil {
			return nil, err
		}
		out = append(out, j.st.URL()+"/"+name)
	}
	return out, nil
}
