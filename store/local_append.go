package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Append opens name under an exclusive flock(2), which ends with the process. The file is an object like
// any other: Read and List show it while it grows.
func (l *local) Append(ctx context.Context, name string) (AppendFile, error) {
	if err := errors.Join(ctx.Err(), CheckName(name)); err != nil {
		return nil, fmt.Errorf("store: append: %w", err)
	}
	root, err := l.create()
	if err != nil {
		return nil, l.explain("append", name, err)
	}
	var a *appendFile
	err = inFolders(root, name, func() (err error) {
		a, err = l.openAppend(root, name)
		return err
	})
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, fmt.Errorf("store: append %q: %w: another process is writing it", name, ErrConflict)
	}
	if err != nil {
		return nil, l.explain("append", name, err)
	}
	return a, nil
}

func (l *local) openAppend(root *folder, name string) (*appendFile, error) {
	f, err := root.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o666)
	if err != nil {
		return nil, err
	}
	if err := flock(f, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, err
	}
	// Between the two it may have been deleted: the lock must be on the file that has the name.
	mine, err := f.Stat()
	if err == nil {
		var there fs.FileInfo
		if there, err = root.Stat(name); err == nil && !os.SameFile(mine, there) {
			err = fs.ErrNotExist
		}
	}
	if err != nil {
		unflock(f)
		return nil, err
	}
	return &appendFile{l: l, root: root, name: name, f: f, size: mine.Size()}, nil
}

type appendFile struct {
	l    *local
	root *folder
	name string

	f *os.File

	mu   sync.Mutex
	size int64
	err  error

	syncing sync.Mutex
	named   bool // the file's name is durable
}

// Append writes record with one write(2). If the disk takes only a part of it, the part is cut off
// again, so that later records do not follow a torn one.
func (a *appendFile) Append(record []byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil {
		return a.err
	}
	if _, err := a.f.Write(record); err != nil {
		err = a.l.explain("append", a.name, err)
		if terr := a.f.Truncate(a.size); terr != nil {
			a.err = errors.Join(err, a.l.explain("append", a.name, terr))
			return a.err
		}
		return err
	}
	a.size += int64(len(record))
	return nil
}

// Sync does not hold up Append: the disk may take long, and records that wait for it die with the process.
func (a *appendFile) Sync() error {
	a.syncing.Lock()
	defer a.syncing.Unlock()
	err := a.f.Sync()
	if err == nil && !a.named {
		err = syncDirs(a.root, a.name)
		a.named = err == nil
	}
	if err != nil {
		return a.l.explain("append", a.name, err)
	}
	return nil
}

func (a *appendFile) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	unlockErr := flock(a.f, unix.LOCK_UN)
	if err := errors.Join(unlockErr, a.f.Close()); err != nil {
		return a.l.explain("append", a.name, err)
	}
	return nil
}
