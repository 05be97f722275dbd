package sft

import (
	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/heldout"
	"github.com/promptmill/promptmill/transforms/parquetio"
	"github.com/promptmill/promptmill/transforms/snapshot"
	"github.com/promptmill/promptmill/transforms/source"
)

func init() {
	parquetio.Register[Pair]()
	register.Function1x1(pairOf)
}

// Pairs is the configuration of the set that BuildPairs makes.
const Pairs = "pairs"

// A Pair is a schemas.RewritePair that is known by its raw prompt: in a set of them each raw prompt is there once,
// and a prefix by rank is a choice of prompts.
type Pair struct {
	ID        string `json:"id" parquet:"id,optional,zstd"`
	Raw       string `json:"raw" parquet:"raw,optional,zstd"`
	Rewritten string `json:"rewritten" parquet:"rewritten,optional,zstd"`
	Source    string `json:"source" parquet:"source,optional,dict,zstd"`
	SourceID  string `json:"source_id" parquet:"source_id,optional,zstd"`
}

func pairOf(p schemas.RewritePair) Pair { return Pair(p) }

// RowKey is the raw prompt's ID.
func (p Pair) RowKey() string { return schemas.PromptID(p.Raw) }

// RowTie is where the pair came from.
func (p Pair) RowTie() string { return schemas.RewritePair(p).RowTie() + p.ID }

// Validate wants what schemas.RewritePair wants.
func (p Pair) Validate() error { return schemas.RewritePair(p).Validate() }

// BuildPairs adds the pipeline of the first part of a mixture to s and returns its PCollection<snapshot.Result> of
// one element: the pairs of c's source, free of benchmarks, one for each raw prompt. c.Mix is of no use to it, and
// the sink is not to be split.
func BuildPairs(s beam.Scope, c Config) beam.PCollection {
	s = s.Scope("sft.BuildPairs")
	pairs, rejected, sourceCounts := source.Pairs(s, c.Source)
	clean, heldoutCounts := heldout.Pairs(s, c.Heldout, pairs)

	rows := c.Sink
	rows.Config, rows.Stage, rows.Unique = Pairs, "write_"+Pairs, true
	shards, sinkCounts := parquetio.Write[Pair](s, rows, beam.ParDo(s, pairOf, clean))

	dead := c.Sink
	dead.Config, dead.Stage, dead.Buckets = snapshot.Rejected, "write_"+snapshot.Rejected, 1
	deadShards, deadCounts := parquetio.Write[schemas.Rejected](s, dead, rejected)

	c.Snapshot.Equations = []string{
		"heldout.in = source.out", "write_pairs.in = heldout.out", "write_pairs.out = rows.pairs", "source.dead = rows.rejected",
	}
	return snapshot.Commit(s, c.Snapshot,
		beam.Flatten(s, shards, deadShards),
		beam.Flatten(s, sourceCounts, heldoutCounts, sinkCounts, deadCounts))
}
