package store

import (
	"context"
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
	root  *folder // nil until the folder is there
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
func (l *local) open() (*folder, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.openLocked()
}

func (l *local) openLocked() (*folder, error) {
	if l.root == nil {
		root, err := openFolder(l.dir)
		if err != nil {
			return nil, err
		}
		l.root = root
	}
	return l.root, nil
}

// create returns the root for writing, made with the folder of temporary files where it is missing.
func (l *local) create() (*folder, error) {
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
func sweep(root *folder) error {
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
