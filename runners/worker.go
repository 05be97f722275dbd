package runners

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"

	"github.com/apache/beam/sdks/v2/go/container/tools"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/harness"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/util/grpcx"

	"github.com/promptmill/promptmill/runners/portable"
)

// IsWorker says whether an engine started this process, by its arguments: as a worker, or as the first
// step of one (what PROCESS and container environments start), which asks the engine for the rest.
func IsWorker(args []string) bool {
	for _, a := range args {
		name, _, _ := strings.Cut(strings.TrimLeft(a, "-"), "=")
		if strings.HasPrefix(a, "-") && (name == "worker" || name == "provision_endpoint") {
			return true
		}
		if !strings.HasPrefix(a, "-") {
			return false // a subcommand: its flags are its own
		}
	}
	return false
}

// Work makes this process the worker that an engine wants. It returns when the engine has no more work
// for it, or with what is wrong.
func Work(args []string) error {
	fs := flag.NewFlagSet("worker", flag.ContinueOnError)
	worker := fs.Bool("worker", false, "")
	id := fs.String("id", "", "")
	engine := fs.String("provision_endpoint", "", "")
	for _, unused := range []string{"logging_endpoint", "control_endpoint", "artifact_endpoint", "status_endpoint", "semi_persist_dir", "options"} {
		fs.String(unused, "", "")
	}
	if err := fs.Parse(args); err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	if *worker { // the first step was a container's of Beam's own
		if err := flag.CommandLine.Parse(args); err != nil {
			return err
		}
		Init() // does not return
		return nil
	}
	if err := flag.CommandLine.Parse(nil); err != nil {
		return err
	}
	Init()
	ctx := grpcx.WriteWorkerID(context.Background(), strings.Trim(*id, "'")) // prism quotes it
	return work(ctx, *engine, runtime.GlobalOptions.Import)
}

// work asks the engine at provision where to connect and with which options, gives those to adopt, and
// works until the engine ends the connection. It refuses the work of a launcher that wants another worker.
//
// Beam's own worker start does not return when the connection ends, so that the workers of an engine
// that was killed would stay.
func work(ctx context.Context, provision string, adopt func(runtime.RawOptions)) error {
	info, err := tools.ProvisionInfo(ctx, provision)
	if err != nil {
		return fmt.Errorf("worker: ask the engine at %s: %w", provision, err)
	}
	control := info.GetControlEndpoint().GetUrl()
	if control == "" {
		control = provision // prism serves everything at one address
	}
	logging := info.GetLoggingEndpoint().GetUrl()
	if logging == "" {
		logging = provision
	}
	opts := portable.WorkerOptions(info.GetPipelineOptions())
	if why := unfit(opts.Options[digestOption]); why != "" {
		return errors.Join(errors.New(why), refuse(ctx, control, why))
	}
	adopt(opts)
	return harness.MainWithOptions(ctx, logging, control, harness.Options{
		StatusEndpoint: info.GetStatusEndpoint().GetUrl(), RunnerCapabilities: info.GetRunnerCapabilities(),
	})
}
