package snapshot

import (
	"context"
	"reflect"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
)

func init() {
	register.Function1x2(shardPart)
	register.Function1x2(countPart)
	register.Function1x2(noPart)
	beam.RegisterDoFn(reflect.TypeFor[sealFn]())
	register.Iter1[part]()
	register.Emitter1[Result]()
}

// Commit takes a PCollection<schemas.Shard> and a PCollection<schemas.Count>, waits for all of both and
// seals the run. It returns a PCollection<Result> of one element; a refused run is one too, and does not
// fail the pipeline: the launcher asks Outcome. A store that fails is an error, which the runner retries.
// It panics if cfg is not valid.
func Commit(s beam.Scope, cfg Config, shards, counts beam.PCollection) beam.PCollection {
	s = s.Scope("snapshot.Commit")
	if err := cfg.Validate(); err != nil {
		panic(err)
	}
	// The part from the impulse keeps the group there when there is no data.
	parts := beam.Flatten(s,
		beam.ParDo(s, shardPart, shards),
		beam.ParDo(s, countPart, counts),
		beam.ParDo(s, noPart, beam.Impulse(s)))
	return beam.ParDo(s, &sealFn{Config: cfg}, beam.GroupByKey(s, parts))
}

// A part is a shard or a count or, with neither, the sign that there is a group.
type part struct {
	Shard schemas.Shard
	Count schemas.Count
}

func shardPart(s schemas.Shard) (int64, part) { return 0, part{Shard: s} }

func countPart(c schemas.Count) (int64, part) { return 0, part{Count: c} }

func noPart([]byte) (int64, part) { return 0, part{} }

type sealFn struct {
	Config Config `json:"config"`
}

func (fn *sealFn) ProcessElement(ctx context.Context, _ int64, parts func(*part) bool, emit func(Result)) error {
	st, err := store.Open(ctx, fn.Config.Store)
	if err != nil {
		return err
	}
	var shards []schemas.Shard
	var counts []schemas.Count
	for {
		var p part
		if !parts(&p) {
			break
		}
		if p.Shard != (schemas.Shard{}) {
			shards = append(shards, p.Shard)
		}
		if p.Count != (schemas.Count{}) {
			counts = append(counts, p.Count)
		}
	}
	r, err := Seal(ctx, st, fn.Config, shards, counts)
	if err != nil {
		return err
	}
	emit(r)
	return nil
}
