package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/promptmill/promptmill/recipe"
	"github.com/promptmill/promptmill/transforms/heldout"
	"github.com/promptmill/promptmill/transforms/settings"
	"github.com/promptmill/promptmill/transforms/source"
)

// A plan is what a job would take if every prompt went through. Calls are upper bounds: the response log
// and duplicates make them fewer, answers of no use make them more.
type plan struct {
	Command string           `json:"command"`
	Rows    map[string]int64 `json:"rows"`
	Calls   calls            `json:"calls"`
	Tokens  tokens           `json:"tokens"`
	Hours   float64          `json:"hours"`
	Cost    float64          `json:"cost"`
}

type tokens struct {
	Prompt     int64 `json:"prompt"`
	Completion int64 `json:"completion"`
}

func (a *app) planCmd() *cobra.Command {
	c := &cobra.Command{
		Use:       "plan [preference|sft|evaluation|judgment]",
		Short:     "Rows, calls, tokens, hours and money of a job; nothing is called",
		Args:      cobra.MatchAll(cobra.MaximumNArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"preference", "sft", "evaluation", "judgment"},
		RunE: run(func(ctx context.Context, args []string) error {
			r, doc, err := a.loadRecipe()
			if err != nil {
				return err
			}
			what := "preference"
			if len(args) == 1 {
				what = args[0]
			}
			return a.writePlan(ctx, what, r, doc)
		}),
	}
	a.recipeFlags(c)
	return c
}

// writePlan counts the records of the inputs, which reads them, and reckons the rest from the recipe.
func (a *app) writePlan(ctx context.Context, command string, r *recipe.Recipe, doc *recipe.Document) error {
	p := plan{Command: command, Rows: map[string]int64{}}
	if command != "preference" {
		if err := planSupervised(ctx, command, r, doc, &p); err != nil {
			return err
		}
		return a.printPlan(p, r)
	}
	if err := inspect(ctx, command, r, doc); err != nil {
		return err
	}
	records, err := source.Estimate(ctx, r.Prompts)
	if err != nil {
		return err
	}
	prompts := records
	if k := r.Select.Prompts; k > 0 {
		prompts = min(prompts, k)
	}
	candidates := int64(r.Rewrite.Candidates)
	judgments := prompts * candidates * int64(len(r.Judge.Aspects))
	p.Rows["records"], p.Rows["prompts"], p.Rows["candidates"] = records, prompts, prompts*candidates
	p.Rows["judgments"] = judgments * int64(r.Judge.Samples)
	verdicts := planVerdicts(r, prompts*candidates)
	if verdicts > 0 {
		p.Rows["verdicts"] = verdicts
	}
	p.Calls = calls{Chat: prompts + judgments + verdicts, Image: prompts * (candidates + 1)}
	p.Tokens = planTokens(r, prompts, judgments, verdicts)
	p.Hours = (float64(p.Calls.Chat)*r.Plan.ChatSeconds/slots(r.Models.Judge.Concurrency) +
		float64(p.Calls.Image)*r.Plan.ImageSeconds/slots(r.Models.Images.Concurrency)) / 3600
	p.Cost = float64(p.Tokens.Prompt)/1e6*r.Plan.PromptTokenPrice + float64(p.Tokens.Completion)/1e6*r.Plan.CompletionTokenPrice +
		float64(p.Calls.Image)/1e3*r.Plan.ImagePrice
	return a.printPlan(p, r)
}

// inspect finds, before any work, what is wrong with the inputs of a command and with the benchmarks.
func inspect(ctx context.Context, command string, r *recipe.Recipe, doc *recipe.Document) error {
	err := heldout.Inspect(ctx, r.Heldout)
	if command == "sft" {
		err = errors.Join(settings.Under("pairs", "source", source.InspectPairs(ctx, r.Pairs)), err)
	} else {
		err = errors.Join(settings.Under("prompts", "source", source.Inspect(ctx, r.Prompts)), err)
	}
	if err != nil {
		return usageError{doc.Locate(err)}
	}
	return nil
}

