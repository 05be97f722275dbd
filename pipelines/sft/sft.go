// Package sft builds the supervised data set (paper 3.1 and 3.2). Its first part alone, the rewrite pairs as chat
// rows, is one pipeline:
//
//	files -> source -> heldout -> mix -> sorted sink (one row per raw prompt, split) -> commit
//	            `-> dead letters -----------^
//
// The sink orders rows by the hash of their raw prompt: that order is the seeded shuffle, copies of a raw
// prompt stand side by side in it, and the split by hash keeps them on one side.
//
// The paper's mixture has three parts, each a set of its own that is brought to its number of rows first:
//
//	files -> source -> heldout -> one pair per raw prompt -> commit                          (BuildPairs)
//
//	the first N pairs by rank -> side -> mix ------------> rewrite: train, validation -> commit
//	evaluation.Items ----------> side --v                                      ^
//	judgment.Items ------------> side --+--> pictures ---> vision: train, validation
//
// A row's side goes by the hash of its prompt, or of its pictures; prompts that share a picture, byte for byte, go
// together. So no prompt and no picture is on both sides.
package sft

import (
	"errors"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/heldout"
	"github.com/promptmill/promptmill/transforms/mix"
	"github.com/promptmill/promptmill/transforms/parquetio"
	"github.com/promptmill/promptmill/transforms/snapshot"
	"github.com/promptmill/promptmill/transforms/source"
)

// Rows is the configuration that holds the chat rows.
const Rows = "rewrite"

// Config says what to read, in which words to ask, and where to commit.
type Config struct {
	Source   source.Config         `json:"source"`
	Heldout  heldout.Config        `json:"heldout"`
	Mix      mix.Config            `json:"mix"`
	Sink     parquetio.WriteConfig `json:"sink"`
	Snapshot snapshot.Config       `json:"snapshot"`
}

// Validate joins all faults.
func (c Config) Validate() error {
	return errors.Join(c.Source.Validate(), c.Heldout.Validate(), c.Mix.Validate())
}

// Build adds the pipeline to s and returns its PCollection<snapshot.Result> of one element.
func Build(s beam.Scope, c Config) beam.PCollection {
	s = s.Scope("sft.Build")
	pairs, rejected, sourceCounts := source.Pairs(s, c.Source)
	clean, heldoutCounts := heldout.Pairs(s, c.Heldout, pairs)
	examples, mixCounts := mix.Rewrite(s, c.Mix, clean)

	rows := c.Sink
	rows.Config, rows.Stage, rows.Unique = Rows, "write_"+Rows, true
	shards, sinkCounts := parquetio.Write[schemas.ChatExample](s, rows, examples)

	dead := c.Sink
	dead.Config, dead.Stage, dead.Splits, dead.Buckets = snapshot.Rejected, "write_"+snapshot.Rejected, nil, 1
	deadShards, deadCounts := parquetio.Write[schemas.Rejected](s, dead, rejected)

	c.Snapshot.Equations = []string{
		"heldout.in = source.out",
		"mix.in = heldout.out",
		"write_rewrite.in = mix.out",
		"write_rewrite.out = rows.rewrite",
		"source.dead = rows.rejected",
	}
	return snapshot.Commit(s, c.Snapshot,
		beam.Flatten(s, shards, deadShards),
		beam.Flatten(s, sourceCounts, heldoutCounts, mixCounts, sinkCounts, deadCounts))
}
