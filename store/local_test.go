package store_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/store/storetest"
)

func TestLocal(t *testing.T) {
	storetest.Run(t, open)
}

func open(t *testing.T) store.Store {
	t.Helper()
	return openAt(t, t.TempDir())
}

func openAt(t *testing.T, url string) store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ url, want string }{
		{"out", filepath.Join(dir, "out")},
		{"./out/../a#b?c", filepath.Join(dir, "a#b?c")},
		{dir, dir},
		{"file://" + dir + "/x%20y", "file://" + dir + "/x%20y"},
		{"file://localhost" + dir, "file://localhost" + dir},
	} {
		if got := openAt(t, tt.url).URL(); got != tt.want {
			t.Errorf("Open(%s) is at %s, want %s", tt.url, got, tt.want)
		}
	}
	if names, err := filepath.Glob("*"); err != nil || !slices.Equal(names, []string{"file"}) {
		t.Errorf("opening made %q, %v", names, err)
	}
	for _, tt := range []struct {
		url string
		is  error
		say string
	}{
		{"", nil, "empty"},
		{"gs://bucket/out", store.ErrScheme, "not built in yet"},
		{"s3://KEY:SECRET@bucket", store.ErrScheme, "not built in yet"},
		{"file://out", nil, "file:///"},
		{"file:///a%zz", nil, "%25"},
		{file, syscall.ENOTDIR, "is a file, not a folder"},
		{file + "/below", syscall.ENOTDIR, "is a file, not a folder"},
	} {
		_, err := store.Open(t.Context(), tt.url)
		if err == nil || tt.is != nil && !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.say) {
			t.Errorf("Open(%s): %v, want %v with %q", tt.url, err, tt.is, tt.say)
		} else if strings.Contains(err.Error(), "SECRET") {
			t.Errorf("the error shows a secret: %v", err)
		}
	}
}

func TestLocalPercentURL(t *testing.T) {
	dir := t.TempDir()
	s := openAt(t, "file://"+dir+"/x%20y")
	if err := s.PutIfAbsent(t.Context(), "a", []byte("1")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "x y", "a")); err != nil {
		t.Error(err)
	}
}

// An object below another object is possible on a cloud store, not on a disk: the error must say so.
func TestLocalBelowAnObject(t *testing.T) {
	s := open(t)
	put := func(name string) error { return s.PutIfAbsent(t.Context(), name, nil) }
	if err := errors.Join(put("file"), put("dir/x")); err != nil {
		t.Fatal(err)
	}
	if err := put("file/x"); !errors.Is(err, syscall.ENOTDIR) || !strings.Contains(err.Error(), "is a file, not a folder") {
		t.Errorf("put below a file: %v", err)
	}
	if err := put("dir"); err == nil || !strings.Contains(err.Error(), "is a folder with other objects") {
		t.Errorf("put over a folder: %v", err)
	}
	if err := put(strings.Repeat("n", 256)); !errors.Is(err, syscall.ENAMETOOLONG) {
		t.Errorf("put under a long name: %v", err)
	}
	wantTemps(t, s.URL(), 0)
}

func TestLocalSymlinkOutside(t *testing.T) {
	s, outside := open(t), t.TempDir()
	if err := os.Symlink(outside, filepath.Join(s.URL(), "away")); err != nil {
		t.Fatal(err)
	}
	if err := s.PutIfAbsent(t.Context(), "away/x", []byte("1")); err == nil {
		t.Error("a write followed a link out of the store")
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
		t.Errorf("outside the store: %v, %v", left, err)
	}
}

// What killed processes left is removed a day later, what may still be written is not.
func TestLocalSweep(t *testing.T) {
	dir := t.TempDir()
	tmp := filepath.Join(dir, ".store", "tmp")
	if err := os.MkdirAll(tmp, 0o777); err != nil {
		t.Fatal(err)
	}
	for name, age := range map[string]time.Duration{"old": 25 * time.Hour, "young": 23 * time.Hour} {
		then := time.Now().Add(-age)
		path := filepath.Join(tmp, name)
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Chtimes(path, then, then)); err != nil {
			t.Fatal(err)
		}
	}
	if err := openAt(t, dir).PutIfAbsent(t.Context(), "x", nil); err != nil {
		t.Fatal(err)
	}
	wantTemps(t, dir, 1)
}

func TestLocalRemovesEmptyFolders(t *testing.T) {
	s := open(t)
	if err := errors.Join(
		s.PutIfAbsent(t.Context(), "a/b/c", nil),
		s.PutIfAbsent(t.Context(), "a/d", nil),
		s.Delete(t.Context(), "a/b/c"),
	); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(filepath.Join(s.URL(), "a")); err != nil || len(left) != 1 || left[0].Name() != "d" {
		t.Errorf("left in a: %v, %v", left, err)
	}
}

func wantTemps(t *testing.T, dir string, want int) {
	t.Helper()
	temps, err := os.ReadDir(filepath.Join(dir, ".store", "tmp"))
	if err != nil || len(temps) != want {
		t.Errorf("temporary files: %v, %v; want %d", temps, err, want)
	}
}

func BenchmarkLocalPut(b *testing.B) {
	s, err := store.Open(b.Context(), b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	data := bytes.Repeat([]byte("0123456789abcdef"), 50<<10/16)
	b.SetBytes(int64(len(data)))
	for i := 0; b.Loop(); i++ {
		copy(data, time.Now().String())
		if _, err := store.PutBlob(b.Context(), s, data); err != nil {
			b.Fatal(err)
		}
	}
}
