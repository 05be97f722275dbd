// Package runners launches pipelines: in process, on Beam job servers in front of Flink and Spark, and on
// Dataflow; and it is the worker that those engines start.
//
// # Design
//
// The launcher and every worker are the same file. Configuration travels in the DoFns' exported fields,
// so a worker needs no flags and no recipe; secrets travel as references and are resolved where they are
// used. A worker whose file is not the launcher's refuses the job.
//
// Engines hang, and Beam's job API does not stop a job on Flink. So the launcher watches for progress,
// cancels through Flink itself, and runs a stalled job again: what models answered is in the response
// log, what shards were written is in no manifest, and a manifest that is written stands.
package runners

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	_ "github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/exec/optimized" // type-specialised function calls
	beamlog "github.com/apache/beam/sdks/v2/go/pkg/beam/log"
	_ "github.com/apache/beam/sdks/v2/go/pkg/beam/runners/direct" //nolint:staticcheck // deprecated, kept to compare rows with
	_ "github.com/apache/beam/sdks/v2/go/pkg/beam/runners/prism"  // the default

	"github.com/promptmill/promptmill/runners/engine"
)

// ErrUnknown is wrapped by Check's error for a runner that is not built in.
var ErrUnknown = errors.New("unknown runner")

// Init prepares the process as a launcher. Call it before any pipeline is built.
func Init() {
	beamlog.LogLevel = "error"
	beam.Init()
}

// Check reports whether a runner is built in.
func Check(name string) error {
	if slices.Contains(engine.Names(), name) {
		return nil
	}
	return fmt.Errorf("%w %q: this build has %s", ErrUnknown, name, strings.Join(engine.Names(), ", "))
}

// A Job is one run of a pipeline.
type Job struct {
	// Runner is one of engine.Names.
	Runner string
	// Name is how the job is found again on an engine: the same for every run of the same work.
	Name string
	// Engine has passed its Validate, For and Check.
	Engine engine.Config
	// Tell, if not nil, gets what people who wait should know; it may be called from several goroutines.
	Tell func(string)
}

func (j Job) tell(format string, args ...any) {
	if j.Tell != nil {
		j.Tell(fmt.Sprintf(format, args...))
	}
}

// Run runs p to its end. A cancelled context is an error that wraps its cause, even where the runner
// calls a cancelled job done; the job is then cancelled on its engine too, before Run returns. The error
// of a job that failed is a *JobError.
func Run(ctx context.Context, j Job, p *beam.Pipeline) error {
	if err := Check(j.Runner); err != nil {
		return err
	}
	if err := j.Engine.Check(j.Runner); err != nil {
		return err
	}
	var err error
	switch {
	case j.Engine.InProcess(j.Runner):
		_, err = beam.Run(ctx, j.Runner, p)
	case j.Runner == engine.Dataflow:
		err = runDataflow(ctx, j, p)
	default:
		err = runPortable(ctx, j, p)
	}
	if ctx.Err() != nil {
		return errors.Join(context.Cause(ctx), leftBehind(err))
	}
	if err != nil {
		return &JobError{Runner: j.Runner, err: err}
	}
	return nil
}

// leftBehind is err if it says that a cancelled job may still run.
func leftBehind(err error) error {
	if errors.Is(err, errNotStopped) {
		return err
	}
	return nil
}

// A JobError is a failed job. Its text is the cause that a DoFn returned, without the layers of bundle
// and stage names that Beam and engines put around it; Full has them all.
type JobError struct {
	Runner string
	err    error
}

// Full is the engine's whole message.
func (e *JobError) Full() string { return e.err.Error() }

func (e *JobError) Unwrap() error { return e.err }

func (e *JobError) Error() string {
	return fmt.Sprintf("job on %s failed: %s", e.Runner, cause(e.err.Error()))
}

// cause takes the innermost message out of Beam's nested ones: each layer stands under a
// "caused by:" line, and the last is what the DoFn said.
func cause(msg string) string {
	if i := strings.LastIndex(msg, "caused by:"); i >= 0 {
		msg = msg[i+len("caused by:"):]
	}
	var lines []string
	for line := range strings.Lines(strings.TrimSpace(msg)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "goroutine ") || strings.HasPrefix(line, "at ") {
			break // what follows is a stack
		}
		if strings.HasPrefix(line, "DoFn[") && strings.HasSuffix(line, "failed:") {
			continue // the last layer of names stands above the cause
		}
		lines = append(lines, javaNames(line))
	}
	return strings.Join(lines, "; ")
}

// javaNames takes the names of Java's exceptions from the front of a line.
func javaNames(line string) string {
	for {
		name, rest, ok := strings.Cut(line, ": ")
		if !ok || strings.ContainsAny(name, " /") || !strings.HasSuffix(name, "Exception") && !strings.HasSuffix(name, "Error") {
			return line
		}
		line = rest
	}
}
