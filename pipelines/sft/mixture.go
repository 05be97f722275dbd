package sft

import (
	"context"
	"errors"
	"fmt"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/promptmill/promptmill/pipelines/evaluation"
	"github.com/promptmill/promptmill/pipelines/judgment"
	"github.com/promptmill/promptmill/pipelines/rounds"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/transforms/embed"
	judgments "github.com/promptmill/promptmill/transforms/judgment"
	"github.com/promptmill/promptmill/transforms/mix"
	"github.com/promptmill/promptmill/transforms/parquetio"
	"github.com/promptmill/promptmill/transforms/snapshot"
	"github.com/promptmill/promptmill/transforms/teacher"
)

// Vision is the configuration of the rows that have pictures: evaluations and judgments.
const Vision = "vision"

// The splits of a mixture.
var splitNames = [...]string{"train", "validation"}

// A Mixture joins the parts of the paper's supervised set. A part that is nil is left out.
type Mixture struct {
	// Pairs is the set that BuildPairs made, RewriteRows how many of its rows to take, the first by rank; 0 takes
	// all.
	Pairs       *snapshot.Manifest
	RewriteRows int64
	// Evaluation and Judgment are the sets of those pipelines; all of their rows are taken.
	Evaluation, Judgment *snapshot.Manifest
	// AllowShort takes what pairs there are.
	AllowShort bool
	Mix        mix.Config
	// ValidationPermille of the prompts, by hash, are the validation split.
	ValidationPermille int
	// ShardRows and VisionShardRows are how many rows, without and with pictures, make a file.
	ShardRows, VisionShardRows int64
	// Cache is the URL of the store that has the pictures, Seed the run's.
	Cache string
	Seed  int64
	// Sink says where shards go; what is the run's in it is filled in.
	Sink  parquetio.WriteConfig
	Gates snapshot.Gates
}

// A Target is what a part was to give and what it gave.
type Target struct {
	Part string `json:"part"`
	// Want is 0 where all there is was wanted.
	Want int64 `json:"want"`
	Got  int64 `json:"got"`
}

// Run builds the set that header names and returns its manifest. Its metadata have, as JSON, the Targets under
// "parts". Fewer pairs than wanted are a *rounds.ShortError, unless AllowShort is set.
func (m Mixture) Run(ctx context.Context, st store.Store, header snapshot.Header, ensure rounds.Ensure) (snapshot.Manifest, error) {
	var none snapshot.Manifest
	targets, err := m.targets(header.Set)
	if err != nil {
		return none, err
	}
	cut, err := m.cut(ctx, st)
	if err != nil {
		return none, err
	}
	for _, parent := range []*snapshot.Manifest{m.Pairs, m.Evaluation, m.Judgment} {
		if parent != nil {
			header.Parents = append(header.Parents, rounds.Parents([]snapshot.Manifest{*parent})...)
		}
	}
	if header, err = rounds.Annotate(header, "parts", targets); err != nil {
		return none, err
	}
	var total int64
	for _, t := range targets {
		total += t.Got
	}
	return ensure(ctx, header, StageSides, total, func(s beam.Scope) { m.Build(s, cut, targets, header) })
}

// targets are those of the parts that are there.
func (m Mixture) targets(set string) ([]Target, error) {
	var out []Target
	if p := m.Pairs; p != nil {
		t := Target{Part: schemas.TaskRewrite, Want: m.RewriteRows, Got: p.Rows[Pairs]}
		if t.Want > 0 {
			t.Got = min(t.Got, t.Want)
		}
		if t.Got < t.Want && !m.AllowShort {
			return nil, &rounds.ShortError{Set: set, Part: t.Part, Want: t.Want, Got: t.Got, Counts: p.Counts}
		}
		out = append(out, t)
	}
	if e := m.Evaluation; e != nil {
		n := e.Rows[evaluation.Rows]
		out = append(out, Target{Part: schemas.TaskEvaluation, Want: n, Got: n})
	}
	if j := m.Judgment; j != nil {
		n := j.Rows[judgment.Rows]
		out = append(out, Target{Part: schemas.TaskJudgment, Want: n, Got: n})
	}
	if len(out) == 0 {
		return nil, errors.New("sft: no part to mix")
	}
	return out, nil
}

