package parquetio

import (
	"cmp"
	"context"
	"fmt"
	"math/bits"
	"path"
	"slices"

	"github.com/google/uuid"
	"github.com/parquet-go/parquet-go"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/transforms/ledger"
)

// A spill says where rows of one bucket lie until it is their turn: it is all that is shuffled.
type spill struct {
	// ID names the object; what all objects of a configuration have in common is left out, for there are many spills.
	ID             string
	Offset, Length int64
	Rows           int64
}

// spillFn gathers the rows of a bundle and writes them, by bucket, to spill objects of about BufferBytes. Rows are
// gathered as they come and parted when they are written: what a bundle holds goes by BufferBytes, and not by how
// many buckets there are, which is more the more rows there are.
type spillFn[T schemas.Row] struct {
	WriteConfig WriteConfig

	store store.Store
	table *schemas.Table[T]
	row   parquet.Row
	data  []byte
	rows  []bufferedRow
	tally ledger.Tally
}

// spillObject is the name of the object of a spill.
func (c WriteConfig) spillObject(id string) string {
	return path.Join(c.Dir, spillDir, c.Config+"-"+id)
}

// A bufferedRow says where the encoded row of a bucket lies in the buffer.
type bufferedRow struct {
	bucket     int64
	start, end int
}

func (f *spillFn[T]) Setup(ctx context.Context) (err error) {
	f.table = schemas.TableOf[T]()
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
	bucket, _ := bits.Mul64(rank, uint64(f.WriteConfig.Buckets))
	start := len(f.data)
	f.row = f.table.Append(f.row[:0], &row)
	f.data = appendRecord(f.data, rank, key, row.RowTie(), f.row)
	f.rows = append(f.rows, bufferedRow{int64(bucket), start, len(f.data)})
	f.tally.In(f.WriteConfig.Stage, 1)
	if len(f.data) < f.limit() {
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

// flush writes what is buffered to one object, a compressed block for each bucket that has rows.
func (f *spillFn[T]) flush(ctx context.Context, emit func(int64, spill)) error {
	if len(f.rows) == 0 {
		return nil
	}
	id := uuid.NewString()
	name := f.WriteConfig.spillObject(id)
	w, err := f.store.Create(ctx, name)
	if err != nil {
		return fmt.Errorf("parquetio: spill %s: %w", name, err)
	}
	defer w.Abort()
	slices.SortFunc(f.rows, func(a, b bufferedRow) int {
		return cmp.Or(cmp.Compare(a.bucket, b.bucket), cmp.Compare(a.start, b.start))
	})
	var (
		buckets []int64
		spills  []spill
		offset  int64
		rows    []byte
	)
	for from := 0; from < len(f.rows); {
		rows = rows[:0]
		bucket, to := f.rows[from].bucket, from
		for ; to < len(f.rows) && f.rows[to].bucket == bucket; to++ {
			rows = append(rows, f.data[f.rows[to].start:f.rows[to].end]...)
		}
		block := compress(rows)
		if _, err := w.Write(block); err != nil {
			return fmt.Errorf("parquetio: spill %s: %w", name, err)
		}
		buckets = append(buckets, bucket)
		spills = append(spills, spill{ID: id, Offset: offset, Length: int64(len(block)), Rows: int64(to - from)})
		offset += int64(len(block))
		from = to
	}
	if err := w.Commit(); err != nil {
		return fmt.Errorf("parquetio: spill %s: %w", name, err)
	}
	for i, s := range spills {
		emit(buckets[i], s)
	}
	f.reset()
	return nil
}

// reset empties the buffers and keeps their memory, but for what one large row left.
func (f *spillFn[T]) reset() {
	f.row = f.row[:0]
	clear(f.row[:cap(f.row)])
	if cap(f.data) > 2*f.limit() {
		f.data = nil
	}
	f.data, f.rows = f.data[:0], f.rows[:0]
}
