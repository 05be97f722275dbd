package store

import (
	"errors"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// A folder is an os.Root that opens, links and removes with one openat2(2) where os.Root opens every
// folder on the way: a picture is put and read by a third of the system calls. The kernel keeps the way
// below the folder as os.Root does. Whatever it does not do, old kernels and sandboxes that know no
// openat2 among it, is os.Root's to do, or to explain.
type folder struct {
	*os.Root
	top *os.File
}

func openFolder(dir string) (*folder, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	top, err := root.Open(".")
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return &folder{root, top}, nil
}

// at opens name and returns its descriptor.
func (f *folder) at(name string, flag int, perm os.FileMode) (int, error) {
	how := unix.OpenHow{
		Flags: uint64(flag | unix.O_CLOEXEC | unix.O_LARGEFILE), Mode: uint64(perm.Perm()), Resolve: unix.RESOLVE_BENEATH,
	}
	for {
		fd, err := unix.Openat2(int(f.top.Fd()), name, &how)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

// Open is os.Root's, but for the entries of a folder, whose Info is not below the root.
func (f *folder) Open(name string) (*os.File, error) { return f.OpenFile(name, os.O_RDONLY, 0) }

// OpenFile is os.Root's in the same way.
func (f *folder) OpenFile(name string, flag int, perm os.FileMode) (*os.File, error) {
	if fd, err := f.at(name, flag, perm); err == nil {
		return os.NewFile(uintptr(fd), name), nil
	}
	return f.Root.OpenFile(name, flag, perm)
}

// Link is os.Root's.
func (f *folder) Link(from, to string) error {
	err := f.in(from, func(dir int, file string) error {
		return f.in(to, func(other int, name string) error { return unix.Linkat(dir, file, other, name, 0) })
	})
	if err != nil {
		return f.Root.Link(from, to)
	}
	return nil
}

// Remove is os.Root's.
func (f *folder) Remove(name string) error {
	if err := f.in(name, func(dir int, file string) error { return unix.Unlinkat(dir, file, 0) }); err != nil {
		return f.Root.Remove(name)
	}
	return nil
}

// in calls use with the folder that name lies in, open, and the rest of name.
func (f *folder) in(name string, use func(dir int, file string) error) error {
	dir, err := f.at(path.Dir(name), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(dir) }() // nothing was written through it
	return use(dir, path.Base(name))
}
