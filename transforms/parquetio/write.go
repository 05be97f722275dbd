// Package parquetio writes a PCollection of rows to sorted Parquet shards in a store and reads such
// shards back.
//
// # Design
//
// Write is a sort that shuffles descriptors only: bytes that cross a GroupByKey cost ten times their
// size in memory. Each bundle spills its rows to the store, cut by bucket; what is grouped by bucket is
// where the pieces lie; then each bucket is read, sorted and written by one worker. A bucket is a
// range of schemas.Rank, so shards in bucket order hold the rows in rank order, and neither rows, order
// nor bytes of a shard depend on the parallelism or the runner. A bundle that runs twice leaves an
// object that nothing names; no object is renamed or written over.
//
// What is in memory goes by BufferBytes for each bundle at work and by the largest bucket. Only descriptors grow with the
// rows: one for each bucket of each spill, so at most one a row.
package parquetio

import (
	"reflect"
	"strings"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/parquet-go/parquet-go"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/settings"
)

func init() {
	beam.RegisterType(reflect.TypeFor[spill]())
	beam.RegisterType(reflect.TypeFor[part]())
	register.Emitter2[int64, spill]()
	register.Emitter1[schemas.Shard]()
	register.Emitter1[schemas.Count]()
	register.Emitter1[part]()
	register.Iter1[spill]()
	beam.RegisterDoFn(reflect.TypeFor[partsFn]())
	Register[schemas.Prompt]()
	Register[schemas.RewritePair]()
	Register[schemas.Candidate]()
	Register[schemas.Judgment]()
	Register[schemas.Reward]()
	Register[schemas.PreferencePair]()
	Register[schemas.VisionPreferencePair]()
	Register[schemas.ChatExample]()
	Register[schemas.VisionChatExample]()
	Register[schemas.Rejected]()
}

// Register makes T known to Beam as a row that Write and Read handle. The row types of schemas are
// registered; call it from an init function for any other.
//
// Like all DoFns here it registers them as types, not by register.DoFn: its wrappers for every order of the
// parameters of a DoFn, for ten row types, cost the compiler 7 GB and minutes. Beam then calls their methods
// by reflection, which is a sixth of what a row costs here, and works in stripped binaries too.
func Register[T schemas.Row]() {
	for _, t := range []reflect.Type{
		reflect.TypeFor[T](), reflect.TypeFor[spillFn[T]](), reflect.TypeFor[shardFn[T]](), reflect.TypeFor[readFn[T]](),
	} {
		beam.RegisterType(t)
	}
	register.Emitter1[T]()
}

// A Split is a named part of a data set.
type Split struct {
	Name string `json:"name" yaml:"name"`
	// Permille of the keys go to this split.
	Permille int `json:"permille" yaml:"permille"`
}

// WriteConfig says where and how Write puts rows.
type WriteConfig struct {
	// Store is the URL of the store, Dir the folder in it that belongs to this run.
	Store string `json:"store" yaml:"store"`
	Dir   string `json:"dir" yaml:"dir"`
	// Config is the name of the configuration (row shape): the folder of its shards below Dir.
	Config string `json:"config" yaml:"config"`
	// Stage is the name under which the ledger counts the rows.
	Stage string `json:"stage" yaml:"stage"`
	// Seed orders the rows (schemas.Rank) and cuts the splits.
	Seed int64 `json:"seed" yaml:"seed"`
	// Buckets is the number of shards of each split, 1 to 4096. One bucket must fit a worker's memory.
	Buckets int `json:"buckets" yaml:"buckets"`
	// Unique keeps, of rows with equal keys, the first by RowTie and filters the others as "duplicate".
	Unique bool `json:"unique" yaml:"unique"`
	// Splits cut the keys by hash. None: all rows are in "train".
	Splits []Split `json:"splits,omitempty" yaml:"splits,omitempty"`
	// RowGroup is the number of rows of a row group: 0 means 10,000, or 1,000 if T embeds pictures (100
	// where they are to be seen in Hugging Face's viewer).
	RowGroup int `json:"row_group" yaml:"row_group"`
	// BufferBytes is how much each bundle gathers before it spills. 0 means 8 MiB.
	BufferBytes int `json:"buffer_bytes" yaml:"buffer_bytes"`
}

// ReasonDuplicate is why a unique set leaves a row out.
const ReasonDuplicate = "duplicate"

// Buckets is the number of buckets that gives shards of about shardRows rows, when rows are expected.
func Buckets(rows, shardRows int64) int {
	return int(min(max((rows+shardRows-1)/max(shardRows, 1), 1), maxBuckets))
}

const maxBuckets = 4096

