package store_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/promptmill/promptmill/store"
)

// TestLocalMounts runs itself again in a mount namespace of its own, where it may mount a small disk
// and a read-only one.
func TestLocalMounts(t *testing.T) {
	const env = "PROMPTMILL_STORE_MOUNTS"
	if os.Getenv(env) == "" {
		child := exec.Command(os.Args[0], "-test.run=^TestLocalMounts$", "-test.v")
		child.Env = append(os.Environ(), env+"=1")
		child.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		}
		out, err := child.CombinedOutput()
		if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) || strings.Contains(string(out), "--- SKIP") {
			t.Skipf("not executed: no mount namespaces here: %v", err)
		}
		if err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("mount: %v", err)
	}
	defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }()
	t.Run("full", func(t *testing.T) { testFull(t, dir) })
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Skipf("remount: %v", err)
	}
	t.Run("read-only", func(t *testing.T) { testReadOnly(t, dir) })
}

func testFull(t *testing.T, dir string) {
	ctx := t.Context()
	s := openAt(t, dir)
	if err := s.PutIfAbsent(ctx, "kept", []byte("kept")); err != nil {
		t.Fatal(err)
	}
	v, err := s.CompareAndSwap(ctx, "pointer", "", []byte("1"))
	if err != nil {
		t.Fatal(err)
	}
	log, err := s.(store.Appender).Append(ctx, "log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if err := log.Append([]byte("record 1\n")); err != nil {
		t.Fatal(err)
	}
	wantFull := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "the disk is full") {
			t.Errorf("%s on a full disk: %v", what, err)
		}
	}
	big := make([]byte, 1<<20)
	wantFull("put", s.PutIfAbsent(ctx, "big", big))
	_, err = s.CompareAndSwap(ctx, "pointer", v, big)
	wantFull("swap", err)
	wantFull("append", log.Append(big))
	w, err := s.Create(ctx, "streamed")
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = w.Write(big[:10<<10])
	}
	wantFull("write", err)
	wantFull("commit", w.Commit())
	w.Abort()
	wantTemps(t, dir, 0)

	// What was there is whole, and there is room to go on.
	if err := log.Append([]byte("record 2\n")); err != nil {
		t.Error(err)
	}
	var got []string
	for info, err := range s.List(ctx, "") {
		if err != nil {
			t.Fatal(err)
		}
		data, _, err := s.Read(ctx, info.Name)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s=%s", info.Name, data))
	}
	if want := "kept=kept,log=record 1\nrecord 2\n,pointer=1"; strings.Join(got, ",") != want {
		t.Errorf("the store holds %q, want %q", got, want)
	}
}

func testReadOnly(t *testing.T, dir string) {
	ctx := t.Context()
	s := openAt(t, dir)
	if data, _, err := s.Read(ctx, "kept"); err != nil || string(data) != "kept" {
		t.Errorf("read: %q, %v", data, err)
	}
	_, serr := s.CompareAndSwap(ctx, "x", "", nil)
	_, cerr := s.Create(ctx, "x")
	_, aerr := s.(store.Appender).Append(ctx, "x")
	_, oerr := store.Open(ctx, filepath.Join(dir, "new"))
	for what, err := range map[string]error{
		"put": s.PutIfAbsent(ctx, "x", nil), "swap": serr, "create": cerr, "append": aerr, "delete": s.Delete(ctx, "kept"),
	} {
		if !errors.Is(err, syscall.EROFS) || !strings.Contains(err.Error(), "read-only") {
			t.Errorf("%s on a read-only disk: %v", what, err)
		}
	}
	if err := errors.Join(oerr, s.Delete(ctx, "missing")); err != nil {
		t.Error(err)
	}
	o, err := s.Open(ctx, "log")
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if data, err := io.ReadAll(io.NewSectionReader(o, 0, o.Size())); err != nil || len(data) == 0 {
		t.Errorf("read: %q, %v", data, err)
	}
}
