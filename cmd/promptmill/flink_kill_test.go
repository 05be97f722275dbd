//go:build engines

package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/promptmill/promptmill/model/modeltest/fakeserver"
)

// killed is what a job was like during which something was killed.
type killed struct {
	wall time.Duration
	// reruns is how often the launcher gave the job up as hanging and ran it again.
	reruns int
	// again and paid are requests sent, and answered, a second time.
	again, paid int
}

// kills: a worker, a TaskManager and, once the manifest is there, a TaskManager again are killed at random
// moments; the job finishes, its rows are exact, its manifest is written once, and no more requests are sent
// again than were in flight when something was killed. PROMPTMILL_KILLS is how often each of the first two
// is done.
func (c cluster) kills(t *testing.T) {
	const prompts = 48
	rounds := 1
	if n, err := strconv.Atoi(os.Getenv("PROMPTMILL_KILLS")); err == nil {
		rounds = n
	}
	server := fakeserver.New(t, fakeserver.Config{Slots: 4 * inFlight, Latency: 40 * time.Millisecond})
	recipe := served(t, server.URL, prompts, "")
	args := []string{"preference", "--recipe", recipe, "--logical-date", "2026-01-31", "--json"}
	want := succeed(t, slices.Concat(args, []string{"--quiet", "--out", t.TempDir()})...)
	total := server.Stats().OK
	all := map[string][]killed{}
	during := func(t *testing.T, victim string, due func(out string) bool) {
		server.ResetStats()
		got := c.killDuring(t, slices.Concat(args, c.flags()), victim, due, want)
		stats := server.Stats()
		got.again, got.paid = stats.Repeated, stats.PaidTwice
		// What was in flight at the kill, and at each end of a job that hung, may be asked again.
		if most := (1 + got.reruns) * inFlight; stats.Repeated > most || stats.PaidTwice > most {
			t.Errorf("%d requests sent again, %d answered again; %d may be", stats.Repeated, stats.PaidTwice, most)
		}
		if stats.Distinct != total {
			t.Errorf("%d different requests, undisturbed %d", stats.Distinct, total)
		}
		all[victim] = append(all[victim], got)
		t.Logf("%s killed: %+v", victim, got)
	}
	for i := range rounds {
		for _, victim := range []string{"worker", "TaskManager"} {
			t.Run(fmt.Sprintf("%s %d", victim, i), func(t *testing.T) {
				share := rand.Float64()
				t.Logf("at %.2f of the calls", share)
				during(t, victim, func(string) bool { return server.Stats().OK > int(share*float64(total)) })
			})
		}
	}
	t.Run("after the manifest", func(t *testing.T) {
		during(t, "TaskManager", func(out string) bool { return manifest(t, out) != nil })
	})
	for victim, list := range all {
		var sum, most killed
		for _, k := range list {
			sum.reruns, sum.again, sum.paid = sum.reruns+k.reruns, sum.again+k.again, sum.paid+k.paid
			most.again, most.wall = max(most.again, k.again), max(most.wall, k.wall)
		}
		t.Logf("%s killed in %d jobs of %d calls: %d hung and ran again; %d calls sent again (at most %d in a job, %d were in flight), %d answered twice; the longest job took %s, in process %.1f s",
			victim, len(list), total, sum.reruns, sum.again, most.again, inFlight, sum.paid, most.wall.Round(time.Second/10), want.WallS)
	}
}

// killDuring runs a job and kills a victim once it is due.
func (c cluster) killDuring(t *testing.T, args []string, victim string, due func(out string) bool, want summary) killed {
	t.Helper()
	out, over := t.TempDir(), make(chan struct{})
	var others sync.WaitGroup
	others.Go(func() {
		for !due(out) {
			select {
			case <-over:
				t.Error("the job ended before it was time to kill")
				return
			case <-time.After(time.Millisecond):
			}
		}
		c.kill(t, victim)
	})
	others.Go(func() { writtenOnce(t, out, over) })
	cmd := command(t, append(args, "--out", out)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	start := time.Now()
	stdout, err := cmd.Output()
	wall := time.Since(start)
	close(over)
	others.Wait()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	lines := strings.Split(strings.TrimSpace(string(stdout)), "\n")
	var got summary
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &got); err != nil {
		t.Fatalf("%v\n%s", err, stdout)
	}
	sameRows(t, got, want)
	return killed{wall: wall, reruns: strings.Count(stderr.String(), "runs again (")}
}

// writtenOnce looks at the manifest until the job is over: once there, it stays as it is.
func writtenOnce(t *testing.T, out string, over <-chan struct{}) {
	var written []byte
	for last := false; !last; {
		select {
		case <-over:
			last = true
		case <-time.After(5 * time.Millisecond):
		}
		now := manifest(t, out)
		switch {
		case written == nil:
			written = now
		case string(now) != string(written):
			t.Errorf("the manifest changed after it was written:\n%s\n%s", written, now)
			return
		}
	}
	if written == nil {
		t.Error("no manifest was seen")
	}
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
		time.Sleep(20 * time.Millisecond) // between two stages there is no worker for a moment
	}
	if killed == 0 {
		t.Errorf("no %s to kill", victim)
	}
	t.Logf("killed %d (%s)", killed, victim)
	if victim == "TaskManager" {
		c.local(t, "taskmanager")
	}
}
