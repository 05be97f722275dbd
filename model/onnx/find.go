package onnx

import (
	"os"
	"path/filepath"
)

// FindGraph is the path of the first of names that is a file in the folder or in its subfolder onnx, where exporters
// put graphs; "" if there is none.
func FindGraph(folder string, names ...string) string {
	for _, name := range names {
		for _, path := range []string{filepath.Join(folder, "onnx", name), filepath.Join(folder, name)} {
			if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
				return path
			}
		}
	}
	return ""
}
