package runners

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/promptmill/promptmill/runners/engine"
	"github.com/promptmill/promptmill/runners/flink"
	"github.com/promptmill/promptmill/runners/portable"
)

// A Finding is what Preflight says about one thing that a job needs.
type Finding struct {
	Name string
	OK   bool
	// Detail is what was found, or what is wrong and what to do about it.
	Detail string
}

// Faults joins the findings that are not well; nil if all are.
func Faults(all []Finding) error {
	var errs []error
	for _, f := range all {
		if !f.OK {
			errs = append(errs, fmt.Errorf("%s: %s", f.Name, f.Detail))
		}
	}
	return errors.Join(errs...)
}

// preflightPatience bounds all looks together.
const preflightPatience = 25 * time.Second

// Preflight looks at the engine of a job before anything is sent there: is the job server there, and
// Flink, are slots free, does a lost worker not end the job, is there a worker. It takes at most 25 s.
// In process there is nothing to look at.
func Preflight(ctx context.Context, j Job) []Finding {
	if j.Engine.InProcess(j.Runner) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, preflightPatience)
	defer cancel()
	var all []Finding
	look := func(name string, f func() (string, error)) {
		detail, err := f()
		if err != nil {
			detail = err.Error()
		}
		all = append(all, Finding{Name: name, OK: err == nil, Detail: detail})
	}
	look("worker", func() (string, error) { return lookAtWorker(j.Engine) })
	if j.Runner == engine.Dataflow {
		return all
	}
	look("job server", func() (string, error) {
		client, err := portable.Dial(ctx, j.Engine.Endpoint)
		if err != nil {
			return "", err
		}
		return "answers at " + j.Engine.Endpoint, client.Close()
	})
	if j.Runner == engine.Flink {
		cluster := flink.Open(j.Engine.RestURL)
		look("Flink", func() (string, error) { return lookAtSlots(ctx, cluster, j.Engine) })
		look("restart strategy", func() (string, error) { return lookAtRestart(ctx, cluster, j.Engine) })
	}
	return all
}

// lookAtWorker checks what can be seen from here; that the file is the launcher's is checked where it runs.
func lookAtWorker(c engine.Config) (string, error) {
	digest, err := workerDigest(c)
	if err != nil {
		return "", err
	}
	if c.Environment == engine.External {
		// The pool is on the engine's machines, at an address that may mean another machine here: so only
		// an address that is not this machine's is looked at.
		host, _, err := net.SplitHostPort(c.WorkerPool)
		if err != nil {
			return "", fmt.Errorf("engine.worker_pool: %w", err)
		}
		if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			conn, err := net.DialTimeout("tcp", c.WorkerPool, 5*time.Second)
			if err != nil {
				return "", fmt.Errorf("no worker pool at engine.worker_pool: %w; start promptmill worker-pool there", err)
			}
			if err := conn.Close(); err != nil {
				return "", err
			}
		}
	}
	return fmt.Sprintf("%s, file %.12s", c.Environment, digest), nil
}

func lookAtSlots(ctx context.Context, cluster *flink.Cluster, c engine.Config) (string, error) {
	o, err := cluster.Overview(ctx)
	if err != nil {
		return "", fmt.Errorf("engine.rest_url: %w", err)
	}
	if o.TaskManagers == 0 {
		return "", errors.New("the cluster has no TaskManager; start one")
	}
	if need := max(c.Parallelism, 1); o.FreeSlots < need {
		return "", fmt.Errorf("%d of %d slots are free and engine.parallelism needs %d: wait for other jobs (promptmill jobs), add TaskManagers or lower it", o.FreeSlots, o.Slots, need)
	}
	machines := o.TaskManagers
	if c.Parallelism > 0 {
		machines = min(machines, c.Parallelism)
	}
	if n := machines * c.SDKWorkerParallelism; c.Environment != engine.Loopback && n > c.Workers {
		return "", fmt.Errorf("up to %d TaskManagers x %d worker processes would each take 1/%d of the models' limits and together exceed them: set engine.workers to %d",
			machines, c.SDKWorkerParallelism, c.Workers, n)
	}
	return fmt.Sprintf("%s, %d TaskManagers, %d of %d slots free", o.Version, o.TaskManagers, o.FreeSlots, o.Slots), nil
}

func lookAtRestart(ctx context.Context, cluster *flink.Cluster, c engine.Config) (string, error) {
	r, err := cluster.Restart(ctx)
	if err != nil {
		return "", err
	}
	if !r.Sure() {
		return "", errors.New("the cluster has none, so one lost worker ends the job: set restart-strategy.type: fixed-delay in Flink's configuration (runners/flink/conf has one)")
	}
	cache := time.Duration(c.EnvironmentCacheMillis) * time.Millisecond
	if r.Delay > 0 && cache >= r.Delay {
		return "", fmt.Errorf("engine.environment_cache_millis is %s and the restart delay %s: a restarted job would be given its dead worker; keep it below", cache, r.Delay)
	}
	return fmt.Sprintf("%s, delay %s", r.Strategy, r.Delay), nil
}

// workerFile is the file that workers run, on this machine.
func workerFile(c engine.Config) (string, error) {
	if c.WorkerBinary != "" {
		return c.WorkerBinary, nil
	}
	return os.Executable()
}
