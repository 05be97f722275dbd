// Package prompts builds the prompt set: the real prompts that a preference run rewrites, cleaned, free
// of benchmarks and duplicates, sorted by hash rank.
//
//	files -> source -> heldout -> dedup (-> part) -> sorted sink -> commit
//	            `-> dead letters ------------^
//
// # Design
//
// It is a set of its own, and not the head of every preference run, because iterations take growing
// prefixes of one order (10k within 20k): a sorted set makes a prefix a range of rows, and dedup, the
// one step in which prompts cross a shuffle, runs once.
package prompts

import (
	"errors"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/dedup"
	"github.com/promptmill/promptmill/transforms/heldout"
	"github.com/promptmill/promptmill/transforms/parquetio"
	"github.com/promptmill/promptmill/transforms/snapshot"
	"github.com/promptmill/promptmill/transforms/source"
)

// Rows is the configuration that holds the prompts.
const Rows = "prompts"

// Config says what to read, what to leave out and where to commit.
type Config struct {
	Source  source.Config  `json:"source"`
	Heldout heldout.Config `json:"heldout"`
	Dedup   dedup.Config   `json:"dedup"`
	// Part keeps a half of the prompts: Validation or Test; "" keeps all.
	Part     string                `json:"part,omitzero"`
	Sink     parquetio.WriteConfig `json:"sink"`
	Snapshot snapshot.Config       `json:"snapshot"`
}

// Validate joins all faults.
func (c Config) Validate() error {
	return errors.Join(c.Source.Validate(), c.Heldout.Validate(), c.Dedup.Validate())
}

// Build adds the pipeline to s and returns its PCollection<snapshot.Result> of one element.
func Build(s beam.Scope, c Config) beam.PCollection {
	s = s.Scope("prompts.Build")
	read, rejected, sourceCounts := source.Prompts(s, c.Source)
	clean, heldoutCounts := heldout.Prompts(s, c.Heldout, read)
	kept, dedupCounts := dedup.Near(s, c.Dedup, clean)

	last := "dedup.out"
	if c.Part != "" {
		kept, dedupCounts = halve(s, c.Part, kept, dedupCounts)
		last = StagePart + ".out"
	}
	shards, sinkCounts := parquetio.Write[schemas.Prompt](s, sink(c.Sink, Rows), kept)
	deadShards, deadCounts := parquetio.Write[schemas.Rejected](s, sink(c.Sink, snapshot.Rejected), rejected)

	c.Snapshot.Equations = []string{
		"heldout.in = source.out",
		"dedup.in = heldout.out",
		"write_prompts.in = " + last,
		"write_prompts.out = rows.prompts",
		"source.dead = rows.rejected",
	}
	return snapshot.Commit(s, c.Snapshot,
		beam.Flatten(s, shards, deadShards),
		beam.Flatten(s, sourceCounts, heldoutCounts, dedupCounts, sinkCounts, deadCounts))
}

func sink(c parquetio.WriteConfig, config string) parquetio.WriteConfig {
	c.Config, c.Stage = config, "write_"+config
	return c
}
