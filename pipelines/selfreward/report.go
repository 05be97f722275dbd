package selfreward

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/promptmill/promptmill/pipelines/metrics"
	"github.com/promptmill/promptmill/pipelines/preference"
	"github.com/promptmill/promptmill/recipe"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/transforms/judge"
	"github.com/promptmill/promptmill/transforms/ledger"
	"github.com/promptmill/promptmill/transforms/parquetio"
	"github.com/promptmill/promptmill/transforms/snapshot"
)

// ErrCollapsed says: a policy is outside of the limits of selfreward.guard.
var ErrCollapsed = errors.New("the policy has collapsed")

// Stages are the figures of all systems that a loop of recipe r has measured so far: the original, the tags,
// and each policy.
func Stages(ctx context.Context, st store.Store, r *recipe.Recipe, s State) ([]metrics.Stage, error) {
	rows, err := Measurements(ctx, st, s)
	if err != nil {
		return nil, err
	}
	return StagesOf(rows, r, s), nil
}

// StagesOf are the figures that Stages makes, of rows that Measurements has read.
func StagesOf(rows []schemas.Measurement, r *recipe.Recipe, s State) []metrics.Stage {
	order := metrics.FixedSystems()
	for t := range len(r.SelfReward.Iterations) + 1 {
		order = append(order, system(t))
	}
	stages := metrics.Summarise(rows, order, r.Metrics.Resamples, r.MetricsSeed())
	for i := range stages {
		for t := range len(r.SelfReward.Iterations) + 1 {
			if step := s.step(fmt.Sprintf("measure-%d", t)); step != nil && stages[i].Name == system(t) {
				stages[i].Trust = step.Trust
			}
		}
	}
	return stages
}

// Measurements are the rows behind Stages.
func Measurements(ctx context.Context, st store.Store, s State) (rows []schemas.Measurement, err error) {
	for _, step := range s.Steps {
		if step.RunID == "" || step.Name != "original" && !strings.HasPrefix(step.Name, "measure-") {
			continue
		}
		m, err := snapshot.Load(ctx, st, step.Set, step.RunID)
		if err != nil {
			return nil, err
		}
		err = parquetio.Rows(ctx, st, schemas.ShardsOf(m.Shards, metrics.Rows), func(m schemas.Measurement) error {
			rows = append(rows, m)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// collapsed compares policy t's texts with policy 0's.
func (l *Loop) collapsed(ctx context.Context, t int) error {
	if t == 0 {
		return nil
	}
	stages, err := Stages(ctx, l.Store, l.Recipe, l.State)
	if err != nil {
		return err
	}
	var first, now metrics.Stage
	for _, s := range stages {
		switch s.Name {
		case system(0):
			first = s
		case system(t):
			now = s
		}
	}
	if first.Name == "" || now.Name == "" {
		return nil
	}
	var errs []error
	g := l.Recipe.SelfReward.Guard
	check := func(name, what string, limit, is, was float64, above bool) {
		if limit > 0 && was > 0 && (is/was > limit) == above && is/was != limit {
			errs = append(errs, fmt.Errorf("%w: %s is %.3g, policy 0's is %.3g; selfreward.guard.%s is %v", ErrCollapsed, what, is, was, name, limit))
		}
	}
	check("min_length", "the mean length in words", g.MinLength, now.Words, first.Words, false)
	check("max_length", "the mean length in words", g.MaxLength, now.Words, first.Words, true)
	check("min_distinct", "distinct-2", g.MinDistinct, now.Distinct2, first.Distinct2, false)
	if kl := now.Scores[metrics.KL].Mean; g.MaxKL > 0 && kl > g.MaxKL {
		errs = append(errs, fmt.Errorf("%w: it finds its own texts likelier than policy 0 does by %.3g nats a token; selfreward.guard.max_kl is %v", ErrCollapsed, kl, g.MaxKL))
	}
	return errors.Join(errs...)
}

// parses looks at how many of the judge's answers were of no use, those included that were asked for again.
func (l *Loop) parses(ctx context.Context, m snapshot.Manifest) error {
	limit := l.Recipe.SelfReward.Guard.MaxFailures
	if limit == 0 {
		return nil
	}
	failures := ledger.Total(m.Counts, judge.Stage, schemas.Dead) * int64(l.Recipe.Judge.Retries+1)
	answers := ledger.Total(m.Counts, judge.Stage, schemas.Out)
	err := parquetio.Rows(ctx, l.Store, schemas.ShardsOf(m.Shards, preference.Judgments), func(j schemas.Judgment) error {
		failures += int64(j.Attempt)
		return nil
	})
	if err != nil {
		return err
	}
	if part := float64(failures) / float64(max(answers+failures, 1)); part > limit {
		return fmt.Errorf("%w: %.0f%% of the judge's answers do not parse; selfreward.guard.max_failures is %v", ErrCollapsed, 100*part, limit)
	}
	return nil
}

// Report is the name of the page in the store.
func Report(name string) string { return Dir(name) + "/report.html" }

// report writes the page.
func (l *Loop) report(ctx context.Context, _ *Step) error {
	stages, err := Stages(ctx, l.Store, l.Recipe, l.State)
	if err != nil {
		return err
	}
	r := l.Recipe
	page := metrics.Page{
		Title: "Self-rewarding training: " + l.Name,
		Facts: [][2]string{
			{"recipe", fmt.Sprintf("%s, digest %.12s", r.Name, l.digest)},
			{"day", l.LogicalDate},
			{"reward", r.SelfReward.Reward + ", " + strings.Join(r.Judge.Aspects, " + ")},
			{"candidates", fmt.Sprintf("%d at temperature %g, %d judgments an aspect, margin %g", r.Rewrite.Candidates, r.Rewrite.Temperature, r.Judge.Samples, r.Prefer.MinMargin)},
			{"final weights", l.Weights()},
			{"digest", l.Digest()},
		},
		Stages: stages, StepHead: []string{"step", "state", "rows", "digest", "weights", "seconds", "note"},
	}
	for _, s := range l.Steps {
		took := ""
		if !s.Ended.IsZero() {
			took = fmt.Sprintf("%.1f", s.Ended.Sub(s.Begun).Round(100*time.Millisecond).Seconds())
		}
		var rows []string
		for _, config := range []string{"prompts", preference.Pairs, Own, Mixed, metrics.Rows} {
			if n, ok := s.Rows[config]; ok {
				rows = append(rows, fmt.Sprint(n))
			}
		}
		page.Steps = append(page.Steps, []string{s.Name, s.State, strings.Join(rows, ", "), fmt.Sprintf("%.12s", s.Digest), fmt.Sprintf("%.20s", s.Weights), took, s.Note})
	}
	var b bytes.Buffer
	if err := metrics.WritePage(&b, page); err != nil {
		return err
	}
	return store.Replace(ctx, l.Store, Report(l.Name), b.Bytes())
}
