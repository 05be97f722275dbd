// Package storetest is the contract of a store.Store as tests: every backend runs them. It also makes
// stores that fail on demand, for the tests of whatever writes to one.
package storetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/promptmill/promptmill/store"
)

// Run tests the store that open returns, each time on a new, empty root, which its URL opens again.
// Where the store can append, it starts the test binary again as a child to kill it, with the name of
// the test that called Run.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	if runChild(t.Context()) {
		return
	}
	for _, test := range []struct {
		name string
		run  func(*testing.T, store.Store)
	}{
		{"put", testPut},
		{"put race", testPutRace},
		{"create", testCreate},
		{"create race", testCreateRace},
		{"abort", testAbort},
		{"cancelled", testCancelled},
		{"large", testLarge},
		{"ranged reads", testRanges},
		{"swap", testSwap},
		{"swap race", testSwapRace},
		{"list", testList},
		{"names", testNames},
		{"missing", testMissing},
		{"delete", testDelete},
		{"blobs", testBlobs},
		{"append", testAppend},
		{"killed", testKilled},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

// again opens a second instance on the root of s, as another process would.
func again(t *testing.T, s store.Store) store.Store {
	t.Helper()
	other, err := store.Open(t.Context(), s.URL())
	if err != nil {
		t.Fatalf("open %s again: %v", s.URL(), err)
	}
	return other
}

func mustPut(t *testing.T, s store.Store, name, data string) {
	t.Helper()
	if err := s.PutIfAbsent(t.Context(), name, []byte(data)); err != nil {
		t.Fatal(err)
	}
}

func wantContent(t *testing.T, s store.Store, name, want string) {
	t.Helper()
	got, _, err := s.Read(t.Context(), name)
	if err != nil || string(got) != want {
		t.Errorf("%s holds %.40q, %v; want %.40q", name, got, err, want)
	}
}

func wantError(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error %v, want %v", what, err, want)
	}
}

func wantNames(t *testing.T, s store.Store, prefix string, want ...string) {
	t.Helper()
	var got []string
	for info, err := range s.List(t.Context(), prefix) {
		if err != nil {
			t.Fatalf("list %q: %v", prefix, err)
		}
		got = append(got, info.Name)
	}
	if !slices.Equal(got, want) {
		t.Errorf("list %q: %q, want %q", prefix, got, want)
	}
}

func testPut(t *testing.T, s store.Store) {
	mustPut(t, s, "a/b", "one")
	// The answer to our own put may be lost: the same again is no failure, anything else is.
	mustPut(t, s, "a/b", "one")
	for _, other := range []string{"two", "", "one more"} {
		wantError(t, "put other content", s.PutIfAbsent(t.Context(), "a/b", []byte(other)), store.ErrExists)
	}
	wantContent(t, s, "a/b", "one")
	mustPut(t, s, "empty", "")
	wantContent(t, again(t, s), "empty", "")
	wantContent(t, again(t, s), "a/b", "one")
	if err := s.Sync(t.Context()); err != nil {
		t.Error(err)
	}
}

// race runs n goroutines on two instances and returns how many succeeded; the others' errors wrap lost.
func race(t *testing.T, s store.Store, n int, lost error, try func(s store.Store, i int) error) int {
	t.Helper()
	stores := []store.Store{s, again(t, s)}
	var won atomic.Int64
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			switch err := try(stores[i%2], i); {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, lost):
				t.Errorf("writer %d: %v", i, err)
			}
		})
	}
	close(start)
	wg.Wait()
	return int(won.Load())
}

func testPutRace(t *testing.T, s store.Store) {
	for round := range 10 {
		name := fmt.Sprintf("dir-%d/one", round)
		won := race(t, s, 20, store.ErrExists, func(s store.Store, i int) error {
			return s.PutIfAbsent(t.Context(), name, []byte(strconv.Itoa(i)))
		})
		if won != 1 {
			t.Errorf("round %d: %d writers won, want 1", round, won)
		}
	}
}

