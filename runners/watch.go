package runners

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/runners/portable"
)

// watchdog calls stop if the job shows no progress for long, or fails in a way that no restart mends.
// Where neither job server nor Flink tells any progress, nothing can be said and it waits.
func (t *tracked) watchdog(ctx context.Context, stop func(error)) {
	const leastLooks = 8 // within the time allowed
	every := min(t.Engine.StallAfter/leastLooks, 3*time.Second)
	var last string
	changed := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(every):
		}
		if cause := t.hopeless(ctx); cause != "" {
			stop(&portable.FailedError{ID: t.Name, Cause: cause})
			return
		}
		now, told := t.progress(ctx)
		if now != last || !told {
			last, changed = now, time.Now()
			continue
		}
		if idle := time.Since(changed); idle > t.Engine.StallAfter {
			stop(fmt.Errorf("job %s on %s: %w for %s", t.Name, t.Runner, errStalled, idle.Round(time.Second)))
			return
		}
	}
}

// hopeless is why Flink starts parts of the job again and again in vain, or "": a worker of another build,
// or a model that no request reaches, are the same at every restart.
func (t *tracked) hopeless(ctx context.Context) string {
	if t.cluster == nil {
		return ""
	}
	jobs, err := t.cluster.Running(ctx, t.Name)
	if err != nil {
		return ""
	}
	for _, job := range jobs {
		cause, err := t.cluster.Cause(ctx, job.ID)
		if err == nil && (strings.Contains(cause, otherBuild) || strings.Contains(cause, model.ErrConfig.Error())) {
			return cause
		}
	}
	return ""
}

// progress is a text that changes with the job's progress; told says whether anything tells it.
func (t *tracked) progress(ctx context.Context) (text string, told bool) {
	var fromServer string
	if t.id != "" {
		// A server that does not answer is no progress, and Flink may still tell.
		fromServer, _ = t.client.Progress(ctx, t.id)
	}
	told = fromServer != ""
	text = fmt.Sprint(t.events.Load(), fromServer)
	if t.cluster == nil {
		return text, told
	}
	jobs, err := t.cluster.Running(ctx, t.Name)
	if err != nil {
		return text, told
	}
	for _, job := range jobs {
		p, err := t.cluster.Progress(ctx, job.ID)
		if err == nil {
			text, told = text+job.ID+p, true
		}
	}
	return text, told
}

// cancelWithin bounds a cancel: a launcher that was asked to stop stops.
const cancelWithin = time.Minute

// cancel ends the job at the job server and on Flink and returns once neither runs it.
func (t *tracked) cancel(ctx context.Context) error {
	ctx, done := context.WithTimeout(ctx, cancelWithin)
	defer done()
	var asked error
	if t.id != "" {
		asked = t.client.Cancel(ctx, t.id)
	}
	// A job that the server was just about to hand to Flink appears there a little later: so it has to be
	// gone twice.
	for gone := 0; gone < 2; {
		ended, err := t.gone(ctx)
		switch {
		case err != nil:
			return fmt.Errorf("%w: cancel job %s on %s: %w; look with promptmill jobs", errNotStopped, t.Name, t.Runner, errors.Join(asked, err))
		case ended:
			gone++
		default:
			gone = 0
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: cancel job %s on %s: %w; look with promptmill jobs", errNotStopped, t.Name, t.Runner, errors.Join(asked, ctx.Err()))
		case <-time.After(time.Second / 2):
		}
	}
	return nil
}

// gone cancels what Flink runs of the job and says whether the job server has ended it.
func (t *tracked) gone(ctx context.Context) (bool, error) {
	if t.cluster != nil {
		if err := t.cluster.CancelAll(ctx, t.Name); err != nil {
			return false, err
		}
	}
	if t.id == "" {
		return true, nil
	}
	state, err := t.client.State(ctx, t.id)
	if err != nil && t.cluster != nil {
		return true, nil //nolint:nilerr // the job server is lost, and Flink runs nothing
	}
	return state.Ended(), err
}
