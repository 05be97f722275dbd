// Package evaluation builds the evaluation set (paper 3.1): what a teacher explains of what people said about
// pairs of pictures.
//
//	round k of a part:   facts k*n .. (k+1)*n by rank --> heldout --> teacher --> items --> commit
//	                          `-- dead letters ---------------------------^
//	                                  ... until the part has its rows ...
//
//	the set:             items of all rounds --> first N of each part --> embed pictures --> evaluation --> commit
//	                                                             `--> items
//
// A part is a source of facts for one aspect. Rounds are runs of a set of their own, so an interrupted build
// goes on with the round in which it was; the set names them as its parents.
package evaluation

import (
	"context"
	"fmt"
	"reflect"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/promptmill/promptmill/pipelines/rounds"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/embed"
	"github.com/promptmill/promptmill/transforms/heldout"
	"github.com/promptmill/promptmill/transforms/ledger"
	"github.com/promptmill/promptmill/transforms/parquetio"
	"github.com/promptmill/promptmill/transforms/settings"
	"github.com/promptmill/promptmill/transforms/snapshot"
	"github.com/promptmill/promptmill/transforms/teacher"
)

func init() {
	beam.RegisterDoFn(reflect.TypeFor[firstFn]())
	register.Emitter1[teacher.Item]()
}

// The configurations of the set. Rows is what a trainer reads; Items are the same rows with references to
// their pictures, from which judgments are made; they are no part of the digest.
const (
	Rows  = "evaluation"
	Items = "items"
)

// itemRows is how many rows a shard of Items has. It decides which answers meet as irrelevant ones (package
// judgment), so it is no setting.
const itemRows = 512

// StageFirst counts the items of all rounds: out are those of the set.
const StageFirst = "first"

// BeyondTarget is why an item is filtered there.
const BeyondTarget = "beyond_target"

// Config says where facts come from and how many rows are wanted.
type Config struct {
	Parts []Part `json:"parts" yaml:"parts"`
	// Round is how many facts, prompts or pairs a round takes at most. It never changes the rows.
	Round int64 `json:"round" yaml:"round"`
	// MaxGenerated is the largest part of the set that may be about generated pictures.
	MaxGenerated float64 `json:"max_generated" yaml:"max_generated"`
	// AllowShort takes what there is where a part does not reach its rows.
	AllowShort bool `json:"allow_short" yaml:"allow_short"`
	// ShardRows is how many rows with their pictures make a file.
	ShardRows int64          `json:"shard_rows" yaml:"shard_rows"`
	Teacher   teacher.Config `json:"teacher" yaml:"-"`
	// Heldout names the benchmarks whose prompts the set is not to have.
	Heldout heldout.Config `json:"heldout" yaml:"-"`
	// Cache is the URL of the store that keeps answers and pictures, Seed the run's.
	Cache string `json:"cache" yaml:"-"`
	Seed  int64  `json:"seed" yaml:"-"`
	// Sink says where shards go; what is the run's in it is filled in.
	Sink  parquetio.WriteConfig `json:"sink" yaml:"-"`
	Gates snapshot.Gates        `json:"gates" yaml:"-"`
}

// DefaultConfig has no parts. A quarter of the set at most is about generated pictures.
func DefaultConfig() Config {
	return Config{Round: 20_000, MaxGenerated: 0.25, ShardRows: 500, Teacher: teacher.DefaultConfig()}
}

// bound is c with what its parts and the teacher take from it.
func (c Config) bound() Config {
	parts := make([]Part, len(c.Parts))
	for i, p := range c.Parts {
		parts[i] = p.Bind(c.Cache, c.Seed)
	}
	c.Parts = parts
	c.Teacher.Cache, c.Teacher.Seed, c.Sink.Seed = c.Cache, c.Seed, c.Seed
	return c
}

// Validate joins all faults, each beginning with its place in a recipe.
func (c Config) Validate() error {
	c = c.bound()
	faults := settings.Of("evaluation")
	faults.Check(len(c.Parts) > 0, "parts: none; name the sources of facts")
	seen := map[string]int{}
	for i, p := range c.Parts {
		faults.Join(p.Validate(fmt.Sprintf("evaluation.parts[%d]", i)))
		class := classOf(p.Name(), p.Aspect)
		j, twice := seen[class]
		faults.Check(!twice, "parts[%d]: its name and aspect are those of parts[%d]; give it another name", i, j)
		seen[class] = i
	}
	faults.Check(c.Round >= 1, "round: %d is not positive", c.Round)
	faults.Check(c.MaxGenerated >= 0 && c.MaxGenerated < 1, "max_generated: %v is not at least 0 and below 1", c.MaxGenerated)
	faults.Check(c.ShardRows >= 1, "shard_rows: %d is not positive; 500 makes files of some hundred megabytes", c.ShardRows)
	faults.Join(c.Teacher.Validate(), c.Heldout.Validate(), c.Gates.Validate())
	return faults.Err()
}

func classOf(source, aspect string) string { return source + "/" + aspect }

