package store

import (
	"errors"

	"golang.org/x/sys/unix"
)

// syncAll writes back the file system of root, and only that one.
func syncAll(root *folder) error {
	f, err := root.Open(".")
	if err != nil {
		return err
	}
	defer f.Close()
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	cerr := conn.Control(func(fd uintptr) { err = unix.Syncfs(int(fd)) })
	return errors.Join(cerr, err)
}
