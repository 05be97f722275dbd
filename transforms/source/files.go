package source

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/promptmill/promptmill/testdata"
)

// An object is an open input. All reading goes through open and list, so that inputs in an object
// store are a matter of these two.
type object interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

type localFile struct {
	*os.File
	size int64
}

func (f localFile) Size() int64 { return f.size }

// builtin begins the paths of the files that come with promptmill.
const builtin = "builtin:"

// builtinFile is a file of the binary.
type builtinFile struct{ *bytes.Reader }

func (builtinFile) Close() error { return nil }

func open(ctx context.Context, path string) (object, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if name, ok := strings.CutPrefix(path, builtin); ok {
		data, err := testdata.Files.ReadFile(name)
		return builtinFile{bytes.NewReader(data)}, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return localFile{f, st.Size()}, nil
}

func checkLocal(path string) error {
	if scheme, _, ok := strings.Cut(path, "://"); ok {
		return fmt.Errorf("%s:// is not read by this program: copy the files to a disk that every worker sees and name them there", scheme)
	}
	return nil
}

// list returns the paths of the regular files that an input's path stands for, in name order.
func list(path string, known func(name string) bool) ([]string, error) {
	if name, ok := strings.CutPrefix(path, builtin); ok {
		if _, err := fs.Stat(testdata.Files, name); err != nil {
			return nil, fmt.Errorf("%s: %w: the files that come with promptmill are in its folder testdata", path, err)
		}
		return []string{path}, nil
	}
	st, err := os.Stat(path)
	switch {
	case err == nil && !st.IsDir():
		return []string{path}, nil
	case err == nil:
		entries, err := os.ReadDir(path)
		if err != nil {
			return nil, err
		}
		var out []string
		for _, e := range entries {
			if e.Type().IsRegular() && !strings.ContainsAny(e.Name()[:1], "._") && known(e.Name()) {
				out = append(out, filepath.Join(path, e.Name()))
			}
		}
		if len(out) == 0 {
			return nil, fmt.Errorf("directory %s has no file to read: it needs files that end in .jsonl, .json, .csv, .tsv, .parquet or .txt (or one of these with .gz)", path)
		}
		return out, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	case !strings.ContainsAny(path, "*?["):
		return nil, fmt.Errorf("%w: check the spelling; a relative path starts at the directory the command runs in", err)
	}
	out, err := filepath.Glob(path)
	if err != nil {
		return nil, fmt.Errorf("glob %s: %w", path, err)
	}
	out = slices.DeleteFunc(out, func(p string) bool {
		st, err := os.Stat(p)
		return err != nil || !st.Mode().IsRegular()
	})
	if len(out) == 0 {
		return nil, fmt.Errorf("glob %s: %w: nothing matches; quote it against the shell and check the directory", path, fs.ErrNotExist)
	}
	return out, nil
}

var endings = map[string]string{
	".jsonl": JSONL, ".ndjson": JSONL, ".json": JSON, ".csv": CSV, ".tsv": TSV, ".parquet": Parquet, ".txt": Text,
}

func byEnding(name string) (format string, gzip bool) {
	name = strings.ToLower(name)
	plain, gzip := strings.CutSuffix(name, ".gz")
	return endings[filepath.Ext(plain)], gzip
}

// A file is one file of an input.
type file struct {
	Path string
	// Format is one of JSONL, JSON, CSV, TSV, Parquet, Text.
	Format string
	Gzip   bool
	// Bytes is its size on disk, Groups its number of row groups (Parquet only).
	Bytes, Groups int64
}

// base is the file's name without directories.
func (f file) base() string { return filepath.Base(f.Path) }

// splittable says that a reader may begin at any byte: a record begins after each line break.
func (f file) splittable() bool {
	return !f.Gzip && (f.Format == JSONL || f.Format == TSV || f.Format == Text)
}

// expand returns the files of in with what is needed to split them. All faults are joined.
func expand(ctx context.Context, in Input) ([]file, error) {
	if err := checkLocal(in.Path); err != nil {
		return nil, err
	}
	paths, err := list(in.Path, func(name string) bool {
		format, _ := byEnding(name)
		switch in.Format {
		case "", Auto, BeautifulPrompt:
			return format != ""
		case DiffusionDB:
			return format == Parquet
		}
		return format == in.Format
	})
	if err != nil {
		return nil, err
	}
	var files []file
	var errs []error
	for _, p := range paths {
		f, err := identify(ctx, in, p)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", p, err))
			continue
		}
		files = append(files, f)
	}
	return files, errors.Join(errs...)
}

// identify finds a file's format, size and row groups.
func identify(ctx context.Context, in Input, path string) (file, error) {
	format, gz := byEnding(path)
	f := file{Path: path, Gzip: gz}
	switch in.Format {
	case "", Auto, BeautifulPrompt:
		f.Format = format
	case DiffusionDB:
		f.Format = Parquet
	default:
		f.Format = in.Format
	}
	if f.Format == "" {
		return f, errors.New("its ending does not tell the format: set the input's format (jsonl, json, csv, tsv, parquet, text)")
	}
	if f.Format == Parquet && gz {
		return f, errors.New("a Parquet file in gzip cannot be read: unpack it (gunzip); Parquet is compressed by itself")
	}
	obj, err := open(ctx, path)
	if err != nil {
		return f, err
	}
	defer obj.Close()
	f.Bytes = obj.Size()
	if f.Format == JSON && cmp.Or(in.Format, Auto) != JSON {
		// Many .json files are really one object a line.
		r, err := stream(obj, f)
		if err != nil {
			return f, err
		}
		if c, err := firstByte(r); err == nil && c == '{' {
			f.Format = JSONL
		}
	}
	if f.Format == Parquet {
		f.Groups, err = rowGroups(obj)
	}
	return f, err
}
