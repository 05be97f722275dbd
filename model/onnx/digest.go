package onnx

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// Digest identifies what is in a model's folder: the SHA-256, in hex, over the paths and contents of the files in it
// that bear on its answers, sorted by path. Read-me files and hidden files do not count.
func Digest(folder string) (string, error) {
	sum := sha256.New()
	root, err := os.OpenRoot(folder)
	if err != nil {
		return "", err
	}
	defer func() { _ = root.Close() }()
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		switch hidden := strings.HasPrefix(path.Base(name), ".") && name != "."; {
		case err != nil:
			return err
		case hidden && d.IsDir():
			return fs.SkipDir
		case d.IsDir() || hidden || strings.EqualFold(path.Ext(name), ".md"):
			return nil
		}
		f, err := root.Open(name)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		content := sha256.New()
		if _, err := io.Copy(content, f); err != nil {
			return err
		}
		_, err = fmt.Fprintf(sum, "%s %x\n", name, content.Sum(nil))
		return err
	})
	if err != nil {
		return "", fmt.Errorf("digest of %s: %w", folder, err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