// cut reads which prompts share a picture.
func (m Mixture) cut(ctx context.Context, st store.Store) (Cut, error) {
	l := newLinker()
	if m.Evaluation != nil {
		err := parquetio.Rows(ctx, st, schemas.ShardsOf(m.Evaluation.Shards, evaluation.Items), func(it teacher.Item) error {
			l.add(it.Group, it.Image1.SHA256, it.Image2.SHA256)
			return nil
		})
		if err != nil {
			return Cut{}, err
		}
	}
	if m.Judgment != nil {
		err := parquetio.Rows(ctx, st, schemas.ShardsOf(m.Judgment.Shards, judgment.Items), func(it judgments.Item) error {
			l.add(it.Group, it.Image1.SHA256, it.Image2.SHA256)
			return nil
		})
		if err != nil {
			return Cut{}, err
		}
	}
	return Cut{Seed: m.Seed, ValidationPermille: m.ValidationPermille, Linked: l.linked()}, nil
}

// Build adds the pipeline that mixes the parts, in these numbers, to s and returns its
// PCollection<snapshot.Result> of one element.
func (m Mixture) Build(s beam.Scope, cut Cut, targets []Target, header snapshot.Header) beam.PCollection {
	s = s.Scope("sft.Mixture")
	got := map[string]int64{}
	for _, t := range targets {
		got[t.Part] = t.Got
	}
	read := func(of *snapshot.Manifest, config string, limit int64) parquetio.ReadConfig {
		return parquetio.ReadConfig{Store: m.Sink.Store, Shards: schemas.ShardsOf(of.Shards, config), Limit: limit}
	}
	var shards, counts []beam.PCollection
	texts := got[schemas.TaskRewrite]
	if texts > 0 {
		train, validation, c := beam.ParDo3(s, &pairFn{Cut: cut}, parquetio.Read[Pair](s, read(m.Pairs, Pairs, texts)))
		counts = append(counts, c)
		for i, pairs := range []beam.PCollection{train, validation} {
			examples, c1 := mix.Rewrite(s, m.Mix, pairs)
			written, c2 := parquetio.Write[schemas.ChatExample](s, m.sink(header, Rows, splitNames[i], texts, m.ShardRows), examples)
			shards, counts = append(shards, written), append(counts, c1, c2)
		}
	}
	var sides [2][]beam.PCollection
	vision := got[schemas.TaskEvaluation] + got[schemas.TaskJudgment]
	// Evaluations and judgments meet in the sink and nowhere before: no Flatten holds their texts.
	hand := func(train, validation, c beam.PCollection) {
		for i, items := range []beam.PCollection{train, validation} {
			sides[i] = append(sides[i], embed.Rows[VisionItem, schemas.VisionChatExample](s, m.Cache, items))
		}
		counts = append(counts, c)
	}
	if got[schemas.TaskEvaluation] > 0 {
		items := parquetio.Read[teacher.Item](s, read(m.Evaluation, evaluation.Items, 0))
		hand(beam.ParDo3(s, &evaluationFn{visionFn{Cut: cut}}, items))
	}
	if got[schemas.TaskJudgment] > 0 {
		items := parquetio.Read[judgments.Item](s, read(m.Judgment, judgment.Items, 0))
		hand(beam.ParDo3(s, &judgmentFn{visionFn{Cut: cut}}, items))
	}
	if vision > 0 {
		for i, rows := range sides {
			written, c := parquetio.Write[schemas.VisionChatExample](s, m.sink(header, Vision, splitNames[i], vision, m.VisionShardRows), rows...)
			shards, counts = append(shards, written), append(counts, c)
		}
	}
	return snapshot.Commit(s, snapshot.Config{
		Store: m.Sink.Store, Header: header, Gates: m.Gates,
		Equations: []string{
			fmt.Sprintf("sides.out = %d", texts+vision), fmt.Sprintf("rows.%s = %d", Rows, texts), fmt.Sprintf("rows.%s = %d", Vision, vision),
		},
	}, beam.Flatten(s, shards...), beam.Flatten(s, counts...))
}

// sink is where the rows of one split of a configuration go, of rows in both. Each split is a sink of its own,
// because rows are ordered by themselves and split by their prompts: rows about one prompt are not to stand side
// by side in a trainer's batch.
func (m Mixture) sink(header snapshot.Header, config, split string, rows, shardRows int64) parquetio.WriteConfig {
	if split == splitNames[1] {
		rows = rows * int64(m.ValidationPermille) / 1000
	}
	sink := m.Sink
	sink.Dir, sink.Config, sink.Stage, sink.Seed = snapshot.RunDir(header.Set, header.RunID), config, "write_"+config, m.Seed
	sink.Buckets, sink.Splits, sink.Unique = parquetio.Buckets(rows, shardRows), []parquetio.Split{{Name: split, Permille: 1000}}, false
	if config == Vision {
		sink.BufferBytes = 1 << 20
	}
	return sink
}
