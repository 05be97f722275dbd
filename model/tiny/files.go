package tiny

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sync"
)

//go:embed weights
var files embed.FS

// places are where the models' files are in the binary.
var places = map[string]string{T2I: "weights/t2i", SFT: "weights/vlm-sft", Init: "weights/vlm-init"}

var writing sync.Mutex

// Folder writes the files of a model to the user's cache, unless they are there whole, and returns their folder. Models of
// other contents have other folders, so that versions of promptmill do not disturb each other.
func Folder(name string) (string, error) {
	place, ok := places[name]
	if !ok {
		return "", fmt.Errorf("tiny has no model %q", name)
	}
	source, err := fs.Sub(files, place)
	if err != nil {
		return "", err
	}
	digest, err := digestOf(source)
	if err != nil {
		return "", fmt.Errorf("tiny model %s: not in this binary: %w", name, err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("tiny model %s: %w; set $XDG_CACHE_HOME to a folder that can be written to", name, err)
	}
	writing.Lock()
	defer writing.Unlock()
	parent := filepath.Join(cache, "promptmill", "tiny")
	folder := filepath.Join(parent, name+"-"+digest[:16])
	if whole(source, folder) {
		return folder, nil
	}
	if err := replace(source, parent, folder); err != nil {
		return "", fmt.Errorf("tiny model %s: write its files to %s: %w", name, folder, err)
	}
	return folder, nil
}

func digestOf(source fs.FS) (string, error) {
	sum := sha256.New()
	err := walk(source, func(name string, data []byte) error {
		_, err := fmt.Fprintf(sum, "%s %x\n", name, sha256.Sum256(data))
		return err
	})
	return hex.EncodeToString(sum.Sum(nil)), err
}

// walk visits the files in the order of their paths.
func walk(source fs.FS, visit func(name string, data []byte) error) error {
	return fs.WalkDir(source, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(source, name)
		if err != nil {
			return err
		}
		return visit(name, data)
	})
}

var errDamaged = errors.New("differs")

// whole says whether folder has every file as it is in the binary.
func whole(source fs.FS, folder string) bool {
	return walk(source, func(name string, data []byte) error {
		there, err := os.ReadFile(filepath.Join(folder, filepath.FromSlash(name)))
		if err == nil && !bytes.Equal(there, data) {
			err = errDamaged
		}
		return err
	}) == nil
}

// replace writes the files beside folder and gives them its name in one step: other processes may do the same.
func replace(source fs.FS, parent, folder string) error {
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	temporary, err := os.MkdirTemp(parent, "."+path.Base(filepath.ToSlash(folder))+"-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temporary)
	fresh := filepath.Join(temporary, "new")
	err = walk(source, func(name string, data []byte) error {
		file := filepath.Join(fresh, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		return os.WriteFile(file, data, 0o644)
	})
	if err != nil {
		return err
	}
	if err := os.Rename(folder, filepath.Join(temporary, "old")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(fresh, folder); err != nil && !whole(source, folder) { // another process was faster
		return err
	}
	return nil
}
