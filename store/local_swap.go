package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// CompareAndSwap: the version is the SHA-256 of the content. Processes exclude one another by flock(2)
// on one file of the root, which the system releases however its holder ends.
func (l *local) CompareAndSwap(ctx context.Context, name string, old Version, data []byte) (Version, error) {
	if err := CheckName(name); err != nil {
		return "", fmt.Errorf("store: swap: %w", err)
	}
	root, unlock, err := l.lock(ctx)
	if err != nil {
		return "", l.explain("swap", name, err)
	}
	defer unlock()
	_, have, err := l.Read(ctx, name)
	if err != nil && !errors.Is(err, ErrNotExist) {
		return "", err
	}
	if have != old {
		return "", fmt.Errorf("store: swap %q: %w", name, ErrConflict)
	}
	w, err := l.newWriter(ctx, "swap", name)
	if err != nil {
		return "", err
	}
	defer w.Abort()
	if _, err := w.Write(data); err != nil {
		return "", err
	}
	err = w.f.Sync()
	switch {
	case err != nil:
	case old == "":
		// Not rename: PutIfAbsent takes no lock.
		err = inFolders(root, name, func() error { return root.Link(w.temp, name) })
		if errors.Is(err, fs.ErrExist) {
			return "", fmt.Errorf("store: swap %q: %w", name, ErrConflict)
		}
	default:
		err = root.Rename(w.temp, name)
	}
	if err == nil {
		err = syncDirs(root, name)
	}
	if err != nil {
		return "", l.explain("swap", name, err)
	}
	return version(data), nil
}

// lock waits for the root's lock until ctx ends: it asks again and again, because flock(2) itself
// would wait for ever behind a process that is stopped.
func (l *local) lock(ctx context.Context) (root *folder, unlock func(), err error) {
	root, err = l.create()
	if err != nil {
		return nil, nil, err
	}
	f, err := root.OpenFile(lockFile, os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return nil, nil, err
	}
	for wait := 200 * time.Microsecond; ; wait = min(2*wait, 10*time.Millisecond) {
		if err = ctx.Err(); err == nil {
			err = flock(f, unix.LOCK_EX|unix.LOCK_NB)
		}
		if err == nil {
			return root, func() { unflock(f) }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			_ = f.Close()
			return nil, nil, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait/2 + rand.N(wait)):
		}
	}
}

func flock(f *os.File, how int) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	cerr := conn.Control(func(fd uintptr) {
		for err = syscall.EINTR; errors.Is(err, syscall.EINTR); {
			err = unix.Flock(int(fd), how)
		}
	})
	return errors.Join(cerr, err)
}

// unflock unlocks by name before it closes: a child process between fork and exec holds a copy of the
// descriptor, and with it the lock.
func unflock(f *os.File) {
	_ = flock(f, unix.LOCK_UN)
	_ = f.Close()
}

// syncDirs makes durable the names on the way to an object.
func syncDirs(root *folder, name string) error {
	for dir := path.Dir(name); ; dir = path.Dir(dir) {
		f, err := root.Open(dir)
		if err != nil {
			return err
		}
		err = f.Sync()
		_ = f.Close()
		// Some network file systems know no fsync of a folder, and need none.
		if err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
		if dir == "." {
			return nil
		}
	}
}