// planVerdicts reckons how often the judge is asked about its own answers: each of a candidate's on an aspect
// beside each other one, in both orders.
func planVerdicts(r *recipe.Recipe, candidates int64) int64 {
	samples := int64(r.Judge.Samples)
	return min(r.JudgmentPairs.Asked, candidates*int64(len(r.JudgmentPairs.Aspects))) * samples * (samples - 1)
}

// planTokens reckons four characters to a token (OpenAI's rule of thumb for English), and answers at
// half of their limit.
func planTokens(r *recipe.Recipe, prompts, judgments, verdicts int64) tokens {
	const charsPerToken = 4
	var t tokens
	const typicalPrompt = 60 // characters
	ask := int64(len(r.Rewrite.Template.System)+len(r.Rewrite.Template.User)+typicalPrompt) / charsPerToken
	t.Prompt = prompts * ask
	t.Completion = prompts * int64(r.Rewrite.Candidates) * int64(r.Rewrite.MaxTokens) / 2
	for _, aspect := range r.Judge.Aspects {
		tmpl, ok := r.Judge.Templates.Task(aspect)
		if !ok {
			continue
		}
		share := judgments / int64(len(r.Judge.Aspects))
		t.Prompt += share * (int64(len(tmpl.System)+len(tmpl.User)+typicalPrompt)/charsPerToken + 2*int64(r.Plan.ImageTokens))
		t.Completion += share * int64(r.Judge.Samples) * int64(r.Judge.MaxTokens) / 2
	}
	for _, aspect := range r.JudgmentPairs.Aspects {
		messages, _ := r.JudgmentPairs.Templates.AboutAnswers(aspect, "", "", "")
		share := verdicts / int64(len(r.JudgmentPairs.Aspects))
		for _, m := range messages {
			t.Prompt += share * int64(len(m.Content)) / charsPerToken
		}
		t.Prompt += share * (typicalPrompt/charsPerToken + int64(r.Judge.MaxTokens) + 2*int64(r.Plan.ImageTokens)) // two answers
		t.Completion += share * int64(r.JudgmentPairs.MaxTokens) / 2
	}
	return t
}

func slots(concurrency int) float64 { return float64(max(concurrency, 1)) }

func (a *app) printPlan(p plan, r *recipe.Recipe) error {
	if a.flags.json {
		return json.NewEncoder(a.out).Encode(p)
	}
	t := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(t, "plan of %s, recipe %s: nothing is called\n\n", p.Command, r.Name)
	fmt.Fprintf(t, "  rows\t%s\n", counted(p.Rows))
	if p.Calls.Chat > 0 && p.Command != "preference" {
		fmt.Fprintf(t, "  chat calls\t%d of a teacher that is always right at once\n  image calls\t%d\n", p.Calls.Chat, p.Calls.Image)
		fmt.Fprintf(t, "  hours\t%.1f, at %g s a chat call, %d at once\n", p.Hours, r.Plan.ChatSeconds, max(r.Models.Teacher.Concurrency, 1))
	}
	if p.Command == "preference" {
		verdicts := p.Rows["verdicts"]
		fmt.Fprintf(t, "  chat calls\t%d (%d rewrites, %d judgments of %d answers each, %d verdicts on answers)\n", p.Calls.Chat, p.Rows["prompts"],
			p.Calls.Chat-p.Rows["prompts"]-verdicts, r.Judge.Samples, verdicts)
		fmt.Fprintf(t, "  image calls\t%d\n", p.Calls.Image)
		fmt.Fprintf(t, "  tokens\tabout %d in, %d out\n", p.Tokens.Prompt, p.Tokens.Completion)
		fmt.Fprintf(t, "  hours\t%.1f, at %g s a chat call, %d at once, and %g s a picture, %d at once\n", p.Hours,
			r.Plan.ChatSeconds, max(r.Models.Judge.Concurrency, 1), r.Plan.ImageSeconds, max(r.Models.Images.Concurrency, 1))
		fmt.Fprintf(t, "  cost\t%.2f, at the prices of the recipe's plan section\n", p.Cost)
		fmt.Fprintln(t, "\n  Calls are what a run without a response log makes if every answer is of use.")
	}
	return t.Flush()
}
