// Package runners launches pipelines: it maps the name of a runner and an engine's settings to Beam.
package runners

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	_ "github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/exec/optimized" // type-specialised function calls
	beamlog "github.com/apache/beam/sdks/v2/go/pkg/beam/log"
	_ "github.com/apache/beam/sdks/v2/go/pkg/beam/runners/direct" //nolint:staticcheck // deprecated, kept to compare rows with
	_ "github.com/apache/beam/sdks/v2/go/pkg/beam/runners/prism"  // the default
)

// ErrUnknown is wrapped by Check's error for a runner that is not built in.
var ErrUnknown = errors.New("unknown runner")

// Names are the runners that are built in. prism runs in process, in parallel; direct is Beam's old
// serial runner, kept to show that rows do not depend on the runner.
func Names() []string { return []string{"prism", "direct"} }

// Init prepares the process as a launcher or, when Beam started it as a worker, runs the worker and
// never returns. Call it before any pipeline is built.
func Init() {
	beamlog.LogLevel = "error"
	beam.Init()
}

// Check reports whether a runner is built in.
func Check(name string) error {
	for _, n := range Names() {
		if n == name {
			return nil
		}
	}
	return fmt.Errorf("%w %q: this build has %s", ErrUnknown, name, strings.Join(Names(), " and "))
}

// Run runs p to its end on the named runner. A cancelled context is an error that wraps its cause,
// even where the runner calls a cancelled job done.
func Run(ctx context.Context, name string, p *beam.Pipeline) error {
	if err := Check(name); err != nil {
		return err
	}
	_, err := beam.Run(ctx, name, p)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return &JobError{Runner: name, err: err}
	}
	return nil
}

// A JobError is a failed job. Its text is the cause that a DoFn returned, without the layers of bundle
// and stage names that Beam puts around it; Full has them all.
type JobError struct {
	Runner string
	err    error
}

// Full is Beam's whole message.
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
		if line == "" || strings.HasPrefix(line, "goroutine ") {
			break
		}
		if strings.HasPrefix(line, "DoFn[") && strings.HasSuffix(line, "failed:") {
			continue // the last layer of names stands above the cause
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "; ")
}
