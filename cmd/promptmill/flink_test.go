//go:build engines

// These tests run on a real standalone Flink and take minutes: make test-engines.

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
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
	c.worker = filepath.Join(t.TempDir(), "flink-worker")
	t.Cleanup(func() {
		c.local(t, "down")
		c.leftBehind(t)
	})
	out := c.local(t, "up")
	if _, err := fmt.Sscanf(out, "endpoint=%s rest_url=%s", &c.endpoint, &c.rest); err != nil {
		t.Fatalf("local.sh up says %q: %v", out, err)
	}
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

// leftBehind: after local.sh down nothing of the cluster runs, and only logs are there.
func (c cluster) leftBehind(t *testing.T) {
	t.Helper()
	for range 50 { // a worker notices within moments that its engine has gone
		if len(c.processes(t, "")) == 0 {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	for _, pid := range c.processes(t, "") {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		t.Errorf("process %d was left behind: %.200q, %v", pid, line, err)
	}
	for _, name := range []string{"pids", "ports"} {
		if _, err := os.Stat(filepath.Join(c.dir, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the file %s was left behind: %v", name, err)
		}
	}
}

// flags are those by which a command runs on the cluster.
func (c cluster) flags(engine ...string) []string {
	out := []string{"--runner", "flink"}
	for _, e := range append([]string{"endpoint=" + c.endpoint, "rest_url=" + c.rest, "parallelism=2", "stall_after=60s", workerEnv, "worker_command=" + c.worker}, engine...) {
		out = append(out, "--set", "engine."+e)
	}
	return out
}

// args are the demo on n prompts on the cluster.
func (c cluster) args(n int, out string) []string {
	return slices.Concat(small(), c.flags(), []string{"--out", out, "--set", "select.prompts=" + strconv.Itoa(n)})
}

// inProcessRun runs the same in process.
func inProcessRun(t *testing.T, n int) summary {
	t.Helper()
	return succeed(t, append(small(), "--out", t.TempDir(), "--set", "select.prompts="+strconv.Itoa(n))...)
}

// TestFlink: the rows are those of a run in process, however workers start and whatever is killed.
func TestFlink(t *testing.T) {
	c := startCluster(t)
	everywhere(t, map[string][]string{
		"process":  c.flags(),
		"external": c.flags("environment=external", "worker_pool="+startPool(t)),
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
	t.Run("worker without its key", func(t *testing.T) { expiredKey(t, c.flags()...) })
	t.Run("worker without its library", func(t *testing.T) { missingLibrary(t, c.flags()...) })
	t.Run("limits", func(t *testing.T) { c.limits(t) })
	t.Run("interrupt", func(t *testing.T) { c.interrupt(t) })
	t.Run("launcher lost", func(t *testing.T) { c.loseLauncher(t, inProcessRun(t, many)) })
	t.Run("kills", func(t *testing.T) { c.kills(t) })
}

// limits: however many workers there are, together they stay within the server's limit, no call is made
// twice, the rows are the same, and no worker alone has all the work.
func (c cluster) limits(t *testing.T) {
	const prompts = 200 // four row groups of the prompt set: one for each part of a stage
	server := fakeserver.New(t, fakeserver.Config{Slots: 4 * inFlight, Latency: 10 * time.Millisecond})
	var lines strings.Builder
	for i := range prompts {
		fmt.Fprintf(&lines, "a lighthouse with %d windows\n", i)
	}
	input := writeFile(t, t.TempDir(), "lines.txt", lines.String())
	preference := func(set ...string) []string {
		args := []string{"preference", "--recipe", served(t, server.URL, 1, ""), "--logical-date", "2026-01-31", "--json", "--quiet", "--out", t.TempDir()}
		for _, s := range append(set, "prompts.inputs=[{name: own, path: "+input+"}]", "rewrite.candidates=2", "judge.samples=2") {
			args = append(args, "--set", s)
		}
		return args
	}
	want := succeed(t, preference()...)
	for _, workers := range []int{1, 2, 4} {
		server.ResetStats()
		args := preference("engine.endpoint="+c.endpoint, "engine.rest_url="+c.rest, "engine."+workerEnv, "engine.worker_command="+c.worker,
			"engine.parallelism=4", fmt.Sprintf("engine.workers=%d", workers), fmt.Sprintf("engine.sdk_worker_parallelism=%d", workers))
		start := time.Now()
		sameRows(t, succeed(t, append(args, "--runner", "flink")...), want)
		got := server.Stats()
		if got.MaxInFlight > inFlight || got.Repeated != 0 {
			t.Errorf("%d workers: %d requests at once, the limit is %d; %d made twice", workers, got.MaxInFlight, inFlight, got.Repeated)
		}
		if share := inFlight / workers; workers > 1 && got.MaxInFlight <= share {
			t.Errorf("%d workers: %d requests at once, which is no more than the %d of one of them", workers, got.MaxInFlight, share)
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

// processes are those of this cluster, its workers too, with mark in their command line.
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
		if err != nil {
			continue // it has ended
		}
		args := strings.Split(string(text), "\x00")
		worker := args[0] == c.worker && strings.Contains(string(text), "provision_endpoint")
		// Flink's processes have the port as a setting, the job server as an argument.
		engine := c.rest != "" && args[0] == "java" && (slices.Contains(args, "rest.port="+port) || slices.Contains(args, port))
		if !worker && !engine || !strings.Contains(string(text), mark) {
			continue
		}
		if pid, err := strconv.Atoi(strings.Split(name, "/")[2]); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}
