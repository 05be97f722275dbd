package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
)

// ErrDamaged says: an object's bytes are not the ones that were written.
var ErrDamaged = errors.New("object is damaged")

// BlobName is where the blob with the given lower-case hex SHA-256 lies.
func BlobName(sha string) string { return "blobs/" + sha[:min(2, len(sha))] + "/" + sha }

// PutBlob stores data under its SHA-256, which it returns. A blob that is there already is kept; one
// with other bytes, as a crash of the machine leaves it, is replaced.
func PutBlob(ctx context.Context, s Store, data []byte) (string, error) {
	sum := sha256.Sum256(data)
	sha := hex.EncodeToString(sum[:])
	name := BlobName(sha)
	// Nearly every blob is new, so it is not looked for first.
	err := s.PutIfAbsent(ctx, name, data)
	if errors.Is(err, ErrExists) {
		if err := s.Delete(ctx, name); err != nil {
			return "", err
		}
		err = s.PutIfAbsent(ctx, name, data)
	}
	if err != nil {
		return "", err
	}
	return sha, nil
}

// GetBlob reads a blob. The error wraps ErrNotExist if it is not there and ErrDamaged if its bytes are
// not those of its name; deleting a damaged blob makes room to write it again.
func GetBlob(ctx context.Context, s Store, sha string) ([]byte, error) {
	want, err := hex.DecodeString(sha)
	if err != nil || len(want) != sha256.Size {
		return nil, fmt.Errorf("blob %q: %w: that is not a SHA-256", sha, ErrNotExist)
	}
	data, _, err := s.Read(ctx, BlobName(sha))
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(data); !bytes.Equal(sum[:], want) {
		return nil, fmt.Errorf("%s: %w: its %d bytes have SHA-256 %x", BlobName(sha), ErrDamaged, len(data), sum)
	}
	return data, nil
}

// HasBlob says whether a blob is there, without reading it.
func HasBlob(ctx context.Context, s Store, sha string) (bool, error) {
	_, err := blobSize(ctx, s, sha)
	if errors.Is(err, ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func blobSize(ctx context.Context, s Store, sha string) (int64, error) {
	o, err := s.Open(ctx, BlobName(sha))
	if err != nil {
		return 0, err
	}
	return o.Size(), o.Close()
}

// Replace writes an object whatever stands there; the error wraps ErrConflict if another writer was faster.
func Replace(ctx context.Context, s Store, name string, data []byte) error {
	_, version, err := s.Read(ctx, name)
	if err != nil && !errors.Is(err, ErrNotExist) {
		return err
	}
	_, err = s.CompareAndSwap(ctx, name, version, data)
	return err
}