// BuildRound adds the pipeline of one round of a part, of the facts from to to by rank, to s and returns its
// PCollection<snapshot.Result> of one element. total is what Run found a hashed part to have.
func (c Config) BuildRound(s beam.Scope, p Part, from, to, total int64, header snapshot.Header) beam.PCollection {
	c = c.bound()
	s = s.Scope("evaluation.Round")
	rows, dead, factCounts := p.Bind(c.Cache, c.Seed).Read(s, from, to, total, c.Seed)
	clean, heldoutCounts := heldout.Facts(s, c.Heldout, rows)
	items, deadAnswers, counts := teacher.Teach(s, c.Teacher, clean)
	distinct := c.sink(header, Items, parquetio.Buckets(to-from, 4096))
	distinct.Unique = true // a prompt that is there twice has the same facts twice
	kept, n1 := parquetio.Write[teacher.Item](s, distinct, items)
	rejected, n2 := parquetio.Write[schemas.Rejected](s, c.sink(header, snapshot.Rejected, 1), beam.Flatten(s, dead, deadAnswers))
	return snapshot.Commit(s, snapshot.Config{
		Store: c.Sink.Store, Header: header, Gates: snapshot.Gates{MaxDeadFraction: c.Gates.MaxDeadFraction},
		Equations: []string{"heldout.in = facts.out", "teacher.in = heldout.out", "teacher.out = write_items.in", "write_items.out = rows." + Items, "*.dead = rows." + snapshot.Rejected},
	}, beam.Flatten(s, kept, rejected), beam.Flatten(s, factCounts, heldoutCounts, counts, n1, n2))
}

// Build adds the pipeline that makes the set of the items of all rounds, those up to the last place of each
// class, to s and returns its PCollection<snapshot.Result> of one element.
func (c Config) Build(s beam.Scope, runs []snapshot.Manifest, last map[string]rounds.Place, header snapshot.Header, rows int64) beam.PCollection {
	c = c.bound()
	s = s.Scope("evaluation.Build")
	items := parquetio.Read[teacher.Item](s, parquetio.ReadConfig{Store: c.Sink.Store, Shards: rounds.Shards(runs, Items)})
	first := &firstFn{Seed: c.Seed, Last: last, Hashed: map[string]bool{}}
	for _, p := range c.Parts {
		first.Hashed[classOf(p.Name(), p.Aspect)] = p.hashed()
	}
	chosen, counts := beam.ParDo2(s, first, items)
	evaluations, n1 := parquetio.Write[schemas.Evaluation](s, c.sink(header, Rows, parquetio.Buckets(rows, c.ShardRows)), embed.Rows[teacher.Item, schemas.Evaluation](s, c.Cache, chosen))
	light, n2 := parquetio.Write[teacher.Item](s, c.sink(header, Items, parquetio.Buckets(rows, itemRows)), chosen)
	rejected, n3, dead := rounds.Letters(s, c.sink(header, snapshot.Rejected, 1), runs)
	return snapshot.Commit(s, snapshot.Config{
		Store: c.Sink.Store, Header: header, Gates: c.Gates, Undigested: []string{Items},
		Equations: []string{
			fmt.Sprintf("first.out = %d", rows), "first.out = rows." + Rows, "first.out = rows." + Items,
			fmt.Sprintf("rows.%s = %d", snapshot.Rejected, dead),
		},
	}, beam.Flatten(s, evaluations, light, rejected), beam.Flatten(s, counts, n1, n2, n3))
}

// sink is where the rows of one configuration of a run go.
func (c Config) sink(header snapshot.Header, config string, buckets int) parquetio.WriteConfig {
	return rounds.Sink(c.Sink, header, config, buckets, config == Rows)
}

// placeOf is an item's place in the order by which its part's rows are taken.
func placeOf(seed int64, hashed bool, it teacher.Item) rounds.Place {
	if hashed {
		return rounds.Place{Rank: schemas.Rank(seed, it.Group), ID: it.FactID}
	}
	return rounds.Place{Rank: schemas.Rank(seed, it.FactID), ID: it.FactID}
}

// firstFn lets the items pass up to the last place of their class.
type firstFn struct {
	Seed   int64
	Last   map[string]rounds.Place
	Hashed map[string]bool

	tally ledger.Tally
}

func (fn *firstFn) StartBundle(context.Context, func(teacher.Item), func(schemas.Count)) {
	fn.tally.Reset()
}

func (fn *firstFn) ProcessElement(_ context.Context, it teacher.Item, emit func(teacher.Item), _ func(schemas.Count)) {
	fn.tally.In(StageFirst, 1)
	class := classOf(it.Source, it.Aspect)
	last, ok := fn.Last[class]
	if !ok || placeOf(fn.Seed, fn.Hashed[class], it).Compare(last) > 0 {
		fn.tally.Filtered(StageFirst, BeyondTarget, 1)
		return
	}
	fn.tally.Out(StageFirst, 1)
	emit(it)
}

func (fn *firstFn) FinishBundle(_ context.Context, _ func(teacher.Item), counts func(schemas.Count)) {
	fn.tally.Flush(counts)
}
