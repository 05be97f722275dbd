package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/promptmill/promptmill/model"
	_ "github.com/promptmill/promptmill/model/tiny" // backend tiny
	"github.com/promptmill/promptmill/model/tiny/train"
	"github.com/promptmill/promptmill/testdata"
)

type tinyFlags struct {
	part, out string
	steps     int64
	seed      uint64
	pictures  int
	set       []string
}

// A tinyPart is one of the embedded models: how it is made and how it is looked at.
type tinyPart struct {
	name     string
	train    func(a *app, ctx context.Context, prompts []train.Prompt, f tinyFlags) error
	evaluate func(a *app, ctx context.Context, prompts []train.Prompt, f tinyFlags) (any, error)
}

// tinyParts are in the order in which they are trained.
var tinyParts = []tinyPart{
	{"tokenizer", (*app).trainTokenizer, nil},
	{"t2i", (*app).trainT2I, (*app).evaluateT2I},
	{"vlm", (*app).trainVLM, (*app).evaluateVLM},
}

func (a *app) tinyCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "tiny",
		Short: "Train the embedded models from nothing, or measure them",
	}
	f := tinyFlags{}
	making := &cobra.Command{
		Use:   "train",
		Short: "Train the embedded models on the real prompts that come with promptmill and pictures of the scene renderer",
		Long: `train makes the embedded models, each in a folder of --out, in the layouts of published models. The language model is
taught the supervised set of recipe tiny, which train builds with the text-to-image model it has made and publishes in
--out, as evaluation, judgment and sft do. The weights in this binary are what it gives; on CPUs of another type the
last bits differ. It takes about an hour on one core. A run that is interrupted goes on when it is started again.`,
		Args: cobra.NoArgs,
		RunE: run(func(ctx context.Context, _ []string) error { return a.tinyTrain(ctx, f) }),
	}
	making.Flags().StringVar(&f.part, "part", "all", "what to train: all, or one `part` of "+partNames())
	making.Flags().StringVar(&f.out, "out", "", "`directory` that receives the models")
	making.Flags().Int64Var(&f.steps, "steps", 0, "stop each phase after so many `steps`, for a look (default: the whole run)")
	making.Flags().StringArrayVar(&f.set, "set", nil, "set a `key=value` of recipe tiny, which says what the language model is taught; may be repeated")
	making.Flags().Uint64Var(&f.seed, "seed", 0, "another `seed` than that of the embedded models")

	measuring := &cobra.Command{
		Use:   "evaluate",
		Short: "Measure the embedded models on held-out prompts",
		Args:  cobra.NoArgs,
		RunE:  run(func(ctx context.Context, _ []string) error { return a.tinyEvaluate(ctx, f) }),
	}
	measuring.Flags().StringVar(&f.part, "part", "all", "what to measure: all, or one `part` of "+partNames())
	measuring.Flags().IntVar(&f.pictures, "pictures", 400, "how many `captions` are drawn, and pairs of pictures judged")
	measuring.Flags().StringVar(&f.out, "from", "", "`directory` that train made, to measure it (default: the embedded models)")
	c.AddCommand(making, measuring)
	return c
}

func partNames() string {
	names := make([]string, len(tinyParts))
	for i, p := range tinyParts {
		names[i] = p.name
	}
	return strings.Join(names, ", ")
}

// parts are those that --part asks for.
func (f tinyFlags) parts() ([]tinyPart, error) {
	if f.part == "all" {
		return tinyParts, nil
	}
	i := slices.IndexFunc(tinyParts, func(p tinyPart) bool { return p.name == f.part })
	if i < 0 {
		return nil, usagef("--part %q: there are all, %s", f.part, partNames())
	}
	return tinyParts[i : i+1], nil
}

// tinyPrompts are the prompts that the embedded models know the world's language from.
func tinyPrompts() ([]train.Prompt, error) {
	f, err := testdata.Files.Open("prompts/sd_prompts_all.jsonl.gz")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return train.ReadPrompts(f)
}

