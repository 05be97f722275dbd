package selfreward

import (
	"fmt"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/promptmill/promptmill/pipelines/preference"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/parquetio"
	"github.com/promptmill/promptmill/transforms/snapshot"
)

// A firstConfig says which pairs to keep.
type firstConfig struct {
	// Pairs are the shards of a round's pairs, by rank, limited to those to keep.
	Pairs     parquetio.ReadConfig
	Sink      parquetio.WriteConfig
	ShardRows int64
	Snapshot  snapshot.Config
}

// buildFirst adds the pipeline that makes the first rows a data set of their own, which is what a trainer
// takes: a set of so many survivors by rank is the same however large the rounds were.
func buildFirst(s beam.Scope, c firstConfig) beam.PCollection {
	s = s.Scope("selfreward.First")
	sink, rows := c.Sink, c.Pairs.Rows()
	sink.Config, sink.Stage, sink.Buckets = preference.Pairs, "write_"+preference.Pairs, parquetio.Buckets(rows, c.ShardRows)
	shards, counts := parquetio.Write[schemas.PreferencePair](s, sink, parquetio.Read[schemas.PreferencePair](s, c.Pairs))
	c.Snapshot.Equations = []string{
		fmt.Sprintf("%s.in = %d", sink.Stage, rows),
		sink.Stage + ".out = rows." + preference.Pairs,
	}
	return snapshot.Commit(s, c.Snapshot, shards, counts)
}
