package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/runners/prism"

	"github.com/promptmill/promptmill/model/modeltest/fakeserver"
	"github.com/promptmill/promptmill/model/onnx"
)

// jobServer starts prism as a job server beside the launcher: this process is the engine, the launcher
// and the workers are others.
func jobServer(t *testing.T) (endpoint string) {
	t.Helper()
	lis, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	port := lis.Addr().(*net.TCPAddr).Port
	if err := lis.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := prism.CreateJobServer(t.Context(), prism.Options{Port: port}); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("localhost:%d", port)
}

// small is the demo on a few prompts with what an engine needs.
func small(engine ...string) []string {
	args := []string{"preference", "--recipe", "demo", "--models", "scene", "--logical-date", "2026-01-31", "--json", "--quiet", "--set", "select.prompts=12"}
	for _, e := range engine {
		args = append(args, "--set", "engine."+e)
	}
	return args
}

// workerEnv makes this test binary a worker when an engine starts it.
const workerEnv = "worker_env={" + asCommand + ": \"1\"}"

// startPool runs promptmill worker-pool as a process, with further variables in its environment, and returns
// its address.
func startPool(t *testing.T, env ...string) string {
	t.Helper()
	cmd := command(t, "worker-pool", "--listen", "localhost:0")
	cmd.Env = append(cmd.Env, env...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(cmd.Process.Signal(syscall.SIGTERM), ignoreExit(cmd.Wait())); err != nil {
			t.Error(err)
		}
	})
	var address string
	if _, err := fmt.Fscanf(stderr, "worker pool at %s\n", &address); err != nil {
		t.Fatalf("the pool does not say where it is: %v", err)
	}
	go func() { _, _ = io.Copy(io.Discard, stderr) }()
	return address
}

func ignoreExit(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil
	}
	return err
}

// The rows are the same in process and on a job server, whatever way workers start there.
func TestJobServer(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	want := succeed(t, append(small(), "--out", t.TempDir())...)
	if want.Rows["rewrite"] == 0 {
		t.Fatal("the pipeline made no pair: nothing is compared")
	}
	endpoint := jobServer(t)
	for _, tt := range []struct {
		environment string
		engine      []string
	}{
		{"loopback", nil},
		{"process", []string{workerEnv}},
		{"external", []string{"worker_pool=" + startPool(t)}},
	} {
		t.Run(tt.environment, func(t *testing.T) {
			settings := append([]string{"endpoint=" + endpoint, "environment=" + tt.environment}, tt.engine...)
			got := succeed(t, append(small(settings...), "--out", t.TempDir())...)
			if got.Digest != want.Digest {
				t.Errorf("digest %s, in process %s", got.Digest, want.Digest)
			}
			if fmt.Sprint(got.Rows, got.Dead, got.Filtered) != fmt.Sprint(want.Rows, want.Dead, want.Filtered) {
				t.Errorf("ledger %v %v %v, in process %v %v %v", got.Rows, got.Dead, got.Filtered, want.Rows, want.Dead, want.Filtered)
			}
		})
	}
}

// fails runs promptmill, which has to fail within 30 s, and returns what it says.
func fails(t *testing.T, code int, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := command(t, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	err := cmd.Wait()
	stop()
	if ctx.Err() != nil {
		t.Fatalf("promptmill %s did not end in 30 s\n%s", strings.Join(args, " "), stderr.String())
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != code {
		t.Errorf("promptmill %s: %v, want exit code %d\n%s", strings.Join(args, " "), err, code, stderr.String())
	}
	return stderr.String()
}

// What is wrong with an engine is one clear line, within 30 s.
func TestEngineFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	endpoint := jobServer(t)
	old := filepath.Join(t.TempDir(), "old-promptmill")
	copyOlder(t, old)
	for _, tt := range []struct {
		name   string
		code   int
		runner string
		engine []string
		want   string
	}{
		{"old worker", exitFailed, "prism", []string{"endpoint=" + endpoint, "environment=process", workerEnv, "worker_command=" + old}, "is another build"},
		{"wrong endpoint", exitFailed, "prism", []string{"endpoint=localhost:1", "environment=process"}, "no job server answers at localhost:1"},
		{"no endpoint", exitUsage, "flink", nil, "engine.endpoint: empty, and --runner flink needs the job server's address"},
		{"no pool", exitUsage, "spark", []string{"endpoint=" + endpoint, "environment=external"}, "engine.worker_pool: empty"},
		{"no image", exitUsage, "dataflow", nil, "engine.image: empty"},
		{"no CUDA device", exitFailed, "prism", nil, "provider cuda: "},
		{"limit below workers", exitUsage, "spark", []string{"endpoint=" + endpoint, "workers=4"}, "models.policy.concurrency: 3 requests at once cannot be divided over the 4 workers"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := append(small(tt.engine...), "--runner", tt.runner, "--out", t.TempDir())
			switch tt.name {
			case "limit below workers":
				args = append(args, "--set", "models.policy={backend: openai, endpoint: \"http://127.0.0.1:1\", model: m, revision: r, concurrency: 3}")
			case "no CUDA device":
				args = append(args, "--set", "models.images={backend: diffusion, model: "+tinySD(t)+", options: {provider: cuda}}")
			}
			said := fails(t, tt.code, args...)
			if strings.Count(said, tt.want) != 1 || len(said) > 1200 {
				t.Errorf("said\n%s\nwant once %q", said, tt.want)
			}
		})
	}
}

