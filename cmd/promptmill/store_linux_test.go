package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMounts runs itself again in a mount namespace of its own, where it may mount a disk that is too
// small, and make it larger or read-only.
func TestMounts(t *testing.T) {
	const env = "PROMPTMILL_TEST_MOUNTS"
	if os.Getenv(env) == "" {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		child := exec.Command(self, "-test.run=^TestMounts$", "-test.v")
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
		t.Logf("%s", out)
		if err != nil {
			t.Error(err)
		}
		return
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("mount: %v", err)
	}
	defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }()
	remount := func(flags uintptr, options string) {
		t.Helper()
		if err := unix.Mount("", dir, "", unix.MS_REMOUNT|flags, options); err != nil {
			t.Fatal(err)
		}
	}
	clean := tiny(t, t.TempDir())
	want := succeed(t, clean...)
	args := append(clean[:len(clean)-1:len(clean)-1], dir)

	// The same command on a disk that grows by a few pages each time.
	var sizes []int
	for size := 4; ; size += 8 {
		remount(0, fmt.Sprintf("size=%dk", size))
		p := start(t, args...)
		if p.code() == exitDone {
			if got := p.summary(t); got.Digest != want.Digest {
				t.Errorf("at last with room: digest %s, want %s", got.Digest, want.Digest)
			}
			break
		}
		sizes = append(sizes, size)
		if p.code() != exitFailed || !strings.Contains(p.stderr.String(), "no space left") || size > 4096 {
			t.Fatalf("%d KiB: exit code %d: %s", size, p.code(), p.stderr.String())
		}
		wantNoHalfFiles(t, openStore(t, dir))
	}
	if len(sizes) == 0 {
		t.Error("the smallest disk was large enough")
	}
	t.Logf("too small, in KiB: %v", sizes)

	remount(unix.MS_RDONLY, "")
	// What is there is reported and verified without a write; anything new is refused.
	if p := start(t, "verify", "--out", dir); p.code() != exitDone {
		t.Errorf("verify on a read-only disk: %s", p.stderr.String())
	}
	if got := start(t, args...).summary(t); got.Digest != want.Digest {
		t.Errorf("the same command on a read-only disk: %+v", got)
	}
	p := start(t, append(args, "--run-id", "new")...)
	if p.code() != exitFailed || !strings.Contains(p.stderr.String(), "read-only") {
		t.Errorf("a new run on a read-only disk: exit code %d: %s", p.code(), p.stderr.String())
	}
	wantNoHalfFiles(t, openStore(t, dir))
}
