package store

import (
	"errors"
	"fmt"
	"syscall"
)

var hints = []struct {
	errno syscall.Errno
	say   string
}{
	{syscall.ENOSPC, "the disk is full; free some space and run again, nothing was half published"},
	{syscall.EDQUOT, "your disk quota is used up; free some space and run again, nothing was half published"},
	{syscall.EROFS, "it is mounted read-only; choose another folder or mount it for writing"},
	{syscall.EACCES, "check who owns the folder and its mode"},
	{syscall.EPERM, "check who owns the folder, and that its file system has hard links (FAT and some network mounts have none)"},
	{syscall.EOPNOTSUPP, "its file system lacks hard links or locks; choose a folder on a local disk"},
	{syscall.ENOLCK, "its file system has no locks; choose a folder on a local disk"},
	{syscall.EXDEV, "a folder inside it is another mount; a store must be one file system"},
	{syscall.ENOTDIR, "a part of the path is a file, not a folder; choose another folder"},
	{syscall.EISDIR, "the name is a folder with other objects; choose another name"},
	{syscall.ENAMETOOLONG, "a part of a name is at most 255 bytes"},
	{syscall.EMFILE, "too many files are open; raise the limit with ulimit -n"},
}

// explain says what was done to which object and, where it can, what to do about the failure.
func (l *local) explain(op, name string, err error) error {
	where := l.dir
	if name != "" {
		where = fmt.Sprintf("%q in %s", name, l.dir)
	}
	reading := op == "read" || op == "open" && name != "" || op == "delete"
	if reading && missing(err) {
		return fmt.Errorf("store: %s %s: %w", op, where, ErrNotExist)
	}
	for _, h := range hints {
		if errors.Is(err, h.errno) {
			return fmt.Errorf("store: %s %s: %w: %s", op, where, err, h.say)
		}
	}
	return fmt.Errorf("store: %s %s: %w", op, where, err)
}