func create(ctx context.Context, s store.Store, name string, chunks ...string) error {
	w, err := s.Create(ctx, name)
	if err != nil {
		return err
	}
	defer w.Abort()
	for _, c := range chunks {
		if _, err := io.WriteString(w, c); err != nil {
			return err
		}
	}
	return w.Commit()
}

func testCreate(t *testing.T, s store.Store) {
	ctx := t.Context()
	w, err := s.Create(ctx, "x/y")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, "hello"); err != nil {
		t.Fatal(err)
	}
	_, _, err = s.Read(ctx, "x/y")
	wantError(t, "read before Commit", err, store.ErrNotExist)
	wantNames(t, again(t, s), "")
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	w.Abort()
	wantContent(t, s, "x/y", "hello")
	if _, err := io.WriteString(w, "more"); err == nil {
		t.Error("a write after Commit succeeded")
	}
	if err := create(ctx, s, "x/y", "hel", "lo"); err != nil {
		t.Errorf("create with equal content: %v", err)
	}
	wantError(t, "create with other content", create(ctx, s, "x/y", "hallo"), store.ErrExists)
	wantContent(t, s, "x/y", "hello")
	wantNames(t, s, "", "x/y")
}

func testCreateRace(t *testing.T, s store.Store) {
	won := race(t, s, 20, store.ErrExists, func(s store.Store, i int) error {
		return create(t.Context(), s, "one", "writer ", strconv.Itoa(i))
	})
	if won != 1 {
		t.Errorf("%d writers won, want 1", won)
	}
}

func testAbort(t *testing.T, s store.Store) {
	w, err := s.Create(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, "half"); err != nil {
		t.Fatal(err)
	}
	w.Abort()
	w.Abort()
	if err := w.Commit(); err == nil {
		t.Error("Commit after Abort succeeded")
	}
	wantNames(t, s, "")
}

func testCancelled(t *testing.T, s store.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	w, err := s.Create(ctx, "x")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	cancel()
	if _, err := io.WriteString(w, "half"); err == nil {
		err = w.Commit()
		wantError(t, "commit", err, context.Canceled)
	}
	wantError(t, "put", s.PutIfAbsent(ctx, "y", nil), context.Canceled)
	_, err = s.CompareAndSwap(ctx, "z", "", nil)
	wantError(t, "swap", err, context.Canceled)
	wantNames(t, s, "")
}

func testLarge(t *testing.T, s store.Store) {
	const chunk, chunks = 1 << 20, 24
	w, err := s.Create(t.Context(), "large")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	sum := sha256.New()
	buf := make([]byte, chunk)
	for i := range chunks {
		for j := range buf {
			buf[j] = byte(i + j*j>>8)
		}
		sum.Write(buf)
		if _, err := w.Write(buf); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	o, err := again(t, s).Open(t.Context(), "large")
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if o.Size() != chunk*chunks {
		t.Errorf("size %d, want %d", o.Size(), chunk*chunks)
	}
	if got := hashOf(t, o); !bytes.Equal(got.Sum(nil), sum.Sum(nil)) {
		t.Error("read other bytes than written")
	}
}

func hashOf(t *testing.T, o store.Object) hash.Hash {
	t.Helper()
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(o, 0, o.Size())); err != nil {
		t.Fatal(err)
	}
	return h
}

func testRanges(t *testing.T, s store.Store) {
	mustPut(t, s, "digits", "0123456789")
	o, err := s.Open(t.Context(), "digits")
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	for _, r := range []struct {
		off  int64
		len  int
		want string
		err  error
	}{
		{0, 10, "0123456789", nil},
		{3, 4, "3456", nil},
		{8, 2, "89", nil},
		{8, 4, "89", io.EOF},
		{10, 1, "", io.EOF},
	} {
		buf := make([]byte, r.len)
		n, err := o.ReadAt(buf, r.off)
		if string(buf[:n]) != r.want || r.err != nil && !errors.Is(err, r.err) || r.err == nil && err != nil && !errors.Is(err, io.EOF) {
			t.Errorf("%d bytes at %d: %q, %v; want %q, %v", r.len, r.off, buf[:n], err, r.want, r.err)
		}
	}
}

