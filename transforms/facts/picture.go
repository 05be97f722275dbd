package facts

import (
	"archive/tar"
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
)

// A keeper checks pictures and puts them into the store.
type keeper struct {
	store  store.Store
	limits model.PictureLimits
}

func openKeeper(ctx context.Context, in Input) (keeper, error) {
	st, err := store.Open(ctx, in.Store)
	if err != nil {
		return keeper{}, fmt.Errorf("facts: open the store of pictures: %w", err)
	}
	return keeper{st, model.PictureLimits{MaxPixels: in.MaxPixels}}, nil
}

// keep stores a picture that the pipeline can use, and says why another cannot be. The error is the world's.
func (k keeper) keep(ctx context.Context, data []byte) (schemas.ImageRef, death, error) {
	if len(data) == 0 {
		return schemas.ImageRef{}, dead(EmptyPicture, "0 bytes"), nil
	}
	info, err := model.Inspect(data, k.limits)
	switch {
	case err != nil:
		return schemas.ImageRef{}, dead(BadPicture, "%v", err), nil
	case info.Black:
		return schemas.ImageRef{}, dead(Black, "a %s of %d x %d", info.Format, info.Width, info.Height), nil
	}
	sha, err := store.PutBlob(ctx, k.store, data)
	if err != nil {
		return schemas.ImageRef{}, death{}, fmt.Errorf("facts: store a picture: %w", err)
	}
	return schemas.ImageRef{SHA256: sha, Width: int32(info.Width), Height: int32(info.Height)}, death{}, nil
}

// A library gives pictures by name. It is safe for concurrent use.
type library interface {
	// open returns a picture's bytes and length; an error that wraps fs.ErrNotExist says that it is not
	// there, errBadPath that nothing may be there.
	open(name string) (io.ReadCloser, int64, error)
	io.Closer
}

var errBadPath = errors.New("the name leads out of the folder")

// readPicture reads a picture of a library of at most limit bytes.
func readPicture(lib library, name string, limit int64) ([]byte, death, error) {
	r, size, err := lib.open(name)
	switch {
	case errors.Is(err, errBadPath):
		return nil, dead(BadPath, "%v", err), nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, dead(MissingPicture, "%v", err), nil
	case err != nil:
		return nil, death{}, fmt.Errorf("facts: open picture %q: %w", name, err)
	}
	defer r.Close()
	if size > limit {
		return nil, dead(TooManyBytes, "%q has %d bytes, over %d", name, size, limit), nil
	}
	// A compressed entry may hold more than it says.
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	switch {
	case errors.Is(err, zip.ErrChecksum), errors.Is(err, zip.ErrFormat), errors.Is(err, io.ErrUnexpectedEOF):
		return nil, dead(BadPicture, "%q in its archive: %v", name, err), nil
	case err != nil:
		return nil, death{}, fmt.Errorf("facts: read picture %q: %w", name, err)
	case int64(len(data)) > limit:
		return nil, dead(TooManyBytes, "%q has over %d bytes", name, limit), nil
	}
	return data, death{}, nil
}

// openLibrary opens a folder of pictures, a .zip or .tar archive, or a folder or glob of such archives.
func openLibrary(path string) (library, error) {
	st, err := os.Stat(path)
	if err == nil && st.IsDir() {
		inside, err := filepath.Glob(filepath.Join(path, "*.[tz][ai][rp]"))
		if err != nil {
			return nil, fmt.Errorf("facts: list %s: %w", path, err)
		}
		if len(inside) == 0 {
			root, err := os.OpenRoot(path)
			if err != nil {
				return nil, fmt.Errorf("facts: open the folder of pictures: %w", err)
			}
			return folder{root}, nil
		}
		return openArchives(inside)
	}
	paths, err := files(path, "")
	if err != nil {
		return nil, fmt.Errorf("facts: pictures in %s: %w", path, err)
	}
	return openArchives(paths)
}

