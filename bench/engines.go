package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/promptmill/promptmill/model/modeltest/fakeserver"
)

const (
	// perWorker is the cap of requests in flight of one worker; the server has room for more than all have.
	perWorker = slots / 4
	// enginePrompts are 16 row groups of the prompt set, which is what workers are given: work for two.
	enginePrompts = 1024
)

// A localFlink is a standalone Flink on this machine with a job server before it.
type localFlink struct{ dir, endpoint, rest string }

func startFlink(ctx context.Context, dir string) (localFlink, error) {
	f := localFlink{dir: filepath.Join(dir, "flink")}
	cmd := exec.CommandContext(ctx, "runners/flink/local.sh", "up", f.dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err == nil {
		_, err = fmt.Sscanf(string(out), "endpoint=%s rest_url=%s", &f.endpoint, &f.rest)
	}
	if err != nil {
		return f, errors.Join(fmt.Errorf("a local Flink: %w", err), f.stop())
	}
	return f, nil
}

func (f localFlink) stop() error {
	cmd := exec.Command("runners/flink/local.sh", "down", f.dir)
	cmd.Stderr = os.Stderr
	return cmd.Run()
}

// flags are those by which a command runs there, with so many worker processes.
func (f localFlink) flags(workers int) []string {
	out := []string{"--runner", "flink"}
	for _, set := range []string{
		"endpoint=" + f.endpoint, "rest_url=" + f.rest, "parallelism=4",
		fmt.Sprintf("workers=%d", workers), fmt.Sprintf("sdk_worker_parallelism=%d", workers),
	} {
		out = append(out, "--set", "engine."+set)
	}
	return out
}

// benchEngines measures on a local Flink what workers share and what an element costs beside prism.
func benchEngines(ctx context.Context, bin, dir string) (err error) {
	f, err := startFlink(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.stop()) }()
	if err := engineWorkers(ctx, bin, dir, f); err != nil {
		return err
	}
	return engineElements(ctx, bin, dir, f)
}

// engineWorkers runs the main job with one worker and two, with room for both and without.
func engineWorkers(ctx context.Context, bin, dir string, f localFlink) error {
	in := filepath.Join(dir, "engine-prompts.jsonl")
	if err := writePrompts(in, enginePrompts); err != nil {
		return err
	}
	fmt.Printf("engines: preference on a local Flink, %d prompts, %v a call, at most %d requests in flight a worker\n", enginePrompts, latency, perWorker)
	fmt.Printf("  %8s %8s %8s %14s %12s %8s\n", "limit", "workers", "calls", "calls/s", "in flight", "wall s")
	var rates []float64
	for i, run := range []engineRun{{2 * perWorker, 1}, {2 * perWorker, 2}, {perWorker, 1}, {perWorker, 2}} {
		stats, c, err := run.measure(ctx, bin, filepath.Join(dir, fmt.Sprintf("engine-%d", i)), in, f)
		if err != nil {
			return err
		}
		rates = append(rates, float64(stats.OK)/stats.Last.Sub(stats.First).Seconds())
		fmt.Printf("  %8d %8d %8d %14.0f %12d %8.1f\n", run.limit, run.workers, stats.OK, rates[i], stats.MaxInFlight, c.wall.Seconds())
		if stats.MaxInFlight > run.limit {
			return fmt.Errorf("%d requests in flight, the limit is %d", stats.MaxInFlight, run.limit)
		}
	}
	fmt.Printf("  2 workers / 1: %.2f where the limit is twice the cap, %.2f where it is the cap\n\n", rates[1]/rates[0], rates[3]/rates[2])
	return nil
}

// An engineRun is a limit of requests in flight and how many workers share it.
type engineRun struct{ limit, workers int }

// measure runs the main job on the prompts in a file, against a server of its own.
func (r engineRun) measure(ctx context.Context, bin, dir, prompts string, f localFlink) (fakeserver.Stats, cost, error) {
	var none fakeserver.Stats
	url, stop, err := startServer(ctx, "serve")
	if err != nil {
		return none, cost{}, err
	}
	defer stop()
	recipe := dir + ".yaml"
	if err := writeRecipe(recipe, prompts, url, r.limit, fmt.Sprintf(`name: bench-engines
rewrite: {continues: "", candidates: 2}
judge: {samples: 2}
engine: {worker_concurrency: %d}
`, perWorker)); err != nil {
		return none, cost{}, err
	}
	args := append([]string{"preference", "--recipe", recipe, "--out", dir, "--json", "--quiet"}, f.flags(r.workers)...)
	_, c, err := measured(exec.CommandContext(ctx, bin, args...))
	if err != nil {
		return none, c, err
	}
	stats, err := serverStats(ctx, url)
	if err == nil && stats.OK == 0 {
		err = errors.New("the server was never called")
	}
	return stats, c, err
}

// engineElements runs a pipeline that asks no model on few rows and on many, in process and on Flink: the
// difference is what an element costs.
func engineElements(ctx context.Context, bin, dir string, f localFlink) error {
	sizes := [2]int{pairRows / 20, pairRows}
	fmt.Printf("engines: sft of rewrite pairs, without a model\n  %-8s %14s %14s %12s\n", "", fmt.Sprintf("%d rows", sizes[0]), fmt.Sprintf("%d rows", sizes[1]), "us a row")
	var perRow []float64
	for _, on := range []struct {
		name  string
		flags []string
	}{{"prism", nil}, {"Flink", f.flags(1)}} {
		var walls [2]time.Duration
		for i, n := range sizes {
			in := filepath.Join(dir, fmt.Sprintf("engine-pairs-%d.jsonl", n))
			if err := writePairs(in, n); err != nil {
				return err
			}
			args := append([]string{
				"sft", "--recipe", "paper", "--json", "--quiet", "--out", filepath.Join(dir, fmt.Sprintf("engine-sft-%s-%d", on.name, n)),
				"--set", "sft.parts=[rewrite]", "--set", "heldout.benchmarks=[]", "--set", "gates.max_dead_fraction=0.05",
				"--set", fmt.Sprintf("pairs.inputs=[{name: pairs, path: %s, columns: {raw: raw_prompt}}]", in),
			}, on.flags...)
			out, c, err := measured(exec.CommandContext(ctx, bin, args...))
			if err != nil {
				return err
			}
			var got struct {
				Rows map[string]int64 `json:"rows"`
			}
			if err := json.Unmarshal(lastLine(out), &got); err != nil || got.Rows["rewrite"] == 0 {
				return fmt.Errorf("summary of sft, %s: %w", strings.TrimSpace(string(out)), err)
			}
			walls[i] = c.wall
		}
		perRow = append(perRow, float64((walls[1]-walls[0]).Microseconds())/float64(sizes[1]-sizes[0]))
		fmt.Printf("  %-8s %12.1f s %12.1f s %12.1f\n", on.name, walls[0].Seconds(), walls[1].Seconds(), perRow[len(perRow)-1])
	}
	fmt.Printf("  a row on Flink / on prism: %.2f; a job on Flink has some seconds besides\n\n", perRow[1]/perRow[0])
	return nil
}
