package parquetio

import (
	"context"
	"fmt"
	"math/bits"
	"path"

	"github.com/google/uuid"
	"github.com/parquet-go/parquet-go"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/transforms/ledger"
)

// A spill says where rows of one bucket lie until it is their turn: it is all that is shuffled.
type spill struct {
	Object         string
	Offset, Length int64
	Rows           int64
}

// spillFn gathers the rows of a bundle by bucket and writes them to spill objects of about BufferBytes.
type spillFn[T schemas.Row] struct {
	WriteConfig WriteConfig

	store    store.Store
	table    *schemas.Table[T]
	row      parquet.Row
	buckets  []blockBuffer
	buffered int
	tally    ledger.Tally
}

// A blockBuffer holds the encoded rows of one bucket.
type blockBuffer struct {
	data []byte
	rows int64
}

func (f *spillFn[T]) Setup(ctx context.Context) (err error) {
	f.table = schemas.TableOf[T]()
	f.buckets = make([]blockBuffer, f.WriteConfig.Buckets)
	f.store, err = store.Open(ctx, f.WriteConfig.Store)
	return err
}

func (f *spillFn[T]) StartBundle(context.Context, func(int64, spill), func(schemas.Count)) {
	f.reset()
	f.tally.Reset()
}

func (f *spillFn[T]) ProcessElement(ctx context.Context, row T, emit func(int64, spill), _ func(schemas.Count)) error {
	if err := row.Validate(); err != nil {
		return fmt.Errorf("parquetio: configuration %s: a row is not fit to be written: %w", f.WriteConfig.Config, err)
	}
	key := row.RowKey()
	rank := schemas.Rank(f.WriteConfig.Seed, key)
	bucket, _ := bits.Mul64(rank, uint64(len(f.buckets)))
	b := &f.buckets[bucket]
	before := len(b.data)
	f.row = f.table.Append(f.row[:0], &row)
	b.data = appendRecord(b.data, rank, key, row.RowTie(), f.row)
	b.rows++
	f.buffered += len(b.data) - before
	f.tally.In(f.WriteConfig.Stage, 1)
	if f.buffered < f.limit() {
		return nil
	}
	return f.flush(ctx, emit)
}

func (f *spillFn[T]) FinishBundle(ctx context.Context, emit func(int64, spill), count func(schemas.Count)) error {
	if err := f.flush(ctx, emit); err != nil {
		return err
	}
	f.tally.Flush(count)
	return nil
}

// limit is how many bytes are gathered before a spill.
func (f *spillFn[T]) limit() int {
	if f.WriteConfig.BufferBytes == 0 {
		return 8 << 20
	}
	return f.WriteConfig.BufferBytes
}

// flush writes what is buffered to one object, a compressed block for each bucket.
func (f *spillFn[T]) flush(ctx context.Context, emit func(int64, spill)) error {
	if f.buffered == 0 {
		return nil
	}
	name := path.Join(f.WriteConfig.Dir, spillDir, f.WriteConfig.Config+"-"+uuid.NewString())
	w, err := f.store.Create(ctx, name)
	if err != nil {
		return fmt.Errorf("parquetio: spill %s: %w", name, err)
	}
	defer w.Abort()
	spills := make([]spill, len(f.buckets))
	var offset int64
	for i, b := range f.buckets {
		if b.rows == 0 {
			continue
		}
		block := compress(b.data)
		if _, err := w.Write(block); err != nil {
			return fmt.Errorf("parquetio: spill %s: %w", name, err)
		}
		spills[i] = spill{Object: name, Offset: offset, Length: int64(len(block)), Rows: b.rows}
		offset += int64(len(block))
	}
	if err := w.Commit(); err != nil {
		return fmt.Errorf("parquetio: spill %s: %w", name, err)
	}
	for i, s := range spills {
		if s.Rows > 0 {
			emit(int64(i), s)
		}
	}
	f.reset()
	return nil
}

// reset empties the buffers and keeps their memory, but for what one large row left.
func (f *spillFn[T]) reset() {
	f.row = f.row[:0]
	clear(f.row[:cap(f.row)])
	for i := range f.buckets {
		b := &f.buckets[i]
		if b.rows = 0; cap(b.data) > 2*f.limit() {
			b.data = nil
		}
		b.data = b.data[:0]
	}
	f.buffered = 0
}
