// Package flink talks to a Flink cluster's REST interface: what Beam's job API cannot do there (stop a
// job, find one again by its name) or does not say (slots, the restart strategy, progress).
//
// The folder also has local.sh, which starts a standalone cluster from published packages, and
// testserver, a stand-in for Beam's job server in tests.
package flink

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// A Cluster is a Flink session cluster. It is safe for concurrent use.
type Cluster struct {
	base string
	http http.Client
}

// Open names the cluster whose REST interface is at rest, as http://localhost:8081. It does not call it.
func Open(rest string) *Cluster {
	return &Cluster{base: strings.TrimRight(rest, "/"), http: http.Client{Timeout: 10 * time.Second}}
}

// A Job is one of the cluster's jobs.
type Job struct {
	ID string `json:"jid"`
	// Name is the name that the launcher gave: Beam's and Flink's are the same.
	Name string `json:"name"`
	// State is Flink's: CREATED, RUNNING, RESTARTING, FAILING, FINISHED, CANCELED, FAILED and others.
	State string `json:"state"`
	// StartMillis is Unix time in milliseconds.
	StartMillis int64 `json:"start-time"`
}

// Ended says whether the job will not run any more.
func (j Job) Ended() bool {
	return j.State == "FINISHED" || j.State == "CANCELED" || j.State == "FAILED"
}

// Jobs are the cluster's jobs, those that ended lately included.
func (c *Cluster) Jobs(ctx context.Context) ([]Job, error) {
	var answer struct {
		Jobs []Job `json:"jobs"`
	}
	err := c.get(ctx, "/jobs/overview", &answer)
	return answer.Jobs, err
}

// Running are the jobs of that name that have not ended.
func (c *Cluster) Running(ctx context.Context, name string) ([]Job, error) {
	all, err := c.Jobs(ctx)
	var found []Job
	for _, j := range all {
		if j.Name == name && !j.Ended() {
			found = append(found, j)
		}
	}
	return found, err
}

// Job looks at one job.
func (c *Cluster) Job(ctx context.Context, id string) (Job, error) {
	j, _, err := c.look(ctx, id)
	return j, err
}

// Progress is a text that changes whenever the job does something: a task changes its state, reads or
// writes records, or is started again.
func (c *Cluster) Progress(ctx context.Context, id string) (string, error) {
	_, progress, err := c.look(ctx, id)
	return progress, err
}

func (c *Cluster) look(ctx context.Context, id string) (Job, string, error) {
	var answer struct {
		Job
		Vertices []struct {
			Status  string         `json:"status"`
			Tasks   map[string]int `json:"tasks"`
			Metrics struct {
				Read    int64 `json:"read-records"`
				Written int64 `json:"write-records"`
			} `json:"metrics"`
		} `json:"vertices"`
		Timestamps map[string]int64 `json:"timestamps"`
	}
	if err := c.get(ctx, "/jobs/"+url.PathEscape(id), &answer); err != nil {
		return Job{}, "", err
	}
	return answer.Job, fmt.Sprint(answer.State, answer.Timestamps, answer.Vertices), nil
}

// Cause is why a job failed, or a part of it was last started again, in Flink's words, or "".
func (c *Cluster) Cause(ctx context.Context, id string) (string, error) {
	var answer struct {
		Root    string `json:"root-exception"`
		History struct {
			Entries []struct {
				Stack string `json:"stacktrace"`
			} `json:"entries"` // the newest first
		} `json:"exceptionHistory"`
	}
	err := c.get(ctx, "/jobs/"+url.PathEscape(id)+"/exceptions", &answer)
	if answer.Root == "" && len(answer.History.Entries) > 0 {
		return answer.History.Entries[0].Stack, err
	}
	return answer.Root, err
}

// Cancel asks for the end of a job; it ends a little later.
func (c *Cluster) Cancel(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodPatch, "/jobs/"+url.PathEscape(id)+"?mode=cancel", nil)
}

// CancelAll cancels all running jobs of that name and returns once none of them runs.
func (c *Cluster) CancelAll(ctx context.Context, name string) error {
	for {
		jobs, err := c.Running(ctx, name)
		if err != nil || len(jobs) == 0 {
			return err
		}
		for _, j := range jobs {
			if err := c.Cancel(ctx, j.ID); err != nil {
				return fmt.Errorf("cancel job %s on Flink: %w", name, err)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("job %s still runs on Flink: %w", name, context.Cause(ctx))
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// An Overview is what the cluster has.
type Overview struct {
	Version      string `json:"flink-version"`
	TaskManagers int    `json:"taskmanagers"`
	Slots        int    `json:"slots-total"`
	FreeSlots    int    `json:"slots-available"`
}

// Overview looks at the cluster.
func (c *Cluster) Overview(ctx context.Context) (o Overview, err error) {
	return o, c.get(ctx, "/overview", &o)
}

// A Restart is what a cluster does about a task that failed.
type Restart struct {
	// Strategy is none, fixed-delay, exponential-delay or failure-rate; "" is Flink's default, which for
	// batch jobs is none.
	Strategy string
	// Delay before a job starts again; 0 where the configuration does not say.
	Delay time.Duration
}

// Sure says whether a lost worker or TaskManager does not end the job.
func (r Restart) Sure() bool {
	switch r.Strategy {
	case "", "none", "off", "disable":
		return false
	}
	return true
}

// Restart reads the restart strategy in the cluster's configuration.
func (c *Cluster) Restart(ctx context.Context) (Restart, error) {
	var pairs []struct{ Key, Value string }
	if err := c.get(ctx, "/jobmanager/config", &pairs); err != nil {
		return Restart{}, err
	}
	settings := map[string]string{}
	for _, p := range pairs {
		settings[p.Key] = p.Value
	}
	r := Restart{Strategy: settings["restart-strategy.type"]}
	if r.Strategy == "" {
		r.Strategy = settings["restart-strategy"] // the key's name up to Flink 1.18
	}
	if delay, ok := settings["restart-strategy."+r.Strategy+".delay"]; ok {
		d, err := parseDuration(delay)
		if err != nil {
			return r, err
		}
		r.Delay = d
	}
	return r, nil
}

// parseDuration reads Flink's durations, as 500 ms, 1 s, 10s, 2 min, or milliseconds.
func parseDuration(s string) (time.Duration, error) {
	compact := strings.ReplaceAll(strings.TrimSpace(s), " ", "")
	if n, err := strconv.ParseInt(compact, 10, 64); err == nil {
		return time.Duration(n) * time.Millisecond, nil
	}
	if minutes, ok := strings.CutSuffix(compact, "min"); ok {
		compact = minutes + "m"
	}
	d, err := time.ParseDuration(compact)
	if err != nil {
		return 0, fmt.Errorf("flink: restart delay %q: %w", s, err)
	}
	return d, nil
}

func (c *Cluster) get(ctx context.Context, path string, into any) error {
	return c.do(ctx, http.MethodGet, path, into)
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 16 << 20

func (c *Cluster) do(ctx context.Context, method, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, nil)
	if err != nil {
		return fmt.Errorf("flink: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("flink: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("flink: %s %s: %w", method, path, err)
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("flink: %s %s: %s: %.200s", method, path, resp.Status, body)
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("flink: %s %s: %w; is this Flink's REST address?", method, path, err)
	}
	return nil
}
