package snapshot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
)

// parallel is how many shards are looked at at once: a request to a cloud store takes long, not much.
const parallel = 8

// eachShard calls f for all shards and joins its errors in their order.
func eachShard(ctx context.Context, shards []schemas.Shard, f func(schemas.Shard) error) error {
	errs := make([]error, len(shards))
	var g errgroup.Group
	g.SetLimit(parallel)
	for i, s := range shards {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		g.Go(func() error {
			errs[i] = f(s)
			return nil
		})
	}
	_ = g.Wait() // each error is in its place
	return errors.Join(errs...)
}

// openShard opens a shard whose size is the one that was written.
func openShard(ctx context.Context, st store.Store, s schemas.Shard) (store.Object, error) {
	o, err := st.Open(ctx, s.Object)
	if err != nil {
		return nil, fmt.Errorf("shard: %w", err)
	}
	if o.Size() != s.Bytes {
		return nil, errors.Join(fmt.Errorf("shard %s: %w: %d bytes, %d were written", s.Object, store.ErrDamaged, o.Size(), s.Bytes), o.Close())
	}
	return o, nil
}

// Verify reads all shards of m and checks their sizes and hashes, and that rows and digests add up. It
// joins an error for each damaged shard, which wraps store.ErrDamaged or store.ErrNotExist.
func Verify(ctx context.Context, st store.Store, m Manifest) error {
	errs := []error{eachShard(ctx, m.Shards, func(s schemas.Shard) error { return checkHash(ctx, st, s) })}
	rows := map[string]int64{}
	for _, s := range m.Shards {
		rows[s.Config] += s.Rows
	}
	if !maps.Equal(rows, m.Rows) {
		errs = append(errs, fmt.Errorf("manifest of run %s: %w: its shards have %v rows, it says %v", m.RunID, store.ErrDamaged, rows, m.Rows))
	}
	// What has no digest of its own was left out.
	digested := slices.DeleteFunc(slices.Clone(m.Shards), func(s schemas.Shard) bool { return m.Digests[s.Config] == "" })
	whole, byConfig, err := Digest(digested)
	if err != nil {
		errs = append(errs, fmt.Errorf("manifest of run %s: %w: %w", m.RunID, store.ErrDamaged, err))
	} else if whole != m.Digest || !maps.Equal(byConfig, m.Digests) {
		errs = append(errs, fmt.Errorf("manifest of run %s: %w: its shards have the digest %s, it says %s", m.RunID, store.ErrDamaged, whole, m.Digest))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("snapshot: verify %s: %w", m.Set, err)
	}
	return nil
}

func checkHash(ctx context.Context, st store.Store, s schemas.Shard) error {
	o, err := openShard(ctx, st, s)
	if err != nil {
		return err
	}
	defer o.Close()
	h := sha256.New()
	r := io.NewSectionReader(o, 0, o.Size())
	for err == nil {
		if _, err = io.CopyN(h, r, 4<<20); err == nil {
			err = ctx.Err()
		}
	}
	if !errors.Is(err, io.EOF) {
		return fmt.Errorf("shard %s: %w", s.Object, err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != s.SHA256 {
		return fmt.Errorf("shard %s: %w: SHA-256 %s, the manifest says %s", s.Object, store.ErrDamaged, got, s.SHA256)
	}
	return nil
}
