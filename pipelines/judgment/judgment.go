// Package judgment builds the judgment set (paper 3.1): for each evaluation kept, its answer beside an
// irrelevant one, and the teacher's scores of both.
//
//	round k:   shards k*n .. (k+1)*n of the evaluations --> partners --> teacher --> items --> commit
//	                                 ... until the pool is full ...
//
//	the set:   items of all rounds --> pool, levelled to N --> embed pictures --> judgment --> commit
//	                                                  `--> items
//
// The pool is the first survivors by rank, somewhat more than the set is to have, and the set what is left of
// it when the histogram of the scores is made as even as it can be (judgment.Level), for each aspect. Both
// histograms are in the manifest.
package judgment

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/promptmill/promptmill/pipelines/rounds"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/transforms/embed"
	"github.com/promptmill/promptmill/transforms/judgment"
	"github.com/promptmill/promptmill/transforms/ledger"
	"github.com/promptmill/promptmill/transforms/parquetio"
	"github.com/promptmill/promptmill/transforms/settings"
	"github.com/promptmill/promptmill/transforms/snapshot"
)

func init() {
	beam.RegisterDoFn(reflect.TypeFor[levelFn]())
	register.Emitter1[judgment.Item]()
	register.Emitter1[schemas.Count]()
}

// The configurations of the set. Rows is what a trainer reads; Items are the same rows with references to their
// pictures; they are no part of the digest.
const (
	Rows  = "judgment"
	Items = "items"
)

// itemRows is how many rows a shard of Items has.
const itemRows = 4096

// StageLevel counts the items of all rounds: out are those of the set.
const StageLevel = "level"

// Levelled is why an item is filtered there: its cell of the histogram has enough, or it is beyond the pool.
const Levelled = "levelled"

// Config says how many judgments are wanted.
type Config struct {
	// Rows is the number of rows by aspect; judgment.Config.Aspects follows from it.
	Rows map[string]int64 `json:"rows" yaml:"rows"`
	// Pool is how many survivors, as a multiple of the rows, the levelling chooses from, at least 1.
	Pool float64 `json:"pool" yaml:"pool"`
	// Round is how many shards of evaluations (512 each) a round takes. It never changes the rows.
	Round int `json:"round" yaml:"round"`
	// AllowShort takes what there is where an aspect does not reach its rows.
	AllowShort bool `json:"allow_short" yaml:"allow_short"`
	// ShardRows is how many rows with their pictures make a file.
	ShardRows int64           `json:"shard_rows" yaml:"shard_rows"`
	Judgment  judgment.Config `json:"judgment" yaml:"-"`
	// Evaluations are the shards of evaluation.Items.
	Evaluations []schemas.Shard `json:"evaluations" yaml:"-"`
	// Cache is the URL of the store that keeps answers and pictures, Seed the run's: the evaluations' as well.
	Cache string `json:"cache" yaml:"-"`
	Seed  int64  `json:"seed" yaml:"-"`
	// Sink says where shards go; what is the run's in it is filled in.
	Sink  parquetio.WriteConfig `json:"sink" yaml:"-"`
	Gates snapshot.Gates        `json:"gates" yaml:"-"`
}

// DefaultConfig has the paper's 20k, half for each of its aspects (Table 4).
func DefaultConfig() Config {
	return Config{
		Rows: map[string]int64{schemas.Aesthetic: 10_000, schemas.Pick: 10_000}, Pool: 1.4, Round: 16, ShardRows: 500,
		Judgment: judgment.DefaultConfig(),
	}
}

func (c Config) bound() Config {
	c.Judgment.Cache, c.Judgment.Seed, c.Sink.Seed = c.Cache, c.Seed, c.Seed
	c.Judgment.Aspects = slices.Sorted(maps.Keys(c.Rows))
	return c
}

// Validate joins all faults, each beginning with its place in a recipe.
func (c Config) Validate() error {
	c = c.bound()
	faults := settings.Of("judgment")
	faults.Check(len(c.Rows) > 0, "rows: none; say how many of each aspect, as {pick: 10000}")
	for _, a := range c.Judgment.Aspects {
		faults.Check(c.Rows[a] >= 1, "rows.%s: %d is not positive", a, c.Rows[a])
	}
	faults.Check(c.Pool >= 1, "pool: %v is not at least 1: the set is chosen from so many times its rows", c.Pool)
	faults.Check(c.Round >= 1, "round: %d is not positive", c.Round)
	faults.Check(c.ShardRows >= 1, "shard_rows: %d is not positive; 500 makes files of some hundred megabytes", c.ShardRows)
	faults.Join(c.Judgment.Validate(), c.Gates.Validate())
	return faults.Err()
}

