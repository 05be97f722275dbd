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
	var errs []error
	if c.Store == "" {
		errs = append(errs, errors.New("read.store: empty; give the URL or the folder of a store"))
	}
	if c.Limit < 0 {
		errs = append(errs, fmt.Errorf("read.limit: %d is negative; 0 takes all rows", c.Limit))
	}
	for i, s := range c.Shards {
		if s.Object == "" || s.Rows < 1 || s.Bytes < 1 || s.SHA256 == "" {
			errs = append(errs, fmt.Errorf("read.shards[%d]: %q has no object, rows, bytes or sha256; take shards from a manifest", i, s.Object))
		}
	}
	return errors.Join(errs...)
}

// A part is the first Take rows of a shard.
type part struct {
	Shard schemas.Shard
	Take  int64
}

// parts are the shards with the rows that the limit leaves of each.
func (c ReadConfig) parts() (parts []part) {
	left := c.Limit
	for _, s := range c.Shards {
		take := s.Rows
		if c.Limit > 0 {
			take = min(take, left)
			left -= take
		}
		if take > 0 {
			parts = append(parts, part{Shard: s, Take: take})
		}
	}
	return parts
}

// Read reads rows of shards into a PCollection<T>, in no order, row groups side by side. A file may have
// more columns than T; one that lacks a column of T, or has it in another case or of another type, is an error
// before any row is read, as is one whose size or SHA-256 is not the shard's. The hash of the whole file is
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
	groups := beam.ParDo(s, &groupsFn[T]{Store: cfg.Store}, beam.Reshuffle(s, parts))
	return beam.ParDo(s, &readFn[T]{Store: cfg.Store}, beam.Reshuffle(s, groups))
}

type partsFn struct{ Parts []part }

func (f *partsFn) ProcessElement(_ []byte, emit func(part)) {
	for _, p := range f.Parts {
		emit(p)
	}
}

// A rowGroup is the first Take rows of one of a shard's row groups. Each is an element that crosses a shuffle of its
// own: a splittable DoFn would say the same, but Flink hands all restrictions of an element to one worker.
type rowGroup struct {
	Shard schemas.Shard
	Index int64
	Take  int64
}

// groupsFn emits the row groups that hold the first Take rows of a part.
type groupsFn[T schemas.Row] struct {
	Store string
}

func (f *groupsFn[T]) ProcessElement(ctx context.Context, p part, emit func(rowGroup)) error {
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
		emit(rowGroup{Shard: p.Shard, Index: int64(i), Take: min(left, g.NumRows())})
		left -= g.NumRows()
	}
	if left > 0 {
		return fmt.Errorf("parquetio: %s: %w: it ends %d rows early", p.Shard.Object, store.ErrDamaged, left)
	}
	return nil
}

// readFn emits the rows of row groups.
type readFn[T schemas.Row] struct {
	Store string
}

func (f *readFn[T]) ProcessElement(ctx context.Context, g rowGroup, emit func(T)) error {
	st, err := store.Open(ctx, f.Store)
	if err != nil {
		return err
	}
	file, err := openShard[T](ctx, st, g.Shard)
	if err != nil {
		return err
	}
	defer file.Close()
	err = readRows(file.RowGroups()[g.Index], g.Take, func(row T) error {
		emit(row)
		return nil
	})
	if err != nil {
		return fmt.Errorf("parquetio: %s: row group %d: %w", g.Shard.Object, g.Index, err)
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
