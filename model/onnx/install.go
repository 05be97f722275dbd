package onnx

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
)

// A pin is a published package that has the library: how a platform's package manager names it, its SHA-256, and the
// library's path in it.
type pin struct {
	platform, sum, member string
}

// pins are the wheels of onnxruntime 1.30.0 on PyPI for CPython 3.12 (any Python can fetch them), by GOOS/GOARCH.
var pins = map[string]pin{
	"linux/amd64":  {"manylinux_2_28_x86_64", "fa688e7891a6aa206636fe7372e27ee75fd17713289f6b4fc7b190e0a7de9328", "onnxruntime/capi/libonnxruntime.so." + Version},
	"linux/arm64":  {"manylinux_2_28_aarch64", "6c32a000d5139a38ba9349030b0032e3331acb559d596b22738d9d2b343a2b83", "onnxruntime/capi/libonnxruntime.so." + Version},
	"darwin/arm64": {"macosx_14_0_arm64", "001ed726c9bd5e2bc92faade7d37d889e9606a350b7d5529f0227df2e3bb57fd", "onnxruntime/capi/libonnxruntime." + Version + ".dylib"},
}

// nodeSum is the SHA-256 of the package onnxruntime-node 1.30.0 on npm, which has the library for all platforms.
const nodeSum = "6e3390d6b783e7be946fad629292799da28d0b42f84856e50d2c1b0383291e75"

var nodeMembers = map[string]string{
	"linux/amd64":  "package/bin/napi-v6/linux/x64/libonnxruntime.so.1",
	"linux/arm64":  "package/bin/napi-v6/linux/arm64/libonnxruntime.so.1",
	"darwin/arm64": "package/bin/napi-v6/darwin/arm64/libonnxruntime." + Version + ".dylib",
}

// Install fetches the library of version Version for this machine with pip or npm, whichever is there, into the user's
// cache folder, where Find looks, and returns its path. The package's SHA-256 must be the pinned one. What is
// installed already stays. Its errors wrap ErrLibrary and say what else can be done.
func Install(ctx context.Context) (string, error) {
	to, err := installed()
	if err != nil {
		return "", fmt.Errorf("%w: %w; set $%s to the library's file instead", ErrLibrary, err, LibraryVariable)
	}
	if _, err := os.Stat(to); err == nil {
		return to, nil
	}
	data, err := fetch(ctx)
	if err != nil {
		return "", fmt.Errorf("%w %s: %w\nother ways: install libonnxruntime %s of your system or from github.com/microsoft/onnxruntime and set $%s to its file, or use --models scene, which needs none",
			ErrLibrary, Version, err, Version, LibraryVariable)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return "", fmt.Errorf("%w: %w", ErrLibrary, err)
	}
	// Whoever looks meanwhile sees the whole file or none.
	part, err := os.CreateTemp(filepath.Dir(to), "part-*")
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrLibrary, err)
	}
	_, err = part.Write(data)
	if err = errors.Join(err, part.Close()); err == nil {
		err = os.Rename(part.Name(), to)
	}
	if err != nil {
		_ = os.Remove(part.Name())
		return "", fmt.Errorf("%w: %w", ErrLibrary, err)
	}
	return to, nil
}

// fetch returns the library's bytes.
func fetch(ctx context.Context) ([]byte, error) {
	here := runtime.GOOS + "/" + runtime.GOARCH
	wheel, ok := pins[here]
	if !ok {
		return nil, fmt.Errorf("no package is pinned for %s", here)
	}
	dir, err := os.MkdirTemp("", "promptmill-onnxruntime-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	var failed []error
	for _, tool := range [][]string{{"pip3"}, {"pip"}, {"python3", "-m", "pip"}, {"npm"}} {
		program, err := exec.LookPath(tool[0])
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: not found", tool[0]))
			continue
		}
		data, err := fetchWith(ctx, program, tool[1:], dir, wheel, nodeMembers[here])
		if err == nil {
			return data, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		failed = append(failed, fmt.Errorf("%s: %w", strings.Join(tool, " "), err))
	}
	return nil, fmt.Errorf("neither pip nor npm could fetch it:\n%w", errors.Join(failed...))
}

func fetchWith(ctx context.Context, program string, args []string, dir string, wheel pin, nodeMember string) ([]byte, error) {
	npm := filepath.Base(program) == "npm"
	if npm {
		args = append(args, "pack", "--silent", "onnxruntime-node@"+Version)
	} else {
		args = append(args, "download", "--quiet", "--no-deps", "--only-binary=:all:", "--python-version", "3.12",
			"--platform", wheel.platform, "--dest", dir, "onnxruntime=="+Version)
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, lastLine(out))
	}
	pattern, sum := "onnxruntime-*.whl", wheel.sum
	if npm {
		pattern, sum = "onnxruntime-node-*.tgz", nodeSum
	}
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(found) != 1 {
		return nil, fmt.Errorf("left %d files like %s, want 1", len(found), pattern)
	}
	archive, err := os.ReadFile(found[0])
	if err != nil {
		return nil, err
	}
	if got := sha256.Sum256(archive); hex.EncodeToString(got[:]) != sum {
		return nil, fmt.Errorf("%s has the SHA-256 %x, pinned is %s: not the package that was published", path.Base(found[0]), got, sum)
	}
	if npm {
		return fromTar(archive, nodeMember)
	}
	return fromZip(archive, wheel.member)
}

func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}

func fromZip(archive []byte, member string) ([]byte, error) {
	z, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		return nil, err
	}
	f, err := z.Open(member)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(f)
}

func fromTar(archive []byte, member string) ([]byte, error) {
	unzipped, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		return nil, err
	}
	for t := tar.NewReader(unzipped); ; {
		h, err := t.Next()
		if err != nil {
			return nil, fmt.Errorf("look for %s: %w", member, err)
		}
		if h.Name == member {
			return io.ReadAll(t)
		}
	}
}
