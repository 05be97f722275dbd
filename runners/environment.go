package runners

import (
	"cmp"
	"context"
	"fmt"
	"os"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/graphx"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/options/resource"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/promptmill/promptmill/runners/engine"
)

// environmentURNs are Beam's names of environments.
var environmentURNs = map[string]string{
	engine.Loopback: graphx.URNEnvExternal,
	engine.External: graphx.URNEnvExternal,
	engine.Process:  graphx.URNEnvProcess,
	engine.Docker:   graphx.URNEnvDocker,
}

// translate makes p a description that any engine can read; its workers start as c says. pool is where
// they are found in environments external and loopback.
func translate(ctx context.Context, p *beam.Pipeline, c engine.Config, pool string) (*pipepb.Pipeline, error) {
	config, err := environmentConfig(c, pool)
	if err != nil {
		return nil, err
	}
	env, err := graphx.CreateEnvironment(ctx, environmentURNs[c.Environment], func(context.Context) string { return config })
	if err != nil {
		return nil, fmt.Errorf("worker environment %s: %w", c.Environment, err)
	}
	edges, _, err := p.Build()
	if err != nil {
		return nil, fmt.Errorf("build the pipeline: %w", err)
	}
	opts := &graphx.Options{Environment: env}
	if a := c.Dataflow.Accelerator; a != "" {
		opts.PipelineResourceHints = resource.NewHints(resource.Accelerator(a))
	}
	return graphx.Marshal(edges, opts)
}

// environmentConfig is what Beam wants to know about an environment: a command, an address or an image.
func environmentConfig(c engine.Config, pool string) (string, error) {
	switch c.Environment {
	case engine.External, engine.Loopback:
		return pool, nil
	case engine.Docker:
		return c.Image, nil
	}
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program's file: %w; write engine.worker_command", err)
	}
	// A PROCESS environment starts one path without arguments: the engine adds its own, by which the
	// program knows that it is a worker.
	text, err := protojson.Marshal(&pipepb.ProcessPayload{Command: cmp.Or(c.WorkerCommand, self), Env: c.WorkerEnv})
	return string(text), err
}

// workerDigest is the digest of the file that workers must be.
func workerDigest(c engine.Config) (string, error) {
	if c.WorkerBinary == "" {
		return selfDigest()
	}
	d, err := fileDigest(c.WorkerBinary)
	if err != nil {
		return "", fmt.Errorf("engine.worker_binary: %w", err)
	}
	return d, nil
}
