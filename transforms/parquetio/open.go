package parquetio

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/parquet-go/parquet-go"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
)

// A shardFile is a Parquet file open for reading.
type shardFile struct {
	*parquet.File
	object store.Object
}

// Close closes the object.
func (f *shardFile) Close() error { return f.object.Close() }

// openFile opens a shard whose size and number of rows are the ones recorded. Its errors name the object.
func openFile(ctx context.Context, st store.Store, shard schemas.Shard) (*shardFile, error) {
	o, err := openSized(ctx, st, shard)
	if err != nil {
		return nil, err
	}
	f, err := parquet.OpenFile(o, o.Size(), parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err == nil && f.NumRows() != shard.Rows {
		err = fmt.Errorf("it has %d rows, %d were written", f.NumRows(), shard.Rows)
	}
	if err != nil {
		return nil, errors.Join(damaged(shard, err), o.Close())
	}
	return &shardFile{File: f, object: o}, nil
}

// openShard opens a shard for rows of T: its bytes are the ones recorded and it has T's columns.
func openShard[T schemas.Row](ctx context.Context, st store.Store, shard schemas.Shard) (*shardFile, error) {
	if err := checkDigest(ctx, st, shard); err != nil {
		return nil, err
	}
	f, err := openFile(ctx, st, shard)
	if err != nil {
		return nil, err
	}
	if err := compareSchemas(schemas.TableOf[T]().Schema(), f.Schema()); err != nil {
		return nil, errors.Join(fmt.Errorf("parquetio: %s: %w", shard.Object, err), f.Close())
	}
	return f, nil
}

func openSized(ctx context.Context, st store.Store, shard schemas.Shard) (store.Object, error) {
	o, err := st.Open(ctx, shard.Object)
	if err != nil {
		return nil, fmt.Errorf("parquetio: %s: %w", shard.Object, err)
	}
	if o.Size() != shard.Bytes {
		err := fmt.Errorf("it has %d bytes, %d were written", o.Size(), shard.Bytes)
		return nil, errors.Join(damaged(shard, err), o.Close())
	}
	return o, nil
}

func damaged(shard schemas.Shard, err error) error {
	return fmt.Errorf("parquetio: %s: %w: %w; restore the file or build the data set again", shard.Object, store.ErrDamaged, err)
}

// digests remembers which files this process has hashed: store, object and digest -> *digestCheck.
var digests sync.Map

type digestCheck struct {
	mu sync.Mutex
	ok bool
}

// checkDigest compares the SHA-256 of a shard with the one recorded, once in a process: a flipped byte
// that the Parquet reader does not notice must not become a wrong row.
func checkDigest(ctx context.Context, st store.Store, shard schemas.Shard) error {
	v, _ := digests.LoadOrStore([3]string{st.URL(), shard.Object, shard.SHA256}, new(digestCheck))
	check := v.(*digestCheck)
	check.mu.Lock()
	defer check.mu.Unlock()
	if check.ok {
		return nil
	}
	if err := hashShard(ctx, st, shard); err != nil {
		return err
	}
	check.ok = true
	return nil
}

func hashShard(ctx context.Context, st store.Store, shard schemas.Shard) error {
	o, err := openSized(ctx, st, shard)
	if err != nil {
		return err
	}
	defer o.Close()
	h := sha256.New()
	buf := make([]byte, 1<<20)
	if _, err := io.CopyBuffer(h, io.NewSectionReader(o, 0, o.Size()), buf); err != nil {
		return fmt.Errorf("parquetio: %s: %w", shard.Object, err)
	}
	if sum := hex.EncodeToString(h.Sum(nil)); sum != shard.SHA256 {
		return damaged(shard, fmt.Errorf("its SHA-256 is %s, not %s", sum, shard.SHA256))
	}
	return nil
}

// Verify checks all that a Shard says of its object: bytes, SHA-256, rows, schema and the sum of the
// rows. An object that is not what was written gives an error that wraps store.ErrDamaged.
func Verify(ctx context.Context, st store.Store, shard schemas.Shard) error {
	if err := hashShard(ctx, st, shard); err != nil {
		return err
	}
	f, err := openFile(ctx, st, shard)
	if err != nil {
		return err
	}
	defer f.Close()
	if digest := schemas.SchemaDigest(f.Schema()); digest != shard.Schema {
		return damaged(shard, fmt.Errorf("the digest of its schema is %s, not %s", digest, shard.Schema))
	}
	sum, err := sumRows(f.File)
	if err != nil {
		return damaged(shard, err)
	}
	if sum.String() != shard.RowSum {
		return damaged(shard, fmt.Errorf("the sum of its rows is %s, not %s", sum, shard.RowSum))
	}
	return nil
}

func sumRows(f *parquet.File) (sum schemas.Sum, err error) {
	var hasher schemas.Hasher
	rows := make([]parquet.Row, 64)
	for _, g := range f.RowGroups() {
		r := g.Rows()
		for err == nil {
			var n int
			n, err = r.ReadRows(rows)
			for _, row := range rows[:n] {
				sum.Add(hasher.Row(row))
			}
		}
		if errors.Is(err, io.EOF) {
			err = nil
		}
		if err := errors.Join(err, r.Close()); err != nil {
			return schemas.Sum{}, err
		}
	}
	return sum, nil
}