// What is wrong on a worker's machine alone is one clear line at the launcher, within 30 s.
func TestWorkerFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	server := []string{"--set", "engine.endpoint=" + jobServer(t)}
	t.Run("key", func(t *testing.T) { expiredKey(t, server...) })
	t.Run("library", func(t *testing.T) { missingLibrary(t, server...) })
}

// expiredKey: the reference to a key leads to another key on the worker's machine than here, one that the model
// server does not take any more.
func expiredKey(t *testing.T, flags ...string) {
	t.Setenv("MODEL_KEY", "fresh")
	pool := startPool(t, "MODEL_KEY=expired")
	server := fakeserver.New(t, fakeserver.Config{Key: "fresh"})
	args := append([]string{
		"preference", "--recipe", served(t, server.URL, 12, ""), "--quiet", "--out", t.TempDir(),
	}, flags...)
	for _, set := range []string{"engine.environment=external", "engine.worker_pool=" + pool} {
		args = append(args, "--set", set)
	}
	for _, role := range []string{"policy", "images", "judge"} {
		args = append(args, "--set", "models."+role+".api_key=env:MODEL_KEY")
	}
	oneLine(t, fails(t, exitFailed, args...), "server answered 401") // the port may hold a 401, too
}

// missingLibrary: the worker's machine lacks the library that a model in the worker needs.
func missingLibrary(t *testing.T, flags ...string) {
	args := append(slices.Concat(small("environment=external", "worker_pool="+startPool(t, onnx.LibraryVariable+"=/nowhere/libonnxruntime.so")), flags),
		"--out", t.TempDir(), "--set", fmt.Sprintf("models.images={backend: diffusion, model: %q}", tinySD(t)))
	oneLine(t, fails(t, exitFailed, args...), "/nowhere/libonnxruntime.so")
}

// engine.worker_concurrency caps a worker, however few workers there are.
func TestWorkerConcurrency(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	server := fakeserver.New(t, fakeserver.Config{Slots: inFlight, Latency: 2 * time.Millisecond})
	succeed(t, "preference", "--recipe", served(t, server.URL, 12, ""), "--json", "--quiet", "--out", t.TempDir(), "--set", "engine.endpoint="+jobServer(t),
		"--set", "engine.environment=process", "--set", "engine."+workerEnv, "--set", "engine.worker_concurrency=2")
	if got := server.Stats().MaxInFlight; got != 2 {
		t.Errorf("%d requests at once, the worker's cap is 2 and the server's limit %d", got, inFlight)
	}
}

// The manifest says what models in the process ran on, and that it was not what was wanted.
func TestDeviceInManifest(t *testing.T) {
	out := t.TempDir()
	args := append(small(), "--out", out, "--set", "select.prompts=2", "--set", "imagegen.steps=2", "--set", "gates.max_dead_fraction=1",
		"--set", "models.images={backend: diffusion, model: "+tinySD(t)+", options: {provider: auto, device_id: \"0\"}}")
	cmd := command(t, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if _, err := cmd.Output(); err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	if text := string(manifest(t, out)); strings.Contains(text, "ran on cuda:0") {
		t.Skip("not executed: this machine has CUDA")
	} else if !strings.Contains(text, "ran on cpu for want of cuda") {
		t.Errorf("the manifest does not say it:\n%.2000s", text)
	}
	if strings.Count(stderr.String(), "models run on the CPU") != 1 {
		t.Errorf("the fallback is not said once:\n%s", stderr.String())
	}
}

// manifest is the text of the preference run's manifest, or nil.
func manifest(t *testing.T, out string) []byte {
	t.Helper()
	var text []byte
	err := filepath.WalkDir(filepath.Join(out, "preference"), func(name string, _ fs.DirEntry, err error) error {
		if err == nil && filepath.Base(name) == "manifest.json" {
			text, err = os.ReadFile(name)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	return text
}

// tinySD is a Stable Diffusion folder in ONNX, of a few kilobytes.
func tinySD(t *testing.T) string {
	t.Helper()
	folder, err := filepath.Abs("../../model/diffusion/testdata/tiny_sd")
	if err != nil {
		t.Fatal(err)
	}
	return folder
}

// oneLine wants what a person can read: one line that has the cause once.
func oneLine(t *testing.T, said, cause string) {
	t.Helper()
	t.Logf("%s", said)
	if strings.Count(said, cause) != 1 || strings.Count(strings.TrimSpace(said), "\n") > 0 || len(said) > 800 {
		t.Errorf("said\n%s\nwant one line with %q once", said, cause)
	}
}

// copyOlder writes this program to name as another build: it does the same and has another digest.
func copyOlder(t *testing.T, name string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(self)
	if err == nil {
		err = os.WriteFile(name, append(data, "older"...), 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}
