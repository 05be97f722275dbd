package selfreward

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/pipelines/audit"
	"github.com/promptmill/promptmill/pipelines/evaluation"
	"github.com/promptmill/promptmill/pipelines/metrics"
	"github.com/promptmill/promptmill/pipelines/prompts"
	"github.com/promptmill/promptmill/recipe"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/judgment"
	"github.com/promptmill/promptmill/transforms/parquetio"
	"github.com/promptmill/promptmill/transforms/snapshot"
)

// ErrUnfit says: the models cannot do what the recipe wants of them.
var ErrUnfit = errors.New("the model cannot do it")

// fits looks, before anything is asked, whether the policy can do what the recipe wants of it.
func (l *Loop) fits(ctx context.Context) error {
	if l.Recipe.SelfReward.Guard.MaxKL == 0 {
		return nil
	}
	if _, err := metrics.LogProbs(ctx, l.Recipe.Models.Policy); err != nil {
		return fmt.Errorf("selfreward.guard.max_kl: %w: %w; set 0", ErrUnfit, err)
	}
	return nil
}

// original measures, on the held-out prompts, what needs no policy: the prompts as they are and with each of the tags.
func (l *Loop) original(ctx context.Context, step *Step) error {
	r := *l.Recipe
	if err := r.Bind(l.Cache); err != nil {
		return err
	}
	cfg := metrics.New(&r, "")
	cfg.Tags = true
	m, err := l.measured(ctx, cfg, map[string]string{}, nil)
	if err == nil {
		step.made(m)
	}
	return err
}

// measure measures policy t, as a policy on the held-out prompts and as a judge of the facts, and looks whether it has
// collapsed.
func (l *Loop) measure(ctx context.Context, step *Step, t int) error {
	p, err := l.policy(ctx, t)
	if err != nil {
		return err
	}
	r, err := l.at(p, l.judgeOf(p))
	if err != nil {
		return err
	}
	if r.Metrics.Judge {
		if step.Trust, err = l.examine(ctx, r); err != nil {
			return err
		}
	}
	cfg := metrics.New(r, system(t))
	models := map[string]string{"policy": p.weights}
	if r.SelfReward.Guard.MaxKL > 0 {
		first, err := l.policy(ctx, 0)
		if err != nil {
			return err
		}
		cfg.Reference, models["reference"] = first.spec, first.weights
	}
	m, err := l.measured(ctx, cfg, models, step.Trust)
	if err != nil {
		return err
	}
	step.made(m)
	return l.collapsed(ctx, t)
}

// measured returns the measurements that cfg says, of models with these weights.
func (l *Loop) measured(ctx context.Context, cfg metrics.Config, models map[string]string, trust *audit.Trust) (snapshot.Manifest, error) {
	var none snapshot.Manifest
	set, err := l.manifest(ctx, "heldout")
	if err != nil {
		return none, err
	}
	if len(cfg.Scorers) > 0 {
		pictures, err := model.OpenImages(ctx, cfg.Imagegen.Model)
		if err != nil {
			return none, fmt.Errorf("models.images: %w", err)
		}
		models["images"] = pictures.Info().Weights
	}
	cfg.Prompts = parquetio.ReadConfig{
		Store: l.Store.URL(), Shards: schemas.ShardsOf(set.Shards, prompts.Rows), Limit: l.Recipe.Metrics.Limit,
	}
	limit := cfg.Prompts.Rows()
	h := l.common("metrics", cfg.Decides(), set.Digest, limit, models, trust)
	h.Parents, h.Models = []snapshot.Parent{set.Parent()}, models
	if trust != nil {
		text, err := json.Marshal(trust)
		if err != nil {
			return none, err
		}
		h.Metadata["judge"] = string(text)
	}
	cfg.Sink = l.sink(h)
	cfg.Sink.Seed = l.Recipe.MetricsSeed()
	cfg.Snapshot = snapshot.Config{Store: l.Store.URL(), Header: h, Gates: snapshot.Gates{MaxDeadFraction: l.Recipe.Gates.MaxDeadFraction}}
	return l.Ensure(ctx, h, "write_"+metrics.Rows, limit, func(s beam.Scope) { metrics.Build(s, cfg) })
}

// examine asks the judge of r about the held-out facts, and to judge its answers to them. What it cannot answer is a
// result, so nothing of it stops the loop.
func (l *Loop) examine(ctx context.Context, r *recipe.Recipe) (*audit.Trust, error) {
	judge, err := model.OpenChat(ctx, r.Models.Judge)
	if err != nil {
		return nil, fmt.Errorf("models.judge: %w", err)
	}
	asked := *r
	seed := r.MetricsSeed()
	asked.Seed = seed
	a := audit.Config{Audit: asked.AuditConfig(), Seed: seed}
	for _, p := range r.Audit.Facts {
		a.Parts = append(a.Parts, p.Bind(l.Cache, seed))
	}
	facts, err := evaluation.Digest(ctx, "audit.facts", a.Parts)
	if err != nil {
		return nil, err
	}
	if a.Totals, err = audit.Totals(ctx, a.Parts); err != nil {
		return nil, err
	}
	a.Own = &judgment.Config{
		Questions: a.Audit.Templates, Stored: a.Audit.Templates, Aspects: evaluation.Aspects(a.Parts), Asking: a.Audit.Asking(),
	}
	if err := a.Validate(); err != nil {
		return nil, err
	}
	var total int64
	for _, p := range a.Parts {
		total += 2 * p.Rows
	}
	models := map[string]string{"judge": judge.Info().Weights}
	h := l.common("audit", "with its own answers", facts, asked.DecidesAudit(), models)
	h.Models = models
	a.Sink = l.sink(h)
	a.Snapshot = snapshot.Config{Store: l.Store.URL(), Header: h, Gates: snapshot.Gates{MaxDeadFraction: 1}}
	m, err := l.Ensure(ctx, h, "audit_facts", total, func(s beam.Scope) { audit.Build(s, a) })
	if err != nil {
		return nil, err
	}
	trust := audit.Trusted(m, r.Audit.Validation)
	return &trust, nil
}
