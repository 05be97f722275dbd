package source

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

// lookAt is how many records Inspect reads of a file before it says that none is usable.
const lookAt = 20

// Inspect reports, before a run of Prompts, everything that would fail it or leave it without rows:
// settings, missing files, empty inputs, files that are not what their format says, columns that are
// not there, a Parquet file that was cut short. It reads the beginning of each file. All faults are joined.
func Inspect(ctx context.Context, cfg Config) error { return inspect(ctx, cfg, promptRows) }

// InspectPairs is Inspect for Pairs.
func InspectPairs(ctx context.Context, cfg Config) error { return inspect(ctx, cfg, pairRows) }

func inspect(ctx context.Context, cfg Config, sh shape) error {
	if err := cfg.validateAs(sh); err != nil {
		return err
	}
	r := reader{Config: cfg}
	var errs []error
	for i, in := range cfg.Inputs {
		fault := func(err error) {
			errs = append(errs, fmt.Errorf("source.inputs[%d].path: input %s: %w", i, in.Name, err))
		}
		files, err := expand(ctx, in)
		if err != nil {
			fault(err)
			continue
		}
		empty := true
		for _, f := range files {
			n, err := r.inspectFile(ctx, &in, f, sh)
			if err != nil {
				fault(err)
			}
			empty = empty && n == 0 && err == nil
		}
		if empty {
			fault(fmt.Errorf("%s has no records: is the download or the export complete?", in.Path))
		}
	}
	return errors.Join(errs...)
}

// inspectFile reads the first records of f and returns how many it saw.
func (fn *reader) inspectFile(ctx context.Context, in *Input, f file, sh shape) (n int, err error) {
	obj, err := open(ctx, f.Path)
	if err != nil {
		return 0, err
	}
	defer obj.Close()
	if f.Format == JSON && !f.Gzip {
		if err := checkEnd(obj); err != nil {
			return 0, fmt.Errorf("%s: %w", f.Path, err)
		}
	}
	var first verdict
	good := false
	sc := scan{
		obj: obj, file: f, cols: in.columns(sh), limit: fn.Config.Limits.maxLineBytes(),
		claim: func(int64) bool { return true },
		yield: func(rec *record) bool {
			var v verdict
			if sh == promptRows {
				_, v = fn.prompt(in, rec)
			} else {
				_, v = fn.pair(in, rec)
			}
			if good = !v.dead; n == 0 {
				first = v
			}
			n++
			return !good && n < lookAt
		},
	}
	if err := sc.run(); err != nil {
		return n, err
	}
	if n > 0 && !good {
		return n, fmt.Errorf("%s: none of the first %d records is usable; the first: %s: %s", f.Path, n, first.reason, first.detail)
	}
	return n, nil
}

// checkEnd looks for the closing bracket of a JSON array.
func checkEnd(obj object) error {
	tail := make([]byte, min(obj.Size(), 4<<10))
	if _, err := obj.ReadAt(tail, obj.Size()-int64(len(tail))); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	for i := len(tail) - 1; i >= 0; i-- {
		if !isSpace(tail[i]) {
			if tail[i] != ']' {
				return fmt.Errorf("a JSON array ends with ']', this file with %q: it was cut short, or is one object a line (set format jsonl)", tail[i])
			}
			break
		}
	}
	return nil
}

// Digest is the hex SHA-256 of the inputs' content: the bytes of the files in name order, input by
// input, whatever they are called. It reads everything once.
func Digest(ctx context.Context, cfg Config) (string, error) {
	h := sha256.New()
	for _, in := range cfg.Inputs {
		files, err := expand(ctx, in)
		if err != nil {
			return "", fmt.Errorf("source: input %s: %w", in.Name, err)
		}
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(files)))
		h.Write(n[:])
		for _, f := range files {
			sum, err := fileDigest(ctx, f.Path)
			if err != nil {
				return "", fmt.Errorf("source: input %s: digest of %s: %w", in.Name, f.Path, err)
			}
			h.Write(sum)
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func fileDigest(ctx context.Context, path string) ([]byte, error) {
	obj, err := open(ctx, path)
	if err != nil {
		return nil, err
	}
	defer obj.Close()
	h := sha256.New()
	r := io.NewSectionReader(obj, 0, obj.Size())
	for {
		// In pieces, so that an interrupt need not wait for the end of a large file.
		_, err := io.CopyN(h, r, 64<<20)
		if errors.Is(err, io.EOF) {
			return h.Sum(nil), nil
		}
		if err = errors.Join(err, ctx.Err()); err != nil {
			return nil, err
		}
	}
}
