package main

import (
	"context"
	"errors"
	"math"

	"github.com/promptmill/promptmill/pipelines/evaluation"
	"github.com/promptmill/promptmill/recipe"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/source"
)

// planSupervised reckons the sets that a teacher makes from their numbers of rows: a teacher that is always right
// is asked once for each row, and again where the order is measured.
func planSupervised(ctx context.Context, command string, r *recipe.Recipe, doc *recipe.Document, p *plan) error {
	evaluations := command == "evaluation" || command == "judgment"
	judgments := command == "judgment"
	if command == "sft" {
		if r.SFT.Has(schemas.TaskRewrite) {
			if err := inspect(ctx, command, r, doc); err != nil {
				return err
			}
			records, err := source.Estimate(ctx, r.Pairs)
			if err != nil {
				return err
			}
			p.Rows["pairs"] = records
		}
		judgments = r.SFT.Has(schemas.TaskJudgment)
		evaluations = judgments || r.SFT.Has(schemas.TaskEvaluation)
	}
	if evaluations {
		if len(r.Evaluation.Parts) == 0 {
			return usageError{doc.Locate(errors.New("evaluation.parts: none; name the sources of facts"))}
		}
		if _, err := evaluation.Digest(ctx, "evaluation.parts", r.Evaluation.Parts); err != nil {
			return usageError{doc.Locate(err)}
		}
		for _, part := range r.Evaluation.Parts {
			p.Rows["evaluation"] += part.Rows
			if part.Generated != nil { // asked in both orders, of two pictures that are drawn
				p.Calls.Chat += 2 * part.Rows
				p.Calls.Image += 2 * part.Rows
				continue
			}
			p.Calls.Chat += part.Rows + int64(math.Ceil(r.Teacher.BothOrders*float64(part.Rows)))
		}
	}
	if judgments {
		for _, n := range r.Judgment.Rows {
			p.Rows["judgment"] += n
			p.Calls.Chat += int64(math.Ceil(r.Judgment.Pool * float64(n)))
		}
	}
	p.Hours = (float64(p.Calls.Chat)*r.Plan.ChatSeconds/slots(r.Models.Teacher.Concurrency) +
		float64(p.Calls.Image)*r.Plan.ImageSeconds/slots(r.Models.Images.Concurrency)) / 3600
	return nil
}
