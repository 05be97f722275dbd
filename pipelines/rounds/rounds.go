// Package rounds has what pipelines share that reach an exact number of rows in rounds: over ranges of ranks, one
// after the other, until there are survivors enough. The set is the first N survivors by rank, so the size
// of a round never changes the rows.
package rounds

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/ledger"
	"github.com/promptmill/promptmill/transforms/parquetio"
	"github.com/promptmill/promptmill/transforms/snapshot"
)

// An Ensure returns the manifest of the run that header names: the committed one, or that of the graph, which
// it builds and runs. The stage of total units is for a display of progress.
type Ensure func(ctx context.Context, header snapshot.Header, stage string, total int64, graph func(beam.Scope)) (snapshot.Manifest, error)

// A Place is one survivor in the order by which rows are taken.
type Place struct {
	Rank uint64
	ID   string
}

// Compare orders by rank, then by ID.
func (p Place) Compare(o Place) int {
	return cmp.Or(cmp.Compare(p.Rank, o.Rank), cmp.Compare(p.ID, o.ID))
}

// Last is the n-th of the places, or the last if there are fewer; ok is false if none is to be taken. It sorts
// places.
func Last(places []Place, n int64) (last Place, ok bool) {
	slices.SortFunc(places, Place.Compare)
	n = min(n, int64(len(places)))
	if n <= 0 {
		return Place{}, false
	}
	return places[n-1], true
}

// A ShortError is a target that was not reached though all there was has been used. It wraps snapshot.ErrGate.
type ShortError struct {
	// Set is the data set, Part what of it is short.
	Set, Part string
	Want, Got int64
	// Counts say what became of the others.
	Counts []schemas.Count
}

func (e *ShortError) Error() string {
	var lost []schemas.Count
	for _, c := range ledger.Sum(e.Counts) {
		if c.Outcome == schemas.Filtered || c.Outcome == schemas.Dead {
			lost = append(lost, c)
		}
	}
	slices.SortStableFunc(lost, func(a, b schemas.Count) int { return cmp.Compare(b.N, a.N) })
	say := []string{}
	for _, c := range lost {
		say = append(say, fmt.Sprintf("%s %s %d", c.Stage, c.Reason, c.N))
	}
	return fmt.Sprintf("%s: %s has %d of %d rows and no input is left (%s); bring more input, lower the target or allow a short set",
		e.Set, e.Part, e.Got, e.Want, strings.Join(say, ", "))
}

// Unwrap is snapshot.ErrGate.
func (e *ShortError) Unwrap() error { return snapshot.ErrGate }

// Annotate returns header with the JSON of value under key in its metadata.
func Annotate(header snapshot.Header, key string, value any) (snapshot.Header, error) {
	b, err := json.Marshal(value)
	if err != nil {
		return header, fmt.Errorf("%s: metadata %s: %w", header.Set, key, err)
	}
	m := map[string]string{key: string(b)}
	for k, v := range header.Metadata {
		if k != key {
			m[k] = v
		}
	}
	header.Metadata = m
	return header, nil
}

// suffix makes of a set's name that of the set of its rounds.
const suffix = "-rounds"

// Header is that of one round of a run. The round has a set of its own beside the run's.
func Header(header snapshot.Header, part string, from, to int64) snapshot.Header {
	header.Set += suffix
	header.RunID = fmt.Sprintf("%s-%s-%d-%d", header.RunID, part, from, to)
	return header
}

// Parents names runs as the parents of another.
func Parents(runs []snapshot.Manifest) []snapshot.Parent {
	out := []snapshot.Parent{}
	for _, m := range runs {
		out = append(out, m.Parent())
	}
	return out
}

// Shards are those of one configuration in the runs, in their order.
func Shards(runs []snapshot.Manifest, config string) []schemas.Shard {
	var out []schemas.Shard
	for _, m := range runs {
		out = append(out, schemas.ShardsOf(m.Shards, config)...)
	}
	return out
}

// Sink is sink for one configuration of a run, in so many buckets. Only what a trainer reads is split.
func Sink(sink parquetio.WriteConfig, header snapshot.Header, config string, buckets int, split bool) parquetio.WriteConfig {
	sink.Dir, sink.Config, sink.Stage, sink.Buckets = snapshot.RunDir(header.Set, header.RunID), config, "write_"+config, buckets
	sink.BufferBytes = 1 << 20
	if !split {
		sink.Splits = nil
	}
	return sink
}

// Letters writes the dead letters of all rounds to sink, and returns what parquetio.Write does and how many there are.
func Letters(s beam.Scope, sink parquetio.WriteConfig, runs []snapshot.Manifest) (written, counts beam.PCollection, dead int64) {
	in := parquetio.ReadConfig{Store: sink.Store, Shards: Shards(runs, snapshot.Rejected)}
	written, counts = parquetio.Write[schemas.Rejected](s, sink, parquetio.Read[schemas.Rejected](s, in))
	return written, counts, in.Rows()
}

// Counts are those of the runs together.
func Counts(runs []snapshot.Manifest) []schemas.Count {
	var out []schemas.Count
	for _, m := range runs {
		out = append(out, m.Counts...)
	}
	return ledger.Sum(out)
}
