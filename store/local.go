package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// A local keeps objects as files in a folder.
//
// # Design
//
// A new object is written to a temporary file and given its name by link(2), which unlike rename(2)
// never replaces anything: of any number of processes one wins. Temporary files and the lock lie in
// one reserved folder of the root, which no name reaches and no listing shows.
//
// PutIfAbsent and Create do not fsync: thousands of small pictures would cost a disk flush each. A
// machine that crashes may leave such an object short, never under another's name; readers check
// immutable objects by size and hash, and a commit calls Sync, one syncfs(2), before it publishes what
// names them. CompareAndSwap and AppendFile.Sync are durable when they return.
type local struct {
	url, dir string

	mu    sync.Mutex
	root  *os.Root // nil until the folder is there
	swept bool
}

const (
	tempDir  = reserved + "/tmp"
	lockFile = reserved + "/lock"
	// A temporary file this old belongs to a process that was killed.
	tempAge = 24 * time.Hour
)

func openLocal(url, dir string) (Store, error) {
	if dir == "" {
		return nil, errors.New("store: the path is empty; name a folder")
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("store: %s: %w", dir, err)
	}
	if url == dir {
		url = abs
	}
	l := &local{url: url, dir: abs}
	info, err := os.Stat(abs)
	if err == nil && !info.IsDir() {
		err = syscall.ENOTDIR
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, l.explain("open", "", err)
	}
	return l, nil
}

func (l *local) URL() string { return l.url }

// open returns the root for reading; the error is fs.ErrNotExist if nothing was ever written.
func (l *local) open() (*os.Root, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.openLocked()
}

func (l *local) openLocked() (*os.Root, error) {
	if l.root == nil {
		root, err := os.OpenRoot(l.dir)
		if err != nil {
			return nil, err
		}
		l.root = root
	}
	return l.root, nil
}

// create returns the root for writing, made with the folder of temporary files where it is missing.
func (l *local) create() (*os.Root, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.swept {
		return l.root, nil
	}
	if err := os.MkdirAll(l.dir, 0o777); err != nil {
		return nil, err
	}
	root, err := l.openLocked()
	if err != nil {
		return nil, err
	}
	if err := root.MkdirAll(tempDir, 0o777); err != nil {
		return nil, err
	}
	l.swept = true
	return root, sweep(root)
}

