package parquetio

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/parquet-go/parquet-go"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/transforms/settings"
)

// ReadConfig says what Read reads.
type ReadConfig struct {
	// Store is the URL of the store.
	Store string `json:"store" yaml:"store"`
	// Shards are read in this order.
	Shards []schemas.Shard `json:"shards" yaml:"shards"`
	// Limit takes the first so many rows of Shards; 0 takes all. Shards of one split in the order of
	// their Index give the first rows by rank.
	Limit int64 `json:"limit" yaml:"limit"`
}

// Validate joins all faults.
func (c ReadConfig) Validate() error {
	faults := settings.Of("read")
	faults.Check(c.Store != "", "store: empty; give the URL or the folder of a store")
	faults.Check(c.Limit >= 0, "limit: %d is negative; 0 takes all rows", c.Limit)
	for i, s := range c.Shards {
		whole := s.Object != "" && s.Rows >= 1 && s.Bytes >= 1 && s.SHA256 != ""
		faults.Check(whole, "shards[%d]: %q has no object, rows, bytes or sha256; take shards from a manifest", i, s.Object)
	}
	return faults.Err()
}

// Rows is how many rows are read.
func (c ReadConfig) Rows() int64 {
	var n int64
	for _, s := range c.Shards {
		n += s.Rows
	}
	if c.Limit > 0 {
		n = min(n, c.Limit)
	}
	return n
}

// readParts is about how many elements a Read makes, so that there is work for every worker: enough for clusters of
// some tens of slots, and few enough that opening a file for each costs little.
const readParts = 64

// A part is every Of-th row group of a shard, from the one at Index on, as far as they hold its first Take rows.
type part struct {
	Shard     schemas.Shard
	Take      int64
	Index, Of int
}

// parts are the shards with the rows that the limit leaves of each, cut if they are few. How many row groups a
// shard has is known where it is opened: a part may have none.
func (c ReadConfig) parts() (parts []part) {
	left := c.Limit
	for _, s := range c.Shards {
		take := s.Rows
		if c.Limit > 0 {
			take = min(take, left)
			left -= take
		}
		of := int(min(take, int64(max(readParts/len(c.Shards), 1))))
		for i := range of {
			parts = append(parts, part{Shard: s, Take: take, Index: i, Of: of})
		}
	}
	return parts
}

// Read reads rows of shards into a PCollection<T>, in no order, row groups side by side. A file may have
// more columns than T; one that lacks a column of T, or has it in another case or of another type, is an error
// before any of its rows is read, as is one whose size or SHA-256 is not the shard's. The hash of the whole file is
// taken once in each process that reads from it.
//
// It panics if cfg is not valid.
func Read[T schemas.Row](s beam.Scope, cfg ReadConfig) beam.PCollection {
	s = s.Scope("parquetio.Read")
	if err := cfg.Validate(); err != nil {
		panic(err)
	}
	schemas.TableOf[T]()
	parts := beam.ParDo(s, &partsFn{Parts: cfg.parts()}, beam.Impulse(s))
	return beam.ParDo(s, &readFn[T]{Store: cfg.Store}, beam.Reshuffle(s, parts))
}

// partsFn emits parts of row groups without opening a file, because one shuffle is all there may be: of two with nothing
// but ParDos between them, Flink leaves out the second, and one worker keeps what it made of an element. A
// splittable DoFn has the same fate.
type partsFn struct{ Parts []part }

func (f *partsFn) ProcessElement(_ []byte, emit func(part)) {
	for _, p := range f.Parts {
		emit(p)
	}
}

// readFn emits the rows of parts.
type readFn[T schemas.Row] struct {
	Store string
}

func (f *readFn[T]) ProcessElement(ctx context.Context, p part, emit func(T)) error {
	st, err := store.Open(ctx, f.Store)
	if err != nil {
		return err
	}
	file, err := openShard[T](ctx, st, p.Shard)
	if err != nil {
		return err
	}
	defer file.Close()
	left := p.Take
	for i, g := range file.RowGroups() {
		if left <= 0 {
			break
		}
		if i%p.Of == p.Index {
			err := readRows(g, left, func(row T) error {
				emit(row)
				return nil
			})
			if err != nil {
				return fmt.Errorf("parquetio: %s: row group %d: %w", p.Shard.Object, i, err)
			}
		}
		left -= g.NumRows()
	}
	return nil
}

// readRows hands on at most limit rows of a row group.
func readRows[T schemas.Row](group parquet.RowGroup, limit int64, yield func(T) error) error {
	limit = min(limit, group.NumRows())
	r := parquet.NewGenericRowGroupReader[T](group)
	defer r.Close()
	buf := make([]T, 64)
	for limit > 0 {
		clear(buf)
		n, err := r.Read(buf[:min(limit, int64(len(buf)))])
		for _, row := range buf[:n] {
			if err := yield(row); err != nil {
				return err
			}
		}
		limit -= int64(n)
		switch {
		case err != nil && !errors.Is(err, io.EOF):
			return err
		case limit > 0 && (err != nil || n == 0):
			return fmt.Errorf("%w: it ends %d rows early", store.ErrDamaged, limit)
		}
	}
	return nil
}

// Rows calls fn for each row of the shards, in order, outside a pipeline. It stops at the first error
// of fn and returns it. Files are checked as Read checks them.
func Rows[T schemas.Row](ctx context.Context, st store.Store, shards []schemas.Shard, fn func(T) error) error {
	for _, s := range shards {
		if err := rowsOf(ctx, st, s, fn); err != nil {
			return err
		}
	}
	return nil
}

func rowsOf[T schemas.Row](ctx context.Context, st store.Store, shard schemas.Shard, fn func(T) error) error {
	file, err := openShard[T](ctx, st, shard)
	if err != nil {
		return err
	}
	defer file.Close()
	for i, g := range file.RowGroups() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := readRows(g, g.NumRows(), fn); err != nil {
			return fmt.Errorf("parquetio: %s: row group %d: %w", shard.Object, i, err)
		}
	}
	return nil
}
