package judgment

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"slices"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/transforms/ledger"
	"github.com/promptmill/promptmill/transforms/parquetio"
	"github.com/promptmill/promptmill/transforms/settings"
	"github.com/promptmill/promptmill/transforms/teacher"
)

func init() {
	beam.RegisterType(reflect.TypeFor[Pair]())
	beam.RegisterDoFn(reflect.TypeFor[shardsFn]())
	beam.RegisterDoFn(reflect.TypeFor[pairFn]())
	register.Emitter1[schemas.Shard]()
	register.Emitter1[Pair]()
}

// StagePairs counts evaluations that are to get a partner.
const StagePairs = "judgment_pairs"

// Reasons of evaluations without a pair.
const (
	// NoPartner: every other evaluation of its aspect in its shard is about one of its pictures or its prompt.
	NoPartner = "no_partner"
	// OtherAspect: its aspect is not wanted.
	OtherAspect = "other_aspect"
)

// A Pair is an evaluation and another one, of the same aspect and about other pictures, whose answer is
// irrelevant to the first one's pictures.
type Pair struct {
	Standard, Irrelevant teacher.Item
}

// PairConfig says which evaluations to pair.
type PairConfig struct {
	// Store is the URL of the store, Shards have the rows (teacher.Item).
	Store  string          `json:"store" yaml:"-"`
	Shards []schemas.Shard `json:"shards" yaml:"-"`
	// Aspects are those whose evaluations are used.
	Aspects []string `json:"aspects" yaml:"-"`
	// Seed is the run's.
	Seed int64 `json:"seed" yaml:"-"`
}

// Validate joins all faults.
func (c PairConfig) Validate() error {
	faults := settings.Of("judgment")
	faults.Check(c.Store != "", "store: empty; give the URL or the folder of a store")
	faults.Check(len(c.Aspects) > 0, "aspects: none; name those to judge")
	return faults.Err()
}

// Pairs gives every evaluation in the shards a partner: see the package's Design. It returns a
// PCollection<Pair>, in no order, and the PCollection<schemas.Count> of StagePairs. It panics if cfg is not
// valid.
func Pairs(s beam.Scope, cfg PairConfig) (pairs, counts beam.PCollection) {
	s = s.Scope("judgment.Pairs")
	if err := cfg.Validate(); err != nil {
		panic(err)
	}
	shards := beam.ParDo(s, &shardsFn{Shards: cfg.Shards}, beam.Impulse(s))
	cfg.Shards = nil
	return beam.ParDo2(s, &pairFn{Config: cfg}, beam.Reshuffle(s, shards))
}

type shardsFn struct{ Shards []schemas.Shard }

func (fn *shardsFn) ProcessElement(_ []byte, emit func(schemas.Shard)) {
	for _, s := range fn.Shards {
		emit(s)
	}
}

type pairFn struct {
	Config PairConfig

	store store.Store
	tally ledger.Tally
}

func (fn *pairFn) Setup(ctx context.Context) (err error) {
	fn.store, err = store.Open(ctx, fn.Config.Store)
	return err
}

func (fn *pairFn) StartBundle(context.Context, func(Pair), func(schemas.Count)) { fn.tally.Reset() }

func (fn *pairFn) FinishBundle(_ context.Context, _ func(Pair), counts func(schemas.Count)) {
	fn.tally.Flush(counts)
}

func (fn *pairFn) ProcessElement(ctx context.Context, shard schemas.Shard, emit func(Pair), _ func(schemas.Count)) error {
	byAspect := map[string][]teacher.Item{}
	err := parquetio.Rows(ctx, fn.store, []schemas.Shard{shard}, func(it teacher.Item) error {
		byAspect[it.Aspect] = append(byAspect[it.Aspect], it)
		return nil
	})
	if err != nil {
		return fmt.Errorf("judgment: %w", err)
	}
	for aspect, items := range byAspect {
		if !slices.Contains(fn.Config.Aspects, aspect) {
			fn.tally.In(StagePairs, len(items))
			fn.tally.Filtered(StagePairs, OtherAspect, len(items))
			continue
		}
		emitPairs(&fn.tally, fn.Config.Seed, items, emit)
	}
	return nil
}

// emitPairs emits the pairs of items of one aspect, and counts them and what has no partner.
func emitPairs(tally *ledger.Tally, seed int64, items []teacher.Item, emit func(Pair)) {
	pairs := Partners(seed, items)
	tally.In(StagePairs, len(items))
	tally.Out(StagePairs, len(pairs))
	tally.Filtered(StagePairs, NoPartner, len(items)-len(pairs))
	for _, p := range pairs {
		emit(p)
	}
}

// Partners pairs each of the items, which are of one aspect, with the next in the order of schemas.Rank of
// their IDs, round the end, that has no picture and no group in common with it. Items that have no such
// partner have no pair. It sorts items.
func Partners(seed int64, items []teacher.Item) []Pair {
	slices.SortFunc(items, func(a, b teacher.Item) int {
		return cmp.Or(cmp.Compare(schemas.Rank(seed, a.ID), schemas.Rank(seed, b.ID)), cmp.Compare(a.ID, b.ID))
	})
	var out []Pair
	for i, it := range items {
		for step := 1; step < len(items); step++ {
			if other := items[(i+step)%len(items)]; strangers(it, other) {
				out = append(out, Pair{Standard: it, Irrelevant: other})
				break
			}
		}
	}
	return out
}

func strangers(a, b teacher.Item) bool {
	theirs := []string{b.Image1.SHA256, b.Image2.SHA256}
	return a.Group != b.Group && !slices.Contains(theirs, a.Image1.SHA256) && !slices.Contains(theirs, a.Image2.SHA256)
}