// BuildRound adds the pipeline of one round, of the shards given, to s and returns its
// PCollection<snapshot.Result> of one element.
func (c Config) BuildRound(s beam.Scope, shards []schemas.Shard, header snapshot.Header) beam.PCollection {
	c = c.bound()
	s = s.Scope("judgment.Round")
	pairs, n1 := judgment.Pairs(s, judgment.PairConfig{Store: c.Sink.Store, Shards: shards, Aspects: c.Judgment.Aspects, Seed: c.Seed})
	judged, dead, n2 := judgment.Score(s, c.Judgment, pairs)
	kept, n3 := parquetio.Write[judgment.Item](s, c.sink(header, Items, 1), judged)
	rejected, n4 := parquetio.Write[schemas.Rejected](s, c.sink(header, snapshot.Rejected, 1), dead)
	return snapshot.Commit(s, snapshot.Config{
		Store: c.Sink.Store, Header: header, Gates: snapshot.Gates{MaxDeadFraction: c.Gates.MaxDeadFraction},
		Equations: []string{"judgment.in = judgment_pairs.out", "judgment.out = rows." + Items, "*.dead = rows." + snapshot.Rejected},
	}, beam.Flatten(s, kept, rejected), beam.Flatten(s, n1, n2, n3, n4))
}

// Build adds the pipeline that makes the set of the items of all rounds, those up to the last place of each
// cell, to s and returns its PCollection<snapshot.Result> of one element.
func (c Config) Build(s beam.Scope, runs []snapshot.Manifest, last map[string]rounds.Place, header snapshot.Header, rows int64) beam.PCollection {
	c = c.bound()
	s = s.Scope("judgment.Build")
	all := parquetio.Read[judgment.Item](s, parquetio.ReadConfig{Store: c.Sink.Store, Shards: rounds.Shards(runs, Items)})
	chosen, counts := beam.ParDo2(s, &levelFn{Seed: c.Seed, Last: last}, all)
	examples, n1 := parquetio.Write[schemas.JudgmentExample](s, c.sink(header, Rows, parquetio.Buckets(rows, c.ShardRows)), embed.Rows[judgment.Item, schemas.JudgmentExample](s, c.Cache, chosen))
	light, n2 := parquetio.Write[judgment.Item](s, c.sink(header, Items, parquetio.Buckets(rows, itemRows)), chosen)
	rejected, n3, dead := rounds.Letters(s, c.sink(header, snapshot.Rejected, 1), runs)
	return snapshot.Commit(s, snapshot.Config{
		Store: c.Sink.Store, Header: header, Gates: c.Gates, Undigested: []string{Items},
		Equations: []string{
			fmt.Sprintf("level.out = %d", rows), "level.out = rows." + Rows, "level.out = rows." + Items, fmt.Sprintf("rows.%s = %d", snapshot.Rejected, dead),
		},
	}, beam.Flatten(s, examples, light, rejected), beam.Flatten(s, counts, n1, n2, n3))
}

func (c Config) sink(header snapshot.Header, config string, buckets int) parquetio.WriteConfig {
	return rounds.Sink(c.Sink, header, config, buckets, config == Rows)
}

// A Bar is one cell of an aspect's histogram.
type Bar struct {
	Aspect string  `json:"aspect"`
	Score1 float64 `json:"score1"`
	Score2 float64 `json:"score2"`
	// Pool is how many judgments there were to choose from, Kept how many the set has.
	Pool int64 `json:"pool"`
	Kept int64 `json:"kept"`
}

// Run builds the set that header names, round by round, and returns its manifest. Its metadata have, as JSON,
// the Bars under "histogram", sorted. An aspect that stays short is a *rounds.ShortError, unless AllowShort is
// set.
func Run(ctx context.Context, st store.Store, c Config, header snapshot.Header, ensure rounds.Ensure) (snapshot.Manifest, error) {
	var none snapshot.Manifest
	if err := c.Validate(); err != nil {
		return none, err
	}
	pools, runs, err := c.gather(ctx, st, header, ensure)
	if err != nil {
		return none, err
	}
	last := map[string]rounds.Place{}
	bars := []Bar{}
	var rows int64
	for _, aspect := range slices.Sorted(maps.Keys(c.Rows)) {
		pool, want := pools[aspect], c.Rows[aspect]
		if got := int64(len(pool)); got < want && !c.AllowShort {
			return none, &rounds.ShortError{Set: header.Set, Part: aspect, Want: want, Got: got, Counts: rounds.Counts(runs)}
		}
		rows += min(want, int64(len(pool)))
		cells := judgment.Level(pool, int(want))
		bars = append(bars, histogram(aspect, pool, cells)...)
		for cell, p := range cells {
			last[cellName(aspect, cell)] = rounds.Place{Rank: p.Rank, ID: p.ID}
		}
	}
	header.Parents = append(header.Parents, rounds.Parents(runs)...)
	if header, err = rounds.Annotate(header, "histogram", bars); err != nil {
		return none, err
	}
	return ensure(ctx, header, StageLevel, rows, func(s beam.Scope) { c.Build(s, runs, last, header, rows) })
}

