package source

import (
	"context"
	"fmt"
)

// sampleRecords is how many records Estimate reads of a file before it reckons by size.
const sampleRecords = 2000

// Estimate is about how many records the inputs have, for plans and progress: exact for Parquet and for
// files of up to 2,000 records, reckoned from the length of the first 2,000 for others.
func Estimate(ctx context.Context, cfg Config) (int64, error) {
	var total int64
	for _, in := range cfg.Inputs {
		files, err := expand(ctx, in)
		if err != nil {
			return 0, fmt.Errorf("source: input %s: %w", in.Name, err)
		}
		var n int64
		for _, f := range files {
			records, err := cfg.estimateFile(ctx, f)
			if err != nil {
				return 0, fmt.Errorf("source: input %s: %s: %w", in.Name, f.Path, err)
			}
			n += records
		}
		if in.MaxRows > 0 {
			n = min(n, in.MaxRows)
		}
		total += n
	}
	return total, nil
}

func (c Config) estimateFile(ctx context.Context, f file) (int64, error) {
	obj, err := open(ctx, f.Path)
	if err != nil {
		return 0, err
	}
	defer obj.Close()
	if f.Format == Parquet {
		pf, err := openParquet(obj)
		if err != nil {
			return 0, err
		}
		return pf.NumRows(), nil
	}
	var n, read int64
	sc := scan{
		obj: obj, file: f, cols: columns{}, limit: c.Limits.maxLineBytes(),
		claim: func(int64) bool { return true },
		yield: func(rec *record) bool {
			n++
			read = rec.pos + int64(len(rec.raw))
			return n < sampleRecords
		},
	}
	if err := sc.run(); err != nil {
		return 0, err
	}
	if n < sampleRecords || read == 0 {
		return n, nil
	}
	size := f.Bytes
	if f.Gzip {
		size *= 4 // text packs to about a quarter
	}
	return max(n, n*size/read), nil
}
