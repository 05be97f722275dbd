package runners

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"golang.org/x/sync/errgroup"

	"github.com/promptmill/promptmill/runners/engine"
	"github.com/promptmill/promptmill/runners/flink"
	"github.com/promptmill/promptmill/runners/portable"
)

var (
	// errStalled ends a job that shows no progress.
	errStalled = errors.New("no progress")
	// errNotStopped says that a job may still run on its engine.
	errNotStopped = errors.New("the job may still run")
)

// runPortable runs p on a job server, and again if it stalls.
func runPortable(ctx context.Context, j Job, p *beam.Pipeline) error {
	if err := Faults(Preflight(ctx, j)); err != nil {
		return err
	}
	pool := j.Engine.WorkerPool
	if j.Engine.Environment == engine.Loopback {
		here, err := OpenPool("localhost:0")
		if err != nil {
			return err
		}
		here.Tell = func(text string) { j.tell("%s", text) }
		pool = here.Address()
		serving, stop := context.WithCancel(context.WithoutCancel(ctx))
		var g errgroup.Group
		g.Go(func() error { return here.Serve(serving) })
		defer func() {
			stop()
			if err := g.Wait(); err != nil {
				j.tell("%v", err)
			}
		}()
	}
	model, err := translate(ctx, p, j.Engine, pool)
	if err != nil {
		return err
	}
	digest, err := workerDigest(j.Engine)
	if err != nil {
		return err
	}
	s := portable.Submission{
		Name: j.Name, Pipeline: model, Options: options(j.Engine), Worker: map[string]string{digestOption: digest},
	}
	if j.Engine.StageWorker {
		if s.Stage, err = workerFile(j.Engine); err != nil {
			return err
		}
	}
	client, err := portable.Dial(ctx, j.Engine.Endpoint)
	if err != nil {
		return err
	}
	defer client.Close()
	for rerun := 0; ; rerun++ {
		id, err := client.Submit(ctx, s)
		if err != nil {
			return err
		}
		j.tell("job %s runs on %s", j.Name, j.Runner)
		err = j.tracked(client, id).follow(ctx)
		switch {
		case !errors.Is(err, errStalled):
			return err
		case rerun == j.Engine.MaxReruns:
			return fmt.Errorf("%w: given up after %d runs; what models answered is kept, so the same command goes on", err, rerun+1)
		}
		j.tell("%v: cancelled, runs again (%d of %d times); what models answered is kept", err, rerun+1, j.Engine.MaxReruns)
	}
}

// options are what the engine is told, by Beam's names.
func options(c engine.Config) map[string]any {
	all := map[string]any{
		"sdk_worker_parallelism": c.SDKWorkerParallelism, "environment_cache_millis": c.EnvironmentCacheMillis,
	}
	if c.Parallelism > 0 {
		all["parallelism"] = c.Parallelism
	}
	for name, text := range c.Options {
		var v any = text
		if json.Unmarshal([]byte(text), &v) != nil {
			v = text // not a number or the like: a text
		}
		all[name] = v
	}
	return all
}

// Follow waits for a job of that name that is under way on the engine, as one whose launcher was lost,
// as Run waits. found says whether there was one.
func Follow(ctx context.Context, j Job) (found bool, err error) {
	if j.Engine.InProcess(j.Runner) || j.Runner == engine.Dataflow {
		return false, nil
	}
	client, err := portable.Dial(ctx, j.Engine.Endpoint)
	if err != nil {
		return false, err
	}
	defer client.Close()
	t := j.tracked(client, "")
	if found, err = t.find(ctx); err != nil || !found {
		return false, err
	}
	j.tell("job %s is under way on %s: following it", j.Name, j.Runner)
	err = t.follow(ctx)
	if ctx.Err() != nil {
		return true, errors.Join(context.Cause(ctx), leftBehind(err))
	}
	if err != nil {
		return true, &JobError{Runner: j.Runner, err: err}
	}
	return true, nil
}

// A tracked job is one that is under way.
type tracked struct {
	Job
	client *portable.Client
	// id is the job server's, "" if it does not know the job (any more).
	id      string
	cluster *flink.Cluster
	events  atomic.Int64
}

func (j Job) tracked(client *portable.Client, id string) *tracked {
	t := &tracked{Job: j, client: client, id: id}
	if j.Runner == engine.Flink {
		t.cluster = flink.Open(j.Engine.RestURL)
	}
	return t
}

// find looks for the job by its name, at the job server and on Flink.
func (t *tracked) find(ctx context.Context) (bool, error) {
	jobs, err := t.client.Jobs(ctx)
	if err != nil {
		return false, err
	}
	for _, known := range jobs {
		if known.Name == t.Name && !known.State.Ended() {
			t.id = known.ID
		}
	}
	if t.cluster == nil {
		return t.id != "", nil
	}
	running, err := t.cluster.Running(ctx, t.Name)
	if len(running) == 0 {
		t.id = "" // prepared and never started, or its cluster is gone
	}
	return len(running) > 0, err
}

// follow waits for the job's end and cancels it if ctx ends or it stalls.
func (t *tracked) follow(ctx context.Context) error {
	watch, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	defer context.AfterFunc(ctx, func() { stop(context.Cause(ctx)) })()
	go t.watchdog(watch, stop)
	state, err := t.observe(watch)
	if watch.Err() != nil {
		why := context.Cause(watch)
		return errors.Join(why, t.cancel(context.WithoutCancel(ctx)))
	}
	if err != nil {
		return err
	}
	if state == portable.Cancelled {
		return fmt.Errorf("job %s was cancelled on %s", t.Name, t.Runner)
	}
	return nil
}

// observe follows the job at the job server or, where that does not know it or is lost, on Flink.
func (t *tracked) observe(ctx context.Context) (portable.State, error) {
	if t.id != "" {
		state, err := t.client.Watch(ctx, t.id, t.hear)
		var failed *portable.FailedError
		if err == nil || errors.As(err, &failed) || t.cluster == nil || ctx.Err() != nil {
			return state, err
		}
		t.tell("%v; the job is followed on Flink", err)
	}
	return t.observeCluster(ctx)
}

func (t *tracked) hear(m portable.Message) {
	t.events.Add(1)
	if m.Error && m.State != portable.Failed { // the last one is the job's error
		t.tell("%s: %.300s", t.Name, m.Text)
	}
}

// observeCluster asks Flink until the job of that name has ended.
func (t *tracked) observeCluster(ctx context.Context) (portable.State, error) {
	for {
		jobs, err := t.cluster.Jobs(ctx)
		if err != nil {
			return portable.Pending, err
		}
		var newest flink.Job
		for _, known := range jobs {
			if known.Name == t.Name && known.StartMillis >= newest.StartMillis {
				newest = known
			}
		}
		switch newest.State {
		case "FINISHED":
			return portable.Done, nil
		case "CANCELED":
			return portable.Cancelled, nil
		case "FAILED":
			why, err := t.cluster.Cause(ctx, newest.ID)
			return portable.Failed, errors.Join(&portable.FailedError{ID: newest.ID, Cause: why}, err)
		case "":
			return portable.Pending, fmt.Errorf("job %s is not on the Flink cluster any more; the same command runs it again", t.Name)
		}
		select {
		case <-ctx.Done():
			return portable.Running, context.Cause(ctx)
		case <-time.After(time.Second):
		}
	}
}