// sweep removes the temporary files of processes that were killed.
func sweep(root *os.Root) error {
	entries, err := fs.ReadDir(root.FS(), tempDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && time.Since(info.ModTime()) > tempAge {
			err = root.Remove(path.Join(tempDir, e.Name()))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (l *local) PutIfAbsent(ctx context.Context, name string, data []byte) error {
	w, err := l.newWriter(ctx, "put", name)
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := w.Write(data); err != nil {
		return err
	}
	return w.Commit()
}

func (l *local) Create(ctx context.Context, name string) (Writer, error) {
	w, err := l.newWriter(ctx, "create", name)
	if err != nil {
		return nil, err
	}
	return w, nil
}

// A localWriter fills the temporary file of one object.
type localWriter struct {
	ctx            context.Context
	l              *local
	root           *os.Root
	op, name, temp string
	f              *os.File // nil once the writer is done
	err            error
}

func (l *local) newWriter(ctx context.Context, op, name string) (*localWriter, error) {
	if err := errors.Join(ctx.Err(), CheckName(name)); err != nil {
		return nil, fmt.Errorf("store: %s: %w", op, err)
	}
	root, err := l.create()
	if err != nil {
		return nil, l.explain(op, name, err)
	}
	temp := path.Join(tempDir, rand.Text())
	f, err := root.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o666)
	if err != nil {
		return nil, l.explain(op, name, err)
	}
	return &localWriter{ctx: ctx, l: l, root: root, op: op, name: name, temp: temp, f: f}, nil
}

func (w *localWriter) Write(p []byte) (int, error) {
	if err := w.check(); err != nil {
		return 0, err
	}
	n, err := w.f.Write(p)
	if err != nil {
		w.err = w.l.explain(w.op, w.name, err)
		w.Abort()
	}
	return n, w.err
}

func (w *localWriter) check() error {
	switch {
	case w.err != nil:
		return w.err
	case w.f == nil:
		return fmt.Errorf("store: %s %q: the writer is closed", w.op, w.name)
	case w.ctx.Err() != nil:
		return fmt.Errorf("store: %s %q: %w", w.op, w.name, w.ctx.Err())
	}
	return nil
}

func (w *localWriter) Commit() error {
	if err := w.check(); err != nil {
		return err
	}
	defer w.Abort()
	err := link(w.root, w.temp, w.name)
	if errors.Is(err, fs.ErrExist) {
		return w.compare()
	}
	if err != nil {
		return w.l.explain(w.op, w.name, err)
	}
	return nil
}

// Abort drops the temporary file; after a Commit that is all there is left to drop.
func (w *localWriter) Abort() {
	if w.f == nil {
		return
	}
	// Neither failure hurts: nothing names the file, and what stays is swept in a day.
	_ = w.f.Close()
	_ = w.root.Remove(w.temp)
	w.f = nil
}

// compare settles a name that is taken: equal content is an earlier try whose answer was lost.
func (w *localWriter) compare() error {
	there, err := w.root.Open(w.name)
	if err != nil {
		return w.l.explain(w.op, w.name, err)
	}
	defer there.Close()
	if _, err := w.f.Seek(0, io.SeekStart); err != nil {
		return w.l.explain(w.op, w.name, err)
	}
	same, err := equal(there, w.f)
	if err != nil {
		return w.l.explain(w.op, w.name, err)
	}
	if !same {
		return fmt.Errorf("store: %s %q: %w", w.op, w.name, ErrExists)
	}
	return nil
}

func equal(a, b *os.File) (bool, error) {
	ai, aerr := a.Stat()
	bi, berr := b.Stat()
	if err := errors.Join(aerr, berr); err != nil || ai.Size() != bi.Size() && !ai.IsDir() {
		return false, err
	}
	abuf, bbuf := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, aerr := io.ReadFull(a, abuf)
		m, berr := io.ReadFull(b, bbuf)
		if !bytes.Equal(abuf[:n], bbuf[:m]) {
			return false, nil
		}
		for _, err := range []error{aerr, berr} {
			switch {
			case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
				return true, nil
			case err != nil:
				return false, err
			}
		}
	}
}

// link gives temp its name, making the folders above it. A Delete may take away a folder that it left
// empty between the two, so it tries again.
func link(root *os.Root, temp, name string) error {
	for try := 0; ; try++ {
		err := root.Link(temp, name)
		if !errors.Is(err, fs.ErrNotExist) || try == 10 {
			return err
		}
		if err := root.MkdirAll(path.Dir(name), 0o777); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
}

func (l *local) Read(ctx context.Context, name string) ([]byte, Version, error) {
	f, err := l.openObject(ctx, "read", name)
	if err != nil {
		return nil, "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.NewSectionReader(f, 0, f.size))
	if err != nil {
		return nil, "", l.explain("read", name, err)
	}
	return data, version(data), nil
}

func version(data []byte) Version {
	sum := sha256.Sum256(data)
	return Version(hex.EncodeToString(sum[:]))
}

func (l *local) Open(ctx context.Context, name string) (Object, error) {
	f, err := l.openObject(ctx, "open", name)
	if err != nil {
		return nil, err
	}
	return f, nil
}

type localObject struct {
	f    *os.File
	size int64
}

func (o *localObject) ReadAt(p []byte, off int64) (int, error) { return o.f.ReadAt(p, off) }
func (o *localObject) Close() error                            { return o.f.Close() }
func (o *localObject) Size() int64                             { return o.size }

func (l *local) openObject(ctx context.Context, op, name string) (*localObject, error) {
	if err := errors.Join(ctx.Err(), CheckName(name)); err != nil {
		return nil, fmt.Errorf("store: %s: %w", op, err)
	}
	root, err := l.open()
	if err != nil {
		return nil, l.explain(op, name, err)
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, l.explain(op, name, err)
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = fs.ErrNotExist // names below it there are, but no object of this one
	}
	if err != nil {
		_ = f.Close()
		return nil, l.explain(op, name, err)
	}
	return &localObject{f, info.Size()}, nil
}

// Delete holds the lock, so that a CompareAndSwap under way does not bring the object back, and removes
// the folders that it leaves empty.
func (l *local) Delete(ctx context.Context, name string) error {
	f, err := l.openObject(ctx, "delete", name)
	if errors.Is(err, ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_ = f.Close()
	root, unlock, err := l.lock(ctx)
	if err != nil {
		return l.explain("delete", name, err)
	}
	defer unlock()
	if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return l.explain("delete", name, err)
	}
	for dir := path.Dir(name); dir != "." && root.Remove(dir) == nil; dir = path.Dir(dir) {
	}
	return nil
}

// Sync makes the whole file system of the root durable, whoever wrote to it.
func (l *local) Sync(ctx context.Context) error {
	root, err := l.open()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err = errors.Join(ctx.Err(), err); err == nil {
		err = syncAll(root)
	}
	if err != nil {
		return l.explain("sync", "", err)
	}
	return nil
}
