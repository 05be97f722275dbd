package main

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/tiny/train"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/judge"
)

func (a *app) trainVLM(ctx context.Context, prompts []train.Prompt, f tinyFlags) error {
	bpe, err := train.Tokenizer(prompts)
	if err != nil {
		return err
	}
	c := train.DefaultVLM()
	c.Stop = f.steps
	if f.seed != 0 {
		c.Seed = f.seed
	}
	rows, err := a.tinyRows(ctx, prompts, bpe, f)
	if err != nil {
		return err
	}
	err = train.VLM(ctx, f.out, prompts, bpe, rows, c, train.Render, a.tellStages())
	if err == nil {
		a.say("vlm: in %s and %s", filepath.Join(f.out, "vlm-init"), filepath.Join(f.out, "vlm-sft"))
	}
	return err
}

// tellStages prints the mean loss of each phase in each hundred steps of a stage.
func (a *app) tellStages() train.Told {
	const every = 100
	sums, counts := map[train.Phase]float64{}, map[train.Phase]int{}
	return func(phase train.Phase, step int64, loss float64) {
		sums[phase] += loss
		counts[phase]++
		if step%every != 0 {
			return
		}
		var line strings.Builder
		for _, p := range slices.Sorted(maps.Keys(sums)) {
			fmt.Fprintf(&line, ", %s %.4f", p, sums[p]/float64(counts[p]))
		}
		a.say("vlm: step %d, loss%s", step, line.String()[1:])
		clear(sums)
		clear(counts)
	}
}

// A vlmResult is what an examination found of one model on pictures of one origin.
type vlmResult struct {
	Model    string `json:"model"`
	Pictures string `json:"pictures"`
	*train.VLMReport
}

// evaluateVLM examines the initial model and the trained one on pictures of the test part's prompts: on renderings, as it
// was trained, and the trained one on what the text-to-image model draws, as it is used.
func (a *app) evaluateVLM(ctx context.Context, prompts []train.Prompt, f tinyFlags) (any, error) {
	corpus, err := train.NewCorpus(prompts, train.Test)
	if err != nil {
		return nil, err
	}
	spec := func(backend, folder, name string) model.Spec {
		if f.out != "" {
			return model.Spec{Backend: backend, Model: filepath.Join(f.out, folder)}
		}
		return model.Spec{Backend: "tiny", Model: name}
	}
	images, err := model.OpenImages(ctx, spec("diffusion", "t2i", "t2i"))
	if err != nil {
		return nil, err
	}
	const rows, generatedRows = 500, 100
	rendered := train.NewPool(corpus, train.Render, rows, 0, 1)
	generated := train.NewPool(corpus, train.Generate(images), generatedRows, 0, 2)
	var results []vlmResult
	for _, r := range []struct {
		vlmResult
		pool *train.Pool
	}{
		{vlmResult{Model: "init", Pictures: "rendered"}, rendered},
		{vlmResult{Model: "sft", Pictures: "rendered"}, rendered},
		{vlmResult{Model: "sft", Pictures: "generated"}, generated},
	} {
		chat, err := model.OpenChat(ctx, spec("vlm", "vlm-"+r.Model, r.Model))
		if err != nil {
			return nil, err
		}
		e := train.Examination{
			Chat: chat, Pool: r.pool, Images: scores(judge.ParseImages), Answers: scores(judge.ParseAnswers),
			Comparisons: f.pictures, Judgments: f.pictures, Rewrites: f.pictures / 2, Seed: 1,
		}
		if r.VLMReport, err = e.Run(ctx); err != nil {
			return nil, fmt.Errorf("examine %s: %w", r.Model, err)
		}
		results = append(results, r.vlmResult)
	}
	if a.flags.json {
		return results, nil
	}
	return results, a.showVLM(results)
}

// scores makes one of the judge's parsers what an examination takes.
func scores(parse func(string) (judge.Scores, error)) train.Parser {
	return func(answer string) (first, second float64, err error) {
		s, err := parse(answer)
		return s.First, s.Second, err
	}
}

func (a *app) showVLM(results []vlmResult) error {
	fmt.Fprintf(a.out, "\nvlm: %d pairs of pictures of held-out prompts for each aspect\n\n", results[0].Judge[0].Asked)
	t := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "judge\tpictures\taspect\taccuracy\tceiling\tcorrelation of the difference\tparsable\t")
	for _, r := range results {
		for _, s := range r.Judge {
			fmt.Fprintf(t, "%s\t%s\t%s\t%.2f\t%.2f\t%.2f\t%.3f\t\n", r.Model, r.Pictures, s.Aspect, s.Accuracy, s.Ceiling, s.Difference, s.Parsable)
		}
	}
	fmt.Fprintln(t)
	fmt.Fprintln(t, "model\tpictures\tshare\tvalue\tfrom\tto\tof\t")
	for _, r := range results {
		for _, s := range []struct {
			name string
			schemas.Share
		}{
			{"nearer to the facts of two own answers is preferred (a coin: 0.5)", r.Judgment},
			{"the same where grades differ by 2 and more", r.Sure},
			{"judgments that can be read", r.Graded},
			{"rewritings that are lists of modifiers", r.Rewriting},
			{"rewritings that have a modifier twice", r.Repeating},
		} {
			if s.Of > 0 {
				fmt.Fprintf(t, "%s\t%s\t%s\t%.3f\t%.3f\t%.3f\t%d\t\n", r.Model, r.Pictures, s.name, s.Value, s.Low, s.High, s.Of)
			}
		}
	}
	return t.Flush()
}
