//go:build engines

// These tests run on a real standalone Flink and take minutes: make test-engines.

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/promptmill/promptmill/model/modeltest/fakeserver"
	"github.com/promptmill/promptmill/runners/flink"
)

// A cluster is a running Flink with a job server.
type cluster struct {
	dir, endpoint, rest string
	// worker is this program under a name that nothing else has, so that its processes can be found.
	worker string
}

// startCluster starts Flink; a part that is missing fails the test.
func startCluster(t *testing.T) cluster {
	t.Helper()
	c := cluster{dir: filepath.Join(t.TempDir(), "flink")}
	out := c.local(t, "up")
	if _, err := fmt.Sscanf(out, "endpoint=%s rest_url=%s", &c.endpoint, &c.rest); err != nil {
		t.Fatalf("local.sh up says %q: %v", out, err)
	}
	t.Cleanup(func() { c.local(t, "down") })
	c.worker = filepath.Join(t.TempDir(), "flink-worker")
	self, err := os.Executable()
	if err == nil {
		err = os.Symlink(self, c.worker)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (c cluster) local(t *testing.T, what string) string {
	t.Helper()
	cmd := exec.Command("../../runners/flink/local.sh", what, c.dir)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("local.sh %s: %v\n%s", what, err, stderr.String())
	}
	return string(out)
}

// args are the demo on n prompts on the cluster.
func (c cluster) args(n int, out string, engine ...string) []string {
	engine = append([]string{"endpoint=" + c.endpoint, "rest_url=" + c.rest, "parallelism=2", "stall_after=60s", workerEnv, "worker_command=" + c.worker}, engine...)
	return append(small(engine...), "--runner", "flink", "--out", out, "--set", "select.prompts="+strconv.Itoa(n))
}

// inProcessRun runs the same in process.
func inProcessRun(t *testing.T, n int) summary {
	t.Helper()
	return succeed(t, append(small(), "--out", t.TempDir(), "--set", "select.prompts="+strconv.Itoa(n))...)
}

func sameRows(t *testing.T, got, want summary) {
	t.Helper()
	if got.Digest != want.Digest {
		t.Errorf("digest %s, in process %s", got.Digest, want.Digest)
	}
	if fmt.Sprint(got.Rows, got.Dead, got.Filtered) != fmt.Sprint(want.Rows, want.Dead, want.Filtered) {
		t.Errorf("ledger %v %v %v, in process %v %v %v", got.Rows, got.Dead, got.Filtered, want.Rows, want.Dead, want.Filtered)
	}
}

// TestFlink: the rows are those of a run in process, however workers start and whatever is killed.
func TestFlink(t *testing.T) {
	c := startCluster(t)
	want := inProcessRun(t, 12)

	t.Run("process", func(t *testing.T) {
		got := succeed(t, c.args(12, t.TempDir())...)
		sameRows(t, got, want)
		if got.Calls != want.Calls {
			t.Errorf("calls %v, in process %v", got.Calls, want.Calls)
		}
	})
	t.Run("external", func(t *testing.T) {
		sameRows(t, succeed(t, c.args(12, t.TempDir(), "environment=external", "worker_pool="+startPool(t))...), want)
	})
	t.Run("doctor", func(t *testing.T) {
		out, err := command(t, "doctor", "--runner", "flink", "--recipe", "demo", "--set", "engine.endpoint="+c.endpoint, "--set", "engine.rest_url="+c.rest).Output()
		for _, line := range []string{"job server", "Flink", "restart strategy"} {
			if !strings.Contains(string(out), "ok  "+line) {
				t.Errorf("doctor does not find the %s well: %v\n%s", line, err, out)
			}
		}
	})
	t.Run("old worker", func(t *testing.T) {
		old := filepath.Join(t.TempDir(), "old-promptmill")
		copyOlder(t, old)
		args := append(c.args(12, t.TempDir()), "--set", "engine.worker_command="+old)
		if said := fails(t, exitFailed, args...); strings.Count(said, "is another build") != 1 {
			t.Errorf("said %s", said)
		}
	})
	t.Run("no free slot", func(t *testing.T) {
		if said := fails(t, exitFailed, append(c.args(12, t.TempDir()), "--set", "engine.parallelism=9")...); !strings.Contains(said, "slots are free") {
			t.Errorf("said %s", said)
		}
	})
	t.Run("limits", func(t *testing.T) { c.limits(t) })
	t.Run("interrupt", func(t *testing.T) { c.interrupt(t) })
	longer := inProcessRun(t, many)
	t.Run("launcher lost", func(t *testing.T) { c.loseLauncher(t, longer) })
	t.Run("kills", func(t *testing.T) { c.kills(t, longer) })
}

// limits: however many workers there are, together they stay within the server's limit, no call is made
// twice, and the rows are the same.
func (c cluster) limits(t *testing.T) {
	const prompts = 12
	server := serve(t, fakeserver.Config{Slots: 4 * inFlight, Latency: 20 * time.Millisecond})
	recipe := served(t, server.URL, prompts, "")
	want := succeed(t, "preference", "--recipe", recipe, "--logical-date", "2026-01-31", "--json", "--quiet", "--out", t.TempDir())
	for _, workers := range []int{1, 2, 4} {
		server.ResetStats()
		args := []string{"preference", "--recipe", recipe, "--logical-date", "2026-01-31", "--json", "--quiet", "--runner", "flink", "--out", t.TempDir()}
		for _, set := range []string{
			"endpoint=" + c.endpoint, "rest_url=" + c.rest, workerEnv, "worker_command=" + c.worker,
			"parallelism=4", fmt.Sprintf("workers=%d", workers), fmt.Sprintf("sdk_worker_parallelism=%d", workers),
		} {
			args = append(args, "--set", "engine."+set)
		}
		start := time.Now()
		sameRows(t, succeed(t, args...), want)
		got := server.Stats()
		if got.MaxInFlight > inFlight || got.Repeated != 0 {
			t.Errorf("%d workers: %d requests at once, the limit is %d; %d made twice", workers, got.MaxInFlight, inFlight, got.Repeated)
		}
		t.Logf("%d workers: at most %d of %d at once, %d calls, the server worked %s, the job %s",
			workers, got.MaxInFlight, inFlight, got.Calls, got.Last.Sub(got.First).Round(time.Millisecond), time.Since(start).Round(time.Millisecond))
	}
}

// many is how many prompts make a job long enough to be hit.
const many = 300

// interrupt: Ctrl-C leaves no job on the cluster.
func (c cluster) interrupt(t *testing.T) {
	cmd := command(t, c.args(many, t.TempDir())...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.running(t, "preference")
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != exitInterrupted {
		t.Errorf("ended with %v, want exit code %d", err, exitInterrupted)
	}
	jobs, err := flink.Open(c.rest).Jobs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, j := range jobs {
		if !j.Ended() {
			t.Errorf("%s is %s", j.Name, j.State)
		}
	}
}

// loseLauncher: the job of a launcher that was killed goes on, and the same command follows it.
func (c cluster) loseLauncher(t *testing.T, want summary) {
	out := t.TempDir()
	lost := command(t, c.args(many, out)...)
	if err := lost.Start(); err != nil {
		t.Fatal(err)
	}
	c.running(t, "preference")
	if err := lost.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = lost.Wait()
	cmd := command(t, c.args(many, out)...)
	cmd.Args = withoutQuiet(cmd.Args)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdout, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	if !strings.Contains(stderr.String(), "following it") {
		t.Errorf("the job was not followed:\n%s", stderr.String())
	}
	if !strings.Contains(string(stdout), want.Digest) {
		t.Errorf("digest is not that of a run in process, %s: %s", want.Digest, stdout)
	}
}

func withoutQuiet(args []string) []string {
	var out []string
	for _, a := range args {
		if a != "--quiet" {
			out = append(out, a)
		}
	}
	return out
}

// kills: a worker, a TaskManager and, once the manifest is there, a TaskManager again are killed at random
// moments; the job finishes, its rows are exact and its manifest is never written twice. PROMPTMILL_KILLS
// is how often each of the first two is done.
func (c cluster) kills(t *testing.T, want summary) {
	rounds := 1
	if n, err := strconv.Atoi(os.Getenv("PROMPTMILL_KILLS")); err == nil {
		rounds = n
	}
	for i := range rounds {
		for _, victim := range []string{"worker", "TaskManager"} {
			t.Run(fmt.Sprintf("%s %d", victim, i), func(t *testing.T) {
				got, _ := c.killDuring(t, func(string) {
					c.running(t, "preference")
					time.Sleep(rand.N(4 * time.Second))
					c.kill(t, victim)
				})
				sameRows(t, got, want)
			})
		}
	}
	t.Run("after the manifest", func(t *testing.T) {
		var written []byte
		got, now := c.killDuring(t, func(out string) {
			for written == nil {
				written = manifest(t, out)
				time.Sleep(time.Millisecond)
			}
			c.kill(t, "TaskManager")
		})
		sameRows(t, got, want)
		if string(now) != string(written) {
			t.Errorf("the manifest changed after it was written:\n%s\n%s", written, now)
		}
	})
}

// killDuring runs a job while do does its worst, and returns what the job says and its manifest.
func (c cluster) killDuring(t *testing.T, do func(out string)) (summary, []byte) {
	t.Helper()
	out, done := t.TempDir(), make(chan struct{})
	go func() {
		defer close(done)
		do(out)
	}()
	got := succeed(t, c.args(many, out)...)
	<-done
	return got, manifest(t, out)
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

// running waits until a job of that set runs on Flink.
func (c cluster) running(t *testing.T, set string) {
	t.Helper()
	for range 600 {
		jobs, err := flink.Open(c.rest).Jobs(t.Context())
		if err != nil {
			t.Error(err)
			return
		}
		for _, j := range jobs {
			if strings.HasPrefix(j.Name, "promptmill-"+set) && j.State == "RUNNING" {
				return
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Errorf("no job of %s runs", set)
}

// kill ends all processes of the kind, as an out-of-memory killer does, and gives the cluster a new TaskManager.
func (c cluster) kill(t *testing.T, victim string) {
	t.Helper()
	mark := c.worker
	if victim == "TaskManager" {
		mark = "TaskManagerRunner"
	}
	killed := 0
	for range 100 {
		for _, pid := range c.processes(t, mark) {
			if err := syscall.Kill(pid, syscall.SIGKILL); err == nil {
				killed++
			}
		}
		if killed > 0 {
			break
		}
		time.Sleep(20 * time.Millisecond) // between two stages there is no worker
	}
	if killed == 0 && victim == "TaskManager" {
		t.Errorf("no %s to kill", victim)
	}
	t.Logf("killed %d (%s)", killed, victim)
	if victim == "TaskManager" {
		c.local(t, "taskmanager")
	}
}

// processes are those of this cluster with mark in their command line.
func (c cluster) processes(t *testing.T, mark string) []int {
	t.Helper()
	port := c.rest[strings.LastIndex(c.rest, ":")+1:]
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Error(err)
	}
	var pids []int
	for _, name := range lines {
		text, err := os.ReadFile(name)
		if err != nil || !strings.Contains(string(text), mark) {
			continue // it has ended
		}
		if mark == c.worker && !strings.Contains(string(text), "provision_endpoint") || mark != c.worker && !strings.Contains(string(text), "rest.port="+port) {
			continue
		}
		if pid, err := strconv.Atoi(strings.Split(name, "/")[2]); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}
