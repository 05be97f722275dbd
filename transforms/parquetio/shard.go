package parquetio

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"path"
	"runtime"
	"slices"

	"github.com/google/uuid"
	"github.com/parquet-go/parquet-go"
	"golang.org/x/sync/semaphore"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/transforms/ledger"
)

// spillDir is the folder of the spilled rows below a run's folder.
const spillDir = "spill"

// mergeBytes bounds the spilled bytes, as compressed, of the buckets that the process holds at once:
// text unpacks to about four times that. A bucket that is larger is held alone.
const mergeBytes = 2 << 20

var merging = semaphore.NewWeighted(mergeBytes)

// shardFn reads one bucket, sorts it and writes its shards, one for each split.
type shardFn[T schemas.Row] struct {
	WriteConfig WriteConfig

	store store.Store
}

func (f *shardFn[T]) Setup(ctx context.Context) (err error) {
	f.store, err = store.Open(ctx, f.WriteConfig.Store)
	return err
}

func (f *shardFn[T]) ProcessElement(ctx context.Context, bucket int64, spills func(*spill) bool, emit func(schemas.Shard), count func(schemas.Count)) error {
	var list []spill
	var s spill
	var size int64
	for spills(&s) {
		list = append(list, s)
		size += s.Length
	}
	size = min(size, mergeBytes)
	if err := merging.Acquire(ctx, size); err != nil {
		return err
	}
	defer merging.Release(size)
	if size == mergeBytes {
		// The collector waits until the heap has doubled, so that of several large buckets in a row two
		// would be in memory where one is of use.
		defer runtime.GC()
	}
	records, err := f.load(ctx, list)
	if err != nil {
		return fmt.Errorf("parquetio: configuration %s, bucket %d: %w", f.WriteConfig.Config, bucket, err)
	}
	slices.SortFunc(records, compareRecords)
	all := len(records)
	if f.WriteConfig.Unique {
		records = slices.CompactFunc(records, func(a, b record) bool { return bytes.Equal(a.key, b.key) })
	}
	shards, err := f.write(ctx, bucket, records)
	if err != nil {
		return fmt.Errorf("parquetio: configuration %s, bucket %d: %w", f.WriteConfig.Config, bucket, err)
	}
	for _, s := range shards {
		emit(s)
	}
	var tally ledger.Tally
	tally.Out(f.WriteConfig.Stage, len(records))
	tally.Filtered(f.WriteConfig.Stage, ReasonDuplicate, all-len(records))
	tally.Flush(count)
	return nil
}

// load reads the blocks of a bucket.
func (f *shardFn[T]) load(ctx context.Context, spills []spill) (records []record, err error) {
	var rows int64
	for _, s := range spills {
		rows += s.Rows
	}
	records = make([]record, 0, rows)
	for _, s := range spills {
		before := len(records)
		object := f.WriteConfig.spillObject(s.ID)
		block, err := readBlock(ctx, f.store, object, s)
		if err == nil {
			records, err = appendRecords(records, block)
		}
		if err != nil {
			return nil, fmt.Errorf("spill %s at %d: %w", object, s.Offset, err)
		}
		if n := len(records) - before; int64(n) != s.Rows {
			return nil, fmt.Errorf("spill %s at %d: %d rows, %d were written", object, s.Offset, n, s.Rows)
		}
	}
	return records, nil
}

func readBlock(ctx context.Context, st store.Store, object string, s spill) ([]byte, error) {
	o, err := st.Open(ctx, object)
	if err != nil {
		return nil, err
	}
	defer o.Close()
	block := make([]byte, s.Length)
	if n, err := o.ReadAt(block, s.Offset); n < len(block) {
		return nil, fmt.Errorf("%d of %d bytes: %w", n, len(block), err)
	}
	return decompress(block)
}

// write writes sorted records to a shard for each split that has any.
func (f *shardFn[T]) write(ctx context.Context, bucket int64, records []record) ([]schemas.Shard, error) {
	cfg := f.WriteConfig
	splits := cfg.splits()
	writers := make([]*shardWriter[T], len(splits))
	defer func() {
		for _, w := range writers {
			if w != nil {
				w.abort()
			}
		}
	}()
	for _, r := range records {
		i := cfg.splitOf(string(r.key))
		if writers[i] == nil {
			name := path.Join(cfg.Dir, cfg.Config, fmt.Sprintf("%s-%05d-%s.parquet", splits[i].Name, bucket, uuid.NewString()))
			object, err := f.store.Create(ctx, name)
			if err != nil {
				return nil, err
			}
			writers[i] = newShardWriter[T](object, cfg.RowGroup, schemas.Shard{
				Config: cfg.Config, Split: splits[i].Name, Index: int32(bucket), Object: name,
			})
		}
		if err := writers[i].add(r.row); err != nil {
			return nil, err
		}
	}
	var shards []schemas.Shard
	for _, w := range writers {
		if w == nil {
			continue
		}
		s, err := w.commit()
		if err != nil {
			return nil, err
		}
		shards = append(shards, s)
	}
	return shards, nil
}

// A shardWriter writes one Parquet file and says what is in it.
type shardWriter[T schemas.Row] struct {
	shard   schemas.Shard
	object  store.Writer
	parquet *parquet.GenericWriter[T]
	digest  hash.Hash
	hasher  schemas.Hasher
	sum     schemas.Sum
	row     parquet.Row
}

func newShardWriter[T schemas.Row](object store.Writer, rowGroup int, shard schemas.Shard) *shardWriter[T] {
	w := &shardWriter[T]{shard: shard, object: object, digest: sha256.New()}
	w.shard.Schema = schemas.SchemaDigest(schemas.TableOf[T]().Schema())
	w.parquet = parquet.NewGenericWriter[T](io.MultiWriter(object, w.digest, (*byteCount)(&w.shard.Bytes)), writerOptions[T](rowGroup)...)
	return w
}

// byteCount counts what is written to it.
type byteCount int64

func (n *byteCount) Write(p []byte) (int, error) {
	*n += byteCount(len(p))
	return len(p), nil
}

// add writes an encoded row.
func (w *shardWriter[T]) add(encoded []byte) (err error) {
	if w.row, err = appendRow(w.row[:0], encoded); err != nil {
		return err
	}
	w.sum.Add(w.hasher.Row(w.row))
	w.shard.Rows++
	_, err = w.parquet.WriteRows([]parquet.Row{w.row})
	return err
}

func (w *shardWriter[T]) commit() (schemas.Shard, error) {
	if err := w.parquet.Close(); err != nil {
		return schemas.Shard{}, err
	}
	if err := w.object.Commit(); err != nil {
		return schemas.Shard{}, err
	}
	w.shard.SHA256 = hex.EncodeToString(w.digest.Sum(nil))
	w.shard.RowSum = w.sum.String()
	return w.shard, nil
}

// abort drops the file unless it was committed.
func (w *shardWriter[T]) abort() { w.object.Abort() }
