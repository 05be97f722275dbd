package storetest

import (
	"context"
	"errors"
	"strconv"
	"testing"

	"github.com/promptmill/promptmill/store"
)

func testSwap(t *testing.T, s store.Store) {
	ctx := t.Context()
	_, err := s.CompareAndSwap(ctx, "p", "no such version", []byte("x"))
	wantError(t, "swap a missing object", err, store.ErrConflict)
	v1, err := s.CompareAndSwap(ctx, "p", "", []byte("one"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.CompareAndSwap(ctx, "p", "", []byte("uno"))
	wantError(t, "create over it", err, store.ErrConflict)
	if _, v, err := again(t, s).Read(ctx, "p"); err != nil || v != v1 {
		t.Errorf("read version %q, %v; want %q", v, err, v1)
	}
	v2, err := again(t, s).CompareAndSwap(ctx, "p", v1, []byte("two"))
	if err != nil || v2 == v1 {
		t.Fatalf("second swap: version %q after %q, %v", v2, v1, err)
	}
	_, err = s.CompareAndSwap(ctx, "p", v1, []byte("three"))
	wantError(t, "swap an old version", err, store.ErrConflict)
	wantContent(t, s, "p", "two")
	wantNames(t, s, "", "p")
}

func testSwapRace(t *testing.T, s store.Store) {
	const n = 50
	race(t, s, n, nil, func(s store.Store, _ int) error { return increment(t.Context(), s, "count") })
	wantContent(t, s, "count", strconv.Itoa(n))
}

// increment adds one to the number in an object, trying again when another writer was first.
func increment(ctx context.Context, s store.Store, name string) error {
	for {
		data, v, err := s.Read(ctx, name)
		if err != nil && !errors.Is(err, store.ErrNotExist) {
			return err
		}
		n := 0
		if len(data) > 0 {
			if n, err = strconv.Atoi(string(data)); err != nil {
				return err
			}
		}
		_, err = s.CompareAndSwap(ctx, name, v, []byte(strconv.Itoa(n+1)))
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}
