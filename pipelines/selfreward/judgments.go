package selfreward

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/promptmill/promptmill/pipelines/preference"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/parquetio"
	"github.com/promptmill/promptmill/transforms/snapshot"
)

func init() { register.Function1x1(withPictures) }

// The configurations of the set that a judgments step makes: pairs of the judge's own answers, and those together with
// the iteration's pairs of rewritings, in one shape, which is what the policy is trained on.
const (
	Own   = preference.JudgmentPairs
	Mixed = "mixed"
)

// mixedRows is how many rows of one file may have pictures.
const mixedRows = 500

// judged says whether judgment pairs are asked for in iteration t, and why, or why not, for people and manifests. Its
// judge is policy t-1, which was measured before.
func (l *Loop) judged(t int) (ask bool, why string) {
	const out = "judgment pairs are left out: "
	r := l.Recipe
	if r.SelfReward.JudgmentPairs == 0 {
		return false, out + "selfreward.judgment_pairs is 0"
	}
	step := l.step(fmt.Sprintf("measure-%d", t-1))
	if step == nil || step.Trust == nil {
		return false, out + "the judge of judgments is not measured"
	}
	right, least := step.Trust.Judgment, r.Gates.MinJudgmentAccuracy
	found := fmt.Sprintf("the judge of judgments is right about %.3f [%.3f, %.3f] of %d held-out items", right.Value, right.Low, right.High, right.Of)
	if right.Low <= least {
		return false, fmt.Sprintf("%s%s, which is not above gates.min_judgment_accuracy, %v, with 95%% confidence", out, found, least)
	}
	return true, found
}

// judgments makes the judgment pairs of iteration t and puts them beside the pairs of rewritings.
func (l *Loop) judgments(ctx context.Context, step *Step, t int) error {
	pairs, err := l.manifest(ctx, fmt.Sprintf("pairs-%d", t))
	if err != nil {
		return err
	}
	ask, why := l.judged(t)
	step.Note = why
	if !ask {
		step.State = Skipped
		l.Say("iteration %d: %s", t, why)
		return nil
	}
	round, err := snapshot.Load(ctx, l.Store, pairs.Parents[0].Set, pairs.Parents[0].RunID)
	if err != nil {
		return err
	}
	last, err := l.last(ctx, t, pairs)
	if err != nil {
		return err
	}
	n, err := l.upTo(ctx, schemas.ShardsOf(round.Shards, Own), last)
	if err != nil {
		return err
	}
	if n = min(n, l.Recipe.SelfReward.JudgmentPairs); n == 0 {
		step.State, step.Note = Skipped, "judgment pairs are left out: none of the judge's answers was better than another; "+why
		l.Say("iteration %d: %s", t, step.Note)
		return nil
	}
	h := l.header("judgments", step.Name, round.Digests[Own], pairs.Digest, n)
	h.Parents, h.Models, h.Templates = []snapshot.Parent{pairs.Parent(), round.Parent()}, round.Models, round.Templates
	h.Metadata["judgment_pairs"] = why
	cfg := mixConfig{
		Own:   parquetio.ReadConfig{Store: l.Store.URL(), Shards: schemas.ShardsOf(round.Shards, Own), Limit: n},
		Pairs: parquetio.ReadConfig{Store: l.Store.URL(), Shards: schemas.ShardsOf(pairs.Shards, preference.Pairs)},
		Sink:  l.sink(h), Snapshot: snapshot.Config{Store: l.Store.URL(), Header: h},
	}
	m, err := l.Ensure(ctx, h, "write_"+Mixed, n+cfg.Pairs.Rows(), func(s beam.Scope) { buildMixed(s, cfg) })
	if err != nil {
		return err
	}
	step.made(m)
	return l.publish(ctx, m)
}

// last is the rank of the last prompt whose pair is trained on; beyond it the size of a round would decide what there is.
func (l *Loop) last(ctx context.Context, t int, pairs snapshot.Manifest) (uint64, error) {
	if l.Recipe.SelfReward.Iterations[t-1].Pairs == 0 {
		return math.MaxUint64, nil
	}
	var last uint64
	err := parquetio.Rows(ctx, l.Store, schemas.ShardsOf(pairs.Shards, preference.Pairs), func(p place) error {
		last = max(last, schemas.Rank(l.Recipe.Seed, p.PromptID))
		return nil
	})
	return last, err
}

// upTo counts the rows up to a rank.
func (l *Loop) upTo(ctx context.Context, shards []schemas.Shard, last uint64) (n int64, err error) {
	err = parquetio.Rows(ctx, l.Store, shards, func(p place) error {
		if schemas.Rank(l.Recipe.Seed, p.PromptID) <= last {
			n++
		}
		return nil
	})
	return n, err
}

// A place is what of a pair says where it stands, without its pictures.
type place struct {
	ID       string `parquet:"id,optional,zstd"`
	PromptID string `parquet:"prompt_id,optional,zstd"`
}

// RowKey is that of pairs.
func (p place) RowKey() string { return p.PromptID }

// RowTie is the pair's ID.
func (p place) RowTie() string { return p.ID }

// Validate wants nothing: it was a pair when it was written.
func (place) Validate() error { return nil }

// A mixConfig says which pairs to put together.
type mixConfig struct {
	// Own are pairs of the judge's answers, by rank; Pairs are all of the iteration's pairs of rewritings.
	Own, Pairs parquetio.ReadConfig
	Sink       parquetio.WriteConfig
	Snapshot   snapshot.Config
}

// buildMixed adds the pipeline that writes the pairs of both kinds.
func buildMixed(s beam.Scope, c mixConfig) beam.PCollection {
	s = s.Scope("selfreward.Mixed")
	sink := func(config string, rows int64) parquetio.WriteConfig {
		w := c.Sink
		w.Config, w.Stage, w.Buckets, w.RowGroup, w.BufferBytes = config, "write_"+config, parquetio.Buckets(rows, mixedRows), 0, 1<<20
		return w
	}
	rows := c.Own.Rows()
	all := rows + c.Pairs.Rows()
	own := parquetio.Read[schemas.VisionPreferencePair](s, c.Own)
	pairs := beam.ParDo(s, withPictures, parquetio.Read[schemas.PreferencePair](s, c.Pairs))
	kept, n1 := parquetio.Write[schemas.VisionPreferencePair](s, sink(Own, rows), own)
	mixed, n2 := parquetio.Write[schemas.VisionPreferencePair](s, sink(Mixed, all), own, pairs)
	c.Snapshot.Equations = slices.Concat(
		[]string{fmt.Sprintf("write_%s.in = %d", Own, rows), fmt.Sprintf("write_%s.in = %d", Mixed, all)},
		[]string{fmt.Sprintf("write_%s.out = rows.%[1]s", Own), fmt.Sprintf("write_%s.out = rows.%[1]s", Mixed)})
	return snapshot.Commit(s, c.Snapshot, beam.Flatten(s, kept, mixed), beam.Flatten(s, n1, n2))
}

// withPictures is a pair in the shape of one with pictures, of which it has none.
func withPictures(p schemas.PreferencePair) schemas.VisionPreferencePair {
	return schemas.VisionPreferencePair{
		ID: p.ID, Kind: p.Kind, PromptID: p.PromptID, Prompt: p.Prompt, Chosen: p.Chosen, Rejected: p.Rejected, Images: []schemas.Image{},
		ChosenID: p.ChosenID, RejectedID: p.RejectedID, ChosenScore: p.ChosenScore, RejectedScore: p.RejectedScore,
		Margin: p.Margin, Policy: p.Policy, Judge: p.Judge,
	}
}