// clean makes a table's name one that fs.ValidPath accepts.
func clean(name string) (string, error) {
	p := path.Clean(strings.ReplaceAll(name, `\`, "/"))
	if !fs.ValidPath(p) || strings.ContainsRune(p, 0) || p == "." {
		return "", fmt.Errorf("%q: %w", name, errBadPath)
	}
	return p, nil
}

type folder struct{ root *os.Root }

func (f folder) Close() error { return f.root.Close() }

func (f folder) open(name string) (io.ReadCloser, int64, error) {
	p, err := clean(name)
	if err != nil {
		return nil, 0, err
	}
	// Stat first: opening a pipe would wait for its writer.
	st, err := f.root.Stat(filepath.FromSlash(p))
	if err != nil {
		return nil, 0, notThere(err)
	}
	if !st.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%s is no file: %w", p, fs.ErrNotExist)
	}
	file, err := f.root.Open(filepath.FromSlash(p))
	if err != nil {
		return nil, 0, notThere(err)
	}
	return file, st.Size(), nil
}

// notThere tells a name that cannot be opened from a disk that cannot be read.
func notThere(err error) error {
	var errno syscall.Errno
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	case errors.Is(err, syscall.ENAMETOOLONG), errors.Is(err, syscall.ELOOP), !errors.As(err, &errno):
		return fmt.Errorf("%w: %w", errBadPath, err) // os.Root's own refusals are no errno
	}
	return err
}

// archives are zip and tar files by the names of their entries. An entry is found by its whole name, or by
// the last element of it where only one entry ends so: lists of pictures rarely know the folder that
// was packed.
type archives struct {
	whole, last map[string]entry
	closers     []io.Closer
}

// An entry is one file of an archive; exactly one of its fields is set, in the zero entry none.
type entry struct {
	zip *zip.File
	tar *io.SectionReader
}

func openArchives(paths []string) (library, error) {
	a := &archives{whole: map[string]entry{}, last: map[string]entry{}}
	for _, p := range paths {
		var err error
		switch filepath.Ext(p) {
		case ".zip":
			err = a.addZip(p)
		case ".tar":
			err = a.addTar(p)
		default:
			err = errors.New("not a .zip or .tar: unpack it, or pack it as one (a compressed tar cannot be read from the middle)")
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("facts: archive %s: %w", p, err), a.Close())
		}
	}
	return a, nil
}

func (a *archives) addZip(path string) error {
	r, err := zip.OpenReader(path)
	if err != nil {
		return err
	}
	a.closers = append(a.closers, r)
	for _, f := range r.File {
		if f.Mode().IsRegular() {
			a.add(f.Name, entry{zip: f})
		}
	}
	return nil
}

// addTar reads the headers only: the archive is a file, so the reader seeks over what is between them.
func (a *archives) addTar(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	a.closers = append(a.closers, f)
	r := tar.NewReader(f)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		at, err := f.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		if h.Typeflag == tar.TypeReg {
			a.add(h.Name, entry{tar: io.NewSectionReader(f, at, h.Size)})
		}
	}
}

func (a *archives) add(name string, e entry) {
	p, err := clean(name)
	if err != nil {
		return // nothing can ask for it
	}
	if _, twice := a.whole[p]; !twice {
		a.whole[p] = e
	}
	base := path.Base(p)
	if _, twice := a.last[base]; twice {
		e = entry{}
	}
	a.last[base] = e
}

func (a *archives) open(name string) (io.ReadCloser, int64, error) {
	p, err := clean(name)
	if err != nil {
		return nil, 0, err
	}
	e, ok := a.whole[p]
	if !ok {
		e = a.last[path.Base(p)]
	}
	switch {
	case e.zip != nil:
		r, err := e.zip.Open()
		if errors.Is(err, zip.ErrAlgorithm) || errors.Is(err, zip.ErrFormat) {
			return nil, 0, fmt.Errorf("%s: %w: %w", p, fs.ErrNotExist, err)
		}
		return r, int64(min(e.zip.UncompressedSize64, 1<<62)), err
	case e.tar != nil:
		return io.NopCloser(io.NewSectionReader(e.tar, 0, e.tar.Size())), e.tar.Size(), nil
	}
	return nil, 0, fmt.Errorf("no entry %s, nor one alone of its last name: %w", p, fs.ErrNotExist)
}

func (a *archives) Close() error {
	var errs []error
	for _, c := range a.closers {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}
