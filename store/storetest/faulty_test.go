package storetest_test

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/store/storetest"
)

func local(t *testing.T) store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// requests makes every kind of request and returns the first failure.
func requests(t *testing.T, s store.Store) error {
	ctx := t.Context()
	if err := s.PutIfAbsent(ctx, "put", []byte("1")); err != nil {
		return err
	}
	w, err := s.Create(ctx, "created")
	if err != nil {
		return err
	}
	defer w.Abort()
	_, werr := io.WriteString(w, "2")
	if err := w.Commit(); err != nil {
		return err
	} else if werr != nil {
		return fmt.Errorf("committed after %w", werr)
	}
	if _, _, err := s.Read(ctx, "put"); err != nil {
		return err
	}
	if _, err := s.CompareAndSwap(ctx, "swapped", "", []byte("3")); err != nil {
		return err
	}
	o, err := s.Open(ctx, "put")
	if err != nil {
		return err
	}
	defer o.Close()
	if _, err := o.ReadAt(make([]byte, 1), 0); err != nil {
		return err
	}
	for _, err := range s.List(ctx, "p") {
		if err != nil {
			return err
		}
	}
	f, err := s.(store.Appender).Append(ctx, "log")
	if err != nil {
		return err
	}
	defer f.Close()
	return errors.Join(f.Append([]byte("4")), f.Sync(), s.Delete(ctx, "put"), s.Sync(ctx))
}

func TestFaultyFailsEverywhere(t *testing.T) {
	var all []string
	ok := storetest.Faulty(local(t), func(op, name string) error {
		all = append(all, op+" "+name)
		return nil
	})
	if err := requests(t, ok); err != nil {
		t.Fatal(err)
	}
	const want = "append append.answer append_sync append_sync.answer append_write append_write.answer cas cas.answer commit commit.answer " +
		"create create.answer delete delete.answer list open open.answer put put.answer read read.answer read_at sync sync.answer write write.answer"
	var ops []string
	for _, a := range all {
		op, _, _ := strings.Cut(a, " ")
		ops = append(ops, op)
	}
	slices.Sort(ops)
	if got := strings.Join(slices.Compact(ops), " "); got != want {
		t.Errorf("asked about\n%s, want\n%s", got, want)
	}
	for k := range all {
		n := 0
		s := storetest.Faulty(local(t), func(string, string) error {
			if n++; n == k+1 {
				return syscall.ENOSPC
			}
			return nil
		})
		if err := requests(t, s); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("failure at %s: the caller saw %v", all[k], err)
		}
	}
}

func TestFaultyBeforeAndAfter(t *testing.T) {
	for op, applied := range map[string]bool{"put": false, "put.answer": true} {
		inner := local(t)
		s := storetest.Faulty(inner, func(o, _ string) error {
			if o == op {
				return syscall.EIO
			}
			return nil
		})
		if err := s.PutIfAbsent(t.Context(), "x", nil); !errors.Is(err, syscall.EIO) {
			t.Errorf("%s: %v", op, err)
		}
		if _, _, err := inner.Read(t.Context(), "x"); (err == nil) != applied {
			t.Errorf("%s: the object: %v, want applied %v", op, err, applied)
		}
	}
}

func TestFaultyURL(t *testing.T) {
	s := storetest.Faulty(local(t), func(op, _ string) error {
		if op == "sync" {
			return syscall.EIO
		}
		return nil
	})
	again, err := store.Open(t.Context(), s.URL())
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Sync(t.Context()); !errors.Is(err, syscall.EIO) {
		t.Errorf("the store at %s does not fail: %v", s.URL(), err)
	}
}

// The suite itself runs through a store that can fail and does not.
func TestFaultyConforms(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		return notAppender{storetest.Faulty(local(t), func(string, string) error { return nil })}
	})
}

// notAppender hides Append: a child process cannot open the URL of a Faulty store.
type notAppender struct{ store.Store }
