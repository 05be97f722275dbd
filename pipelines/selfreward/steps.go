package selfreward

import (
	"context"
	"fmt"
	"maps"
	"math"
	"strings"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/pipelines/preference"
	"github.com/promptmill/promptmill/pipelines/prompts"
	"github.com/promptmill/promptmill/pipelines/training"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/parquetio"
	"github.com/promptmill/promptmill/transforms/snapshot"
	"github.com/promptmill/promptmill/transforms/train"
)

// supervise trains policy 0.
func (l *Loop) supervise(ctx context.Context, step *Step) error {
	data, err := l.manifest(ctx, "sft-data")
	if err != nil {
		return err
	}
	start, weights, err := training.Start(ctx, l.Recipe)
	if err != nil {
		return err
	}
	cfg := training.New(l.Recipe, model.MethodSFT).On(data, l.Recipe.Training.Configurations...)
	return l.train(ctx, step, cfg, data, policy{start: start, weights: weights})
}

// optimise trains policy t on its pairs; policy t-1 is start and reference.
func (l *Loop) optimise(ctx context.Context, step *Step, t int) error {
	pairs, err := l.manifest(ctx, fmt.Sprintf("pairs-%d", t))
	if err != nil {
		return err
	}
	p, err := l.policy(ctx, t-1)
	if err != nil {
		return err
	}
	configuration := preference.Pairs
	if own := l.step(fmt.Sprintf("judgments-%d", t)); own != nil && own.State == Done {
		configuration = Mixed
		if pairs, err = l.manifest(ctx, own.Name); err != nil {
			return err
		}
	}
	cfg := training.New(l.Recipe, model.MethodDPO).On(pairs, configuration)
	if rate := l.Recipe.SelfReward.Iterations[t-1].LearningRate; rate > 0 {
		cfg.Train.Params.LearningRate = rate
	}
	if err := l.train(ctx, step, cfg, pairs, p); err != nil {
		return err
	}
	l.release(t)
	return nil
}

// train makes, publishes and notes down a checkpoint.
func (l *Loop) train(ctx context.Context, step *Step, cfg training.Config, data snapshot.Manifest, start policy) error {
	cfg.Train.Store, cfg.Train.Start, cfg.Train.Weights = l.Store.URL(), start.start, start.weights
	h := l.header(training.Set, step.Name, data.Digest, start.weights, cfg.Train.Params, cfg.Train.Attempt)
	h.Parents, h.Models = []snapshot.Parent{data.Parent()}, map[string]string{"start": start.weights}
	cfg.Sink, cfg.Snapshot = l.sink(h), snapshot.Config{Store: l.Store.URL(), Header: h}
	m, err := l.Ensure(ctx, h, train.Stage, 1, func(s beam.Scope) { training.Build(s, cfg) })
	if err != nil {
		cfg.Interrupted(ctx, l.Recipe, l.Say)
		return training.Err(ctx, l.Store, err)
	}
	made, how, err := training.Load(ctx, l.Store, m)
	if err != nil {
		return err
	}
	step.made(m)
	step.Weights, step.Location = made.Weights, how.Location
	l.Say("  %d rows, %d steps%s", made.Rows, made.Steps, said(how.Metrics))
	return l.publish(ctx, m)
}

// said are a training's last figures in words.
func said(metrics []schemas.Metric) string {
	var b strings.Builder
	for _, m := range metrics {
		fmt.Fprintf(&b, ", %s %.3g", m.Name, m.Value)
	}
	return b.String()
}

// sink is where a run's rows go.
func (l *Loop) sink(h snapshot.Header) parquetio.WriteConfig {
	return parquetio.WriteConfig{
		Store: l.Store.URL(), Dir: snapshot.RunDir(h.Set, h.RunID), Seed: l.Recipe.Seed, RowGroup: l.Recipe.Parquet.RowGroup,
	}
}

// pairs makes the pairs of iteration t: rounds of more and more prompts by rank until enough pairs survive,
// of which the first are kept. What a round answers the next one finds in the response log.
func (l *Loop) pairs(ctx context.Context, step *Step, t int) error {
	set, err := l.manifest(ctx, "prompts")
	if err != nil {
		return err
	}
	it := l.Recipe.SelfReward.Iterations[t-1]
	available := set.Rows[prompts.Rows]
	if it.Prompts > 0 {
		available = min(available, it.Prompts)
	}
	take := available
	if it.Pairs > 0 {
		take = min(available, int64(math.Ceil(float64(it.Pairs)*l.Recipe.SelfReward.Oversample)))
	}
	for {
		m, err := l.round(ctx, t, set, take)
		if err != nil {
			return err
		}
		if err := l.parses(ctx, m); err != nil {
			return err
		}
		survived := m.Rows[preference.Pairs]
		if it.Pairs == 0 || survived >= it.Pairs || take == available {
			return l.first(ctx, step, it.Pairs, m)
		}
		// As many more as it takes at the present rate, and a tenth of them to spare.
		more := float64(it.Pairs-survived) * float64(take) / float64(max(survived, 1)) * 1.1
		take = min(available, take+int64(math.Ceil(more)))
		l.Say("iteration %d: %d pairs of %d wanted; %d prompts in the next round", t, survived, it.Pairs, take)
	}
}