func (a *app) tinyTrain(ctx context.Context, f tinyFlags) error {
	parts, err := f.parts()
	if err != nil {
		return err
	}
	if f.out == "" {
		return usagef("no --out: name the directory that receives the models, as in --out tiny")
	}
	prompts, err := tinyPrompts()
	if err != nil {
		return err
	}
	for _, p := range parts {
		if err := p.train(a, ctx, prompts, f); err != nil {
			return fmt.Errorf("tiny %s: %w", p.name, err)
		}
	}
	return nil
}

// trainTokenizer writes the vocabulary that the models share. They do not read the file: it is for looking at.
func (a *app) trainTokenizer(_ context.Context, prompts []train.Prompt, f tinyFlags) error {
	bpe, err := train.Tokenizer(prompts)
	if err != nil {
		return err
	}
	data, err := bpe.JSON(train.ForChat)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(f.out, 0o755); err != nil {
		return err
	}
	path := filepath.Join(f.out, "tokenizer.json")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		return err
	}
	a.say("tokenizer: %d tokens in %s", len(bpe.Tokens), path)
	return nil
}

func (a *app) trainT2I(ctx context.Context, prompts []train.Prompt, f tinyFlags) error {
	bpe, err := train.Tokenizer(prompts)
	if err != nil {
		return err
	}
	c := train.DefaultT2I()
	c.Stop = f.steps
	if f.seed != 0 {
		c.Seed = f.seed
	}
	dir := filepath.Join(f.out, "t2i")
	err = train.T2I(ctx, dir, prompts, bpe, c, a.tellSteps("t2i"))
	if err == nil {
		a.say("t2i: in %s", dir)
	}
	return err
}

// tellSteps prints the mean loss of each hundred steps of a phase.
func (a *app) tellSteps(part string) train.Told {
	const every = 100
	var sum float64
	var n int
	return func(phase train.Phase, step int64, loss float64) {
		if step == 1 {
			sum, n = 0, 0
		}
		sum, n = sum+loss, n+1
		if step == 1 || step%every == 0 {
			a.say("%s: %s, step %d, loss %.4f", part, phase, step, sum/float64(n))
			sum, n = 0, 0
		}
	}
}

func (a *app) tinyEvaluate(ctx context.Context, f tinyFlags) error {
	parts, err := f.parts()
	if err != nil {
		return err
	}
	prompts, err := tinyPrompts()
	if err != nil {
		return err
	}
	result := map[string]any{"command": "tiny evaluate"}
	for _, p := range parts {
		if p.evaluate == nil {
			continue
		}
		if result[p.name], err = p.evaluate(a, ctx, prompts, f); err != nil {
			return fmt.Errorf("tiny %s: %w", p.name, err)
		}
	}
	if a.flags.json {
		return json.NewEncoder(a.out).Encode(result)
	}
	return nil
}

// evaluateT2I compares pictures of the test part's prompts with renderings of them.
func (a *app) evaluateT2I(ctx context.Context, prompts []train.Prompt, f tinyFlags) (any, error) {
	spec := model.Spec{Backend: "tiny"}
	if f.out != "" {
		spec = model.Spec{Backend: "diffusion", Model: filepath.Join(f.out, "t2i")}
	}
	m, err := model.OpenImages(ctx, spec)
	if err != nil {
		return nil, err
	}
	captions, err := train.Held(prompts, train.Test, f.pictures, 0)
	if err != nil {
		return nil, err
	}
	statistics, err := train.ComparePictures(ctx, m, captions)
	if err != nil || a.flags.json {
		return statistics, err
	}
	fmt.Fprintf(a.out, "t2i: captions of held-out prompts, generated and rendered; the ceiling is of two renderings\n\n")
	t := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "statistic\tcaptions\tcorrelation\tceiling\tgenerated\trendered\t")
	for _, s := range statistics {
		fmt.Fprintf(t, "%s\t%d\t%.2f\t%.2f\t%.3f\t%.3f\t\n", s.Name, s.Captions, s.Correlation, s.Ceiling, s.Generated, s.Rendered)
	}
	return statistics, t.Flush()
}