// Validate joins all faults.
func (c WriteConfig) Validate() error {
	faults := settings.Of("write")
	faults.Check(c.Store != "", "store: empty; give the URL or the folder of a store")
	faults.Check(c.Dir != "", "dir: empty")
	faults.Check(c.Stage != "", "stage: empty")
	faults.Check(c.Config != "", "config: empty")
	faults.Check(!strings.Contains(c.Config, "/"), "config: %q has a slash", c.Config)
	faults.Check(c.Buckets >= 1 && c.Buckets <= maxBuckets, "buckets: %d is not in 1..%d", c.Buckets, maxBuckets)
	faults.Check(c.RowGroup >= 0, "row_group: %d is negative; 0 means the default", c.RowGroup)
	faults.Check(c.BufferBytes >= 0, "buffer_bytes: %d is negative; 0 means 8 MiB", c.BufferBytes)
	sum, names := 0, map[string]bool{}
	for i, s := range c.Splits {
		faults.Check(s.Name != "" && !strings.Contains(s.Name, "/") && !names[s.Name], "splits[%d].name: %q is empty, has a slash or is there twice", i, s.Name)
		faults.Check(s.Permille >= 0, "splits[%d].permille: %d is negative", i, s.Permille)
		names[s.Name] = true
		sum += s.Permille
	}
	faults.Check(len(c.Splits) == 0 || sum == 1000, "splits: the permille add up to %d, not 1000", sum)
	return faults.Err()
}

// splits are the splits with their default.
func (c WriteConfig) splits() []Split {
	if len(c.Splits) == 0 {
		return []Split{{Name: "train", Permille: 1000}}
	}
	return c.Splits
}

// splitOf is the index in splits of a key's split.
func (c WriteConfig) splitOf(key string) int {
	splits := c.splits()
	p := schemas.Permille(c.Seed, key)
	for i, s := range splits {
		if p -= s.Permille; p < 0 {
			return i
		}
	}
	return len(splits) - 1
}

// writerOptions are the options of the Parquet writer for rows of T. Without statistics in the page
// headers of pictures a file is half as large; the writer's name has no version, so that equal rows make
// equal files.
func writerOptions[T schemas.Row](rowGroup int) []parquet.WriterOption {
	table := schemas.TableOf[T]()
	if rowGroup == 0 {
		rowGroup = 10_000
		if len(table.Blobs()) > 0 {
			rowGroup = 1_000
		}
	}
	options := []parquet.WriterOption{
		table.Schema(),
		parquet.MaxRowsPerRowGroup(int64(rowGroup)),
		parquet.PageBufferSize(1 << 20),
		parquet.Compression(&parquet.Zstd),
		parquet.DataPageStatistics(false),
		parquet.KeyValueMetadata(schemas.HuggingFaceKey, table.HuggingFace()),
		parquet.CreatedBy("promptmill", "", ""),
	}
	for _, path := range table.Blobs() {
		options = append(options, parquet.SkipPageBounds(path...), parquet.SkipPageStatistics(path...))
	}
	return options
}

// Write writes the rows of one or more PCollection<T> to Parquet files in the store and returns the files, a
// PCollection<schemas.Shard>, and the rows' fates, a PCollection<schemas.Count>: in and out, and
// filtered as "duplicate" if cfg.Unique. No rows make no shards. A row that does not validate fails the
// bundle: to put it aside is the business of the transform that made it. Give rows that come from several
// places as they are, not flattened: a runner may hold all rows at a Flatten, and then many times their size.
//
// The rows of a shard ascend by (schemas.Rank of the key, key, tie), and so do the shards of a split by
// Index, which is the bucket. A split that has no row of a bucket has no shard of that Index. Objects
// below Dir/spill are of no use once the pipeline has ended: see snapshot.Clean.
//
// It panics if cfg is not valid or there is no collection.
func Write[T schemas.Row](s beam.Scope, cfg WriteConfig, rows ...beam.PCollection) (shards, counts beam.PCollection) {
	s = s.Scope("parquetio.Write")
	if err := cfg.Validate(); err != nil {
		panic(err)
	}
	schemas.TableOf[T]() // panics now if T is no row
	var spills, tallies []beam.PCollection
	for _, some := range rows {
		spilled, in := beam.ParDo2(s, &spillFn[T]{WriteConfig: cfg}, some)
		spills, tallies = append(spills, spilled), append(tallies, in)
	}
	shards, out := beam.ParDo2(s, &shardFn[T]{WriteConfig: cfg}, beam.GroupByKey(s, beam.Flatten(s, spills...)))
	return shards, beam.Flatten(s, append(tallies, out)...)
}