// round builds the preference data of the first take prompts in the words of policy t-1.
func (l *Loop) round(ctx context.Context, t int, set snapshot.Manifest, take int64) (snapshot.Manifest, error) {
	p, err := l.policy(ctx, t-1)
	if err != nil {
		return snapshot.Manifest{}, err
	}
	spec, err := l.judge(ctx, t)
	if err != nil {
		return snapshot.Manifest{}, err
	}
	judge, err := model.OpenChat(ctx, spec)
	if err != nil {
		return snapshot.Manifest{}, fmt.Errorf("judge of iteration %d: %w", t, err)
	}
	pictures, err := model.OpenImages(ctx, l.Recipe.Models.Images)
	if err != nil {
		return snapshot.Manifest{}, fmt.Errorf("models.images: %w", err)
	}
	r, err := l.at(p, spec)
	if err != nil {
		return snapshot.Manifest{}, err
	}
	models := map[string]string{"policy": p.weights, "judge": judge.Info().Weights, "images": pictures.Info().Weights}
	ask, why := l.judged(t)
	if ask {
		// Of a constant number, so that the size of a round does not change what is asked.
		wanted := l.Recipe.SelfReward.Iterations[t-1].Pairs
		if wanted == 0 {
			wanted = take
		}
		r.JudgmentPairs.Of = wanted * int64(r.Rewrite.Candidates*len(r.JudgmentPairs.Aspects))
	} else {
		r.JudgmentPairs.Asked = 0 // none is asked for in vain
	}
	h := l.common("iteration", r.Decides(), set.Digest, take, models)
	h.Metadata["judgment_pairs"] = why
	cfg := preference.New(r)
	h.Parents, h.Models, h.Templates = []snapshot.Parent{set.Parent()}, models, cfg.Templates()
	cfg.Prompts = parquetio.ReadConfig{Store: l.Store.URL(), Shards: schemas.ShardsOf(set.Shards, prompts.Rows), Limit: take}
	cfg.Sink, cfg.ShardRows = l.sink(h), r.Parquet.ShardRows
	cfg.Snapshot = snapshot.Config{Store: l.Store.URL(), Header: h, Gates: snapshot.Gates{MaxDeadFraction: r.Gates.MaxDeadFraction}}
	return l.Ensure(ctx, h, "prefer", take, func(s beam.Scope) { preference.Build(s, cfg) })
}

// first keeps the first wanted pairs of m by rank, all if wanted is 0.
func (l *Loop) first(ctx context.Context, step *Step, wanted int64, m snapshot.Manifest) error {
	n := m.Rows[preference.Pairs]
	if wanted > 0 {
		n = min(n, wanted)
	}
	h := l.header("pairs", step.Name, m.Digests[preference.Pairs], wanted)
	h.Parents, h.Models, h.Templates = []snapshot.Parent{m.Parent()}, m.Models, m.Templates
	h.Metadata = maps.Clone(h.Metadata)
	h.Metadata["judgment_pairs"] = m.Metadata["judgment_pairs"]
	cfg := firstConfig{
		Pairs: parquetio.ReadConfig{Store: l.Store.URL(), Shards: schemas.ShardsOf(m.Shards, preference.Pairs), Limit: n},
		Sink:  l.sink(h), ShardRows: l.Recipe.Parquet.ShardRows,
		Snapshot: snapshot.Config{
			Store: l.Store.URL(), Header: h, Gates: snapshot.Gates{MinRows: map[string]int64{preference.Pairs: max(wanted, 1)}},
		},
	}
	pairs, err := l.Ensure(ctx, h, "write_"+preference.Pairs, n, func(s beam.Scope) { buildFirst(s, cfg) })
	if err != nil {
		return err
	}
	step.made(pairs)
	return l.publish(ctx, pairs)
}

// system is policy t's name in tables.
func system(t int) string {
	if t == 0 {
		return "sft"
	}
	return fmt.Sprintf("dpo%d", t)
}
