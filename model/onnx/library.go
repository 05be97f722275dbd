package onnx

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	ort "github.com/yalue/onnxruntime_go"
)

// Version is the version of ONNX Runtime that Install fetches and results were measured with.
const Version = "1.30.0"

// LibraryVariable is the environment variable that names the library's file and goes before every other place.
const LibraryVariable = "PROMPTMILL_ONNXRUNTIME"

// ErrLibrary is wrapped by every error that says that ONNX Runtime is not there or not usable.
var ErrLibrary = errors.New("ONNX Runtime")

// Find returns the library's file: the one that LibraryVariable names, the one that Install fetched, or one
// in the system's library folders. Without any the error says how to get it.
func Find() (string, error) {
	if path := os.Getenv(LibraryVariable); path != "" {
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("%w: $%s: %w; correct it, or unset it", ErrLibrary, LibraryVariable, err)
		}
		return path, nil
	}
	var looked []string
	if path, err := installed(); err == nil {
		looked = append(looked, path)
	}
	for _, dir := range systemFolders {
		looked = append(looked, filepath.Join(dir, fileName))
	}
	for _, path := range looked {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%w: not found (looked for %s): run `promptmill doctor --install`, or set $%s to libonnxruntime.so of version 1.27 or later",
		ErrLibrary, strings.Join(looked, ", "), LibraryVariable)
}

var systemFolders = []string{"/usr/local/lib", "/usr/lib", "/usr/lib64", "/usr/lib/" + map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH] + "-linux-gnu", "/opt/onnxruntime/lib"}

var fileName = map[bool]string{false: "libonnxruntime.so", true: "libonnxruntime.dylib"}[runtime.GOOS == "darwin"]

// installed is where Install puts the library.
func installed() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(cache, "promptmill", "onnxruntime-"+Version, fileName), nil
}

// noTelemetry is the environment variable by which ONNX Runtime is told not to keep a database of its sessions in the user's
// cache folder and not to send it to its makers, as the published builds of 1.30 would.
const noTelemetry = "ORT_DISABLE_TELEMETRY"

// The library reads the variable when it is loaded; here nothing runs yet that could read the environment meanwhile.
func init() {
	if _, said := os.LookupEnv(noTelemetry); !said {
		_ = os.Setenv(noTelemetry, "1") // the name is a valid one
	}
}

// Start finds and loads the library, once a process. Everything in this package that needs it calls it.
func Start() error { return start() }

// Loaded is the version of the library that Start loaded.
func Loaded() string { return ort.GetVersion() }

var start = sync.OnceValue(func() error {
	path, err := Find()
	if err != nil {
		return err
	}
	ort.SetSharedLibraryPath(path)
	if err := ort.InitializeEnvironment(ort.WithLogLevelError()); err != nil {
		return fmt.Errorf("%w: load %s: %w; it must be for %s/%s and of version 1.27 or later", ErrLibrary, path, err, runtime.GOOS, runtime.GOARCH)
	}
	return nil
})
