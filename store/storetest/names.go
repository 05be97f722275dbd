package storetest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/promptmill/promptmill/store"
)

func testList(t *testing.T, s store.Store) {
	wantNames(t, s, "")
	names := []string{"a", "b-c", "b/a", "b/z/1", "b/z/10", "b/z/2", "b0", "c/d"}
	for _, n := range names {
		mustPut(t, s, n, n)
	}
	wantNames(t, s, "", names...)
	wantNames(t, s, "b", names[1:7]...)
	wantNames(t, s, "b/", names[2:6]...)
	wantNames(t, s, "b/z/1", "b/z/1", "b/z/10")
	wantNames(t, s, "b/z/3")
	wantNames(t, s, "a/")
	wantNames(t, s, "nothing/here")
	for info, err := range s.List(t.Context(), "") {
		if err != nil || info.Name != "a" || info.Size != 1 {
			t.Errorf("first object: %+v, %v", info, err)
		}
		break // leaving early must end the listing
	}
	for _, prefix := range []string{"/", "../", "a//b", "a/../b"} {
		for _, err := range s.List(t.Context(), prefix) {
			wantError(t, "list "+prefix, err, store.ErrName)
		}
	}
}

func testNames(t *testing.T, s store.Store) {
	good := []string{
		"a b", "a#b", "a?b", "100%", "50%25", "naïve/猫", `back\slash`, "-", "..a", "a..", "...", ".hidden",
		"a/b/c/d/e/f", "q?x=1&y=2#z", "new\nline", "<>:\"|*", strings.Repeat("n", 200),
	}
	for _, n := range good {
		mustPut(t, s, n, n)
	}
	for _, n := range good {
		wantContent(t, again(t, s), n, n)
	}
	slices.Sort(good)
	wantNames(t, s, "", good...)

	ctx := t.Context()
	for _, n := range []string{"", "/", "/etc/passwd", "..", "../x", "a/../../x", "a/..", ".", "./a", "a//b", "a/", "a\x00b", ".store/tmp/x", "a/.store"} {
		wantError(t, fmt.Sprintf("put %q", n), s.PutIfAbsent(ctx, n, nil), store.ErrName)
		_, err := s.Create(ctx, n)
		wantError(t, fmt.Sprintf("create %q", n), err, store.ErrName)
		_, _, err = s.Read(ctx, n)
		wantError(t, fmt.Sprintf("read %q", n), err, store.ErrName)
		_, err = s.Open(ctx, n)
		wantError(t, fmt.Sprintf("open %q", n), err, store.ErrName)
		_, err = s.CompareAndSwap(ctx, n, "", nil)
		wantError(t, fmt.Sprintf("swap %q", n), err, store.ErrName)
		wantError(t, fmt.Sprintf("delete %q", n), s.Delete(ctx, n), store.ErrName)
	}
}
