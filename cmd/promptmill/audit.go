package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/spf13/cobra"

	"github.com/promptmill/promptmill/pipelines/audit"
	"github.com/promptmill/promptmill/pipelines/evaluation"
	"github.com/promptmill/promptmill/pipelines/preference"
	"github.com/promptmill/promptmill/schemas"
	report "github.com/promptmill/promptmill/transforms/audit"
	"github.com/promptmill/promptmill/transforms/judge"
	"github.com/promptmill/promptmill/transforms/snapshot"
)

func (a *app) auditCmd() *cobra.Command {
	var version string
	var answers int64
	c := &cobra.Command{
		Use:   "audit",
		Short: "Say how far the judge can be trusted: order, length, failures, agreement with people",
		Long: `audit asks models.judge about facts, without any hint and in both orders, and reports how often it agrees with
people, how often the order decides, how its scores are spread and which answers do not parse. With --answers it also
has the judge compare its own answers with the teacher's of the evaluation set, which it builds if it is not there:
does it prefer its own, or the longer? With --version it asks nothing and reports what the judge of a preference set
said there.

  promptmill audit --recipe demo --models scene --out data`,
		Args: cobra.NoArgs,
		RunE: run(func(ctx context.Context, _ []string) (err error) {
			j, err := a.newJob(ctx)
			if err != nil {
				return err
			}
			defer func() { err = j.closeLog(ctx, err) }()
			return j.audit(ctx, version, answers)
		}),
	}
	a.jobFlags(c)
	a.shortFlag(c)
	c.Flags().StringVar(&version, "version", "", "audit a version of the preference set: a number, a run id, or latest")
	c.Flags().Int64Var(&answers, "answers", 0, "have the judge compare its own answers with so many of the evaluation set")
	c.MarkFlagsMutuallyExclusive("version", "answers")
	return c
}

// audit runs the audit of facts and of so many answers, or of a version of the preference set, and prints its report.
func (j *job) audit(ctx context.Context, version string, answers int64) error {
	const set = "audit"
	c := audit.Config{Seed: j.recipe.Seed}
	var h snapshot.Header
	var total int64
	if version != "" {
		of, err := snapshot.Load(ctx, j.st, "preference", version)
		if err != nil {
			return err
		}
		h = j.header(set, j.runID(set, of.RunID, of.Digest))
		h.Parents = []snapshot.Parent{of.Parent()}
		c.Judgments, total = schemas.ShardsOf(of.Shards, preference.Judgments), of.Rows[preference.Judgments]
	} else {
		parts := j.recipe.Audit.Facts
		files, err := evaluation.Digest(ctx, "audit.facts", parts)
		if err != nil {
			return usageError{j.doc.Locate(err)}
		}
		decides := []any{set, files, j.recipe.DecidesAudit()}
		var parents []snapshot.Parent
		if answers > 0 {
			e, err := j.evaluationSet(ctx, false)
			if err != nil {
				return err
			}
			parents = append(parents, e.Parent())
			decides = append(decides, answers, parents)
			c.Answers, c.AnswerRows = schemas.ShardsOf(e.Shards, evaluation.Items), answers
			total += 2 * min(answers, e.Rows[evaluation.Items])
		}
		h = j.header(set, j.runID(decides...))
		h.Parents = parents
		c.Parts, c.Audit = parts, j.recipe.AuditConfig()
		if c.Totals, err = audit.Totals(ctx, parts); err != nil {
			return err
		}
		for _, p := range parts {
			total += 2 * p.Rows
		}
	}
	if err := c.Validate(); err != nil {
		return usageError{j.doc.Locate(err)}
	}
	c.Sink = j.sink(h)
	c.Snapshot = snapshot.Config{Store: j.st.URL(), Header: h, Gates: snapshot.Gates{MaxDeadFraction: j.recipe.Gates.MaxDeadFraction}}
	m, err := j.rounds(set)(ctx, h, report.StageFacts, total, func(s beam.Scope) { audit.Build(s, c) })
	if err != nil {
		return err
	}
	r := audit.Report(m, j.recipe.Audit.Validation)
	if j.flags.json {
		s := summarise(set, m.Set+"/"+m.RunID, []snapshot.Manifest{m}, spentSince(j.spent), j.start)
		return json.NewEncoder(j.out).Encode(struct {
			summary
			Report report.Report `json:"report"`
		}{s, r})
	}
	return printAudit(j.out, r)
}

// printAudit writes a report for people.
func printAudit(w io.Writer, r report.Report) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, a := range r.Aspects {
		fmt.Fprintf(t, "\n%s\t%d answers read, failures: %s\n", a.Aspect, a.Read, counted(a.Faults))
		fmt.Fprintf(t, "  scores\t")
		for _, b := range a.Scores {
			fmt.Fprintf(t, "%g: %d  ", b.Score, b.N)
		}
		fmt.Fprintln(t)
		if o := a.Orders; o != (judge.Orders{}) {
			fmt.Fprintf(t, "  order\t%.1f%% flips (%d same, %d for Image 1, %d for Image 2, %d undecided, %d unread)\n",
				100*o.FlipRate, o.Same, o.Image1, o.Image2, o.Undecided, o.Unread)
		}
		contest(t, "the longer wins", a.Longer)
		contest(t, "its own wins", a.Own)
		for _, g := range a.Agreement {
			fmt.Fprintf(t, "  agrees with people\t%.1f%% of %d %s (a tie up to %g)\n", 100*g.Accuracy, g.N, g.Part, a.Threshold)
		}
	}
	return t.Flush()
}

func contest(w io.Writer, what string, c report.Contest) {
	if c != (report.Contest{}) {
		fmt.Fprintf(w, "  %s\t%.1f%% (%d won, %d lost, %d tied)\n", what, 100*c.Rate, c.Won, c.Lost, c.Tied)
	}
}