func testMissing(t *testing.T, s store.Store) {
	ctx := t.Context()
	for range 2 { // on an empty root, then beside another object
		_, _, err := s.Read(ctx, "x/y")
		wantError(t, "read", err, store.ErrNotExist)
		_, err = s.Open(ctx, "x/y")
		wantError(t, "open", err, store.ErrNotExist)
		_, err = s.Open(ctx, "x")
		wantError(t, "open", err, store.ErrNotExist)
		if err := s.Delete(ctx, "x/y"); err != nil {
			t.Errorf("delete: %v", err)
		}
		mustPut(t, s, "x/z", "")
	}
	wantNames(t, s, "", "x/z")
}

func testDelete(t *testing.T, s store.Store) {
	ctx := t.Context()
	mustPut(t, s, "a/b/c", "1")
	mustPut(t, s, "a/d", "2")
	if err := again(t, s).Delete(ctx, "a/b/c"); err != nil {
		t.Fatal(err)
	}
	wantNames(t, s, "", "a/d")
	mustPut(t, s, "a/b/c", "3")
	wantContent(t, s, "a/b/c", "3")
	// Writers and deleters of neighbours do not disturb one another, nor do those of one object.
	race(t, s, 20, nil, func(s store.Store, i int) error {
		name := fmt.Sprintf("n/m/%d", i/2)
		for range 20 {
			if err := errors.Join(s.PutIfAbsent(ctx, name, nil), s.Delete(ctx, name)); err != nil {
				return err
			}
		}
		return nil
	})
	wantNames(t, s, "", "a/b/c", "a/d")
}

func testBlobs(t *testing.T, s store.Store) {
	ctx := t.Context()
	sha, err := store.PutBlob(ctx, s, []byte("picture"))
	if err != nil || sha != fmt.Sprintf("%x", sha256.Sum256([]byte("picture"))) {
		t.Fatalf("put blob: %q, %v", sha, err)
	}
	wantNames(t, s, "", "blobs/"+sha[:2]+"/"+sha)
	if again, err := store.PutBlob(ctx, s, []byte("picture")); err != nil || again != sha {
		t.Errorf("put blob again: %q, %v", again, err)
	}
	if data, err := store.GetBlob(ctx, s, sha); err != nil || string(data) != "picture" {
		t.Errorf("get blob: %q, %v", data, err)
	}
	if has, err := store.HasBlob(ctx, s, sha); err != nil || !has {
		t.Errorf("has blob: %v, %v", has, err)
	}
	if err := s.Delete(ctx, store.BlobName(sha)); err != nil {
		t.Fatal(err)
	}
	if has, err := store.HasBlob(ctx, s, sha); err != nil || has {
		t.Errorf("has deleted blob: %v, %v", has, err)
	}
	for _, missing := range []string{sha, "", "ab", "../../x", strings.Repeat("zz", 32)} {
		_, err = store.GetBlob(ctx, s, missing)
		wantError(t, "get blob "+missing, err, store.ErrNotExist)
	}
	// A crash of the machine leaves a short blob; damage of the disk one of the same length.
	mustPut(t, s, store.BlobName(sha), "pic")
	_, err = store.GetBlob(ctx, s, sha)
	wantError(t, "get short blob", err, store.ErrDamaged)
	if _, err := store.PutBlob(ctx, s, []byte("picture")); err != nil {
		t.Errorf("put over a short blob: %v", err)
	}
	wantContent(t, s, store.BlobName(sha), "picture")
}
