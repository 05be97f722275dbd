package store

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrName says: a Store does not take such a name.
var ErrName = errors.New("not a name for an object")

// reserved is the folder of the local backend's temporary and lock files. No backend takes it as a
// segment of a name, so that a set can be copied from any store to any other.
const reserved = ".store"

// CheckName reports why name cannot name an object; the error wraps ErrName. Every backend calls it.
func CheckName(name string) error {
	if name == "" {
		return fmt.Errorf("%w: it is empty", ErrName)
	}
	if strings.ContainsRune(name, 0) {
		return fmt.Errorf("%w: %q has a zero byte", ErrName, name)
	}
	for segment := range strings.SplitSeq(name, "/") {
		if slices.Contains([]string{"", ".", "..", reserved}, segment) {
			return fmt.Errorf("%w: %q has the segment %q", ErrName, name, segment)
		}
	}
	return nil
}

// CheckPrefix does the same for the prefix of a listing, whose last segment may be cut short.
func CheckPrefix(prefix string) error {
	if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
		return CheckName(prefix[:i])
	}
	return nil
}
