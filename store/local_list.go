package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strings"
	"syscall"
)

// List walks the folders in the order of the names' bytes, as object stores list: "a-b" comes before
// "a/b". Only regular files are objects.
func (l *local) List(ctx context.Context, prefix string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		if err := CheckPrefix(prefix); err != nil {
			yield(Info{}, fmt.Errorf("store: list: %w", err))
			return
		}
		root, err := l.open()
		if err == nil {
			w := walk{ctx: ctx, root: root, prefix: prefix, yield: yield}
			dir, _ := path.Split(prefix)
			err = w.dir(dir)
		}
		if err != nil && !missing(err) && !errors.Is(err, errStop) {
			yield(Info{}, l.explain("list", prefix, err))
		}
	}
}

var errStop = errors.New("the listing was left")

type walk struct {
	ctx    context.Context
	root   *folder
	prefix string
	yield  func(Info, error) bool
}

// dir lists the folder dir, which is "" or ends in a slash.
func (w *walk) dir(dir string) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	f, err := w.root.Root.Open(path.Join(".", dir)) // its entries find their files below the root
	if err != nil {
		return err
	}
	entries, err := f.ReadDir(-1)
	_ = f.Close()
	if err != nil {
		return err
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return cmp.Compare(key(a), key(b)) })
	for _, e := range entries {
		name := dir + key(e)
		switch {
		case e.Name() == reserved:
		case e.IsDir() && (strings.HasPrefix(name, w.prefix) || strings.HasPrefix(w.prefix, name)):
			err = w.dir(name)
		case e.Type().IsRegular() && strings.HasPrefix(name, w.prefix):
			err = w.file(name, e)
		}
		// What is deleted while it is listed is not in the listing.
		if err != nil && !missing(err) {
			return err
		}
	}
	return nil
}

func (w *walk) file(name string, e fs.DirEntry) error {
	info, err := e.Info()
	if err != nil {
		return err
	}
	if !w.yield(Info{Name: name, Size: info.Size()}, nil) {
		return errStop
	}
	return nil
}

func key(e fs.DirEntry) string {
	if e.IsDir() {
		return e.Name() + "/"
	}
	return e.Name()
}

// missing says that there is nothing of that name; a name below a file is such a name too.
func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}
