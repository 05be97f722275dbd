//go:build !linux

package store

import "os"

// A folder is an os.Root.
type folder struct{ *os.Root }

func openFolder(dir string) (*folder, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &folder{root}, nil
}