// gather runs rounds until every aspect has its pool or no evaluations are left, and returns the pools.
func (c Config) gather(ctx context.Context, st store.Store, header snapshot.Header, ensure rounds.Ensure) (map[string][]judgment.Place, []snapshot.Manifest, error) {
	shards := slices.Clone(c.Evaluations)
	slices.SortFunc(shards, func(a, b schemas.Shard) int { return cmp.Compare(a.Index, b.Index) })
	pools := map[string][]judgment.Place{}
	full := func() bool {
		for a := range c.Rows {
			if int64(len(pools[a])) < c.pool(a) {
				return false
			}
		}
		return true
	}
	var runs []snapshot.Manifest
	for from := 0; from < len(shards) && !full(); from += c.Round {
		some := shards[from:min(from+c.Round, len(shards))]
		h := rounds.Header(header, "shards", int64(from), int64(from+len(some)))
		var total int64
		for _, s := range some {
			total += s.Rows
		}
		m, err := ensure(ctx, h, judgment.Stage, total, func(s beam.Scope) { c.BuildRound(s, some, h) })
		if err != nil {
			return nil, runs, err
		}
		runs = append(runs, m)
		err = parquetio.Rows(ctx, st, schemas.ShardsOf(m.Shards, Items), func(it judgment.Item) error {
			pools[it.Aspect] = append(pools[it.Aspect], placeOf(c.Seed, it))
			return nil
		})
		if err != nil {
			return nil, runs, err
		}
	}
	for a, pool := range pools {
		slices.SortFunc(pool, judgment.Place.Compare)
		pools[a] = pool[:min(int64(len(pool)), c.pool(a))]
	}
	return pools, runs, nil
}

func (c Config) pool(aspect string) int64 {
	return int64(math.Ceil(c.Pool * float64(c.Rows[aspect])))
}

// histogram counts a pool by cell, and what is kept of it.
func histogram(aspect string, pool []judgment.Place, last map[judgment.Cell]judgment.Place) []Bar {
	bars := map[judgment.Cell]Bar{}
	for _, p := range pool {
		b := bars[p.Cell]
		b.Aspect, b.Score1, b.Score2 = aspect, p.Cell.Score1, p.Cell.Score2
		b.Pool++
		if l, ok := last[p.Cell]; ok && p.Compare(l) <= 0 {
			b.Kept++
		}
		bars[p.Cell] = b
	}
	return slices.SortedFunc(maps.Values(bars), func(a, b Bar) int {
		return cmp.Or(cmp.Compare(a.Score1, b.Score1), cmp.Compare(a.Score2, b.Score2))
	})
}

func placeOf(seed int64, it judgment.Item) judgment.Place {
	return judgment.Place{Rank: schemas.Rank(seed, it.FactID), ID: it.ID, Cell: judgment.Cell{Score1: it.Score1, Score2: it.Score2}}
}

func cellName(aspect string, c judgment.Cell) string {
	return fmt.Sprintf("%s/%v/%v", aspect, c.Score1, c.Score2)
}

// levelFn lets the items pass up to the last place of their cell.
type levelFn struct {
	Seed int64
	Last map[string]rounds.Place

	tally ledger.Tally
}

func (fn *levelFn) StartBundle(context.Context, func(judgment.Item), func(schemas.Count)) {
	fn.tally.Reset()
}

func (fn *levelFn) ProcessElement(_ context.Context, it judgment.Item, emit func(judgment.Item), _ func(schemas.Count)) {
	fn.tally.In(StageLevel, 1)
	p := placeOf(fn.Seed, it)
	last, ok := fn.Last[cellName(it.Aspect, p.Cell)]
	if !ok || (rounds.Place{Rank: p.Rank, ID: p.ID}).Compare(last) > 0 {
		fn.tally.Filtered(StageLevel, Levelled, 1)
		return
	}
	fn.tally.Out(StageLevel, 1)
	emit(it)
}

func (fn *levelFn) FinishBundle(_ context.Context, _ func(judgment.Item), counts func(schemas.Count)) {
	fn.tally.Flush(counts)
}
