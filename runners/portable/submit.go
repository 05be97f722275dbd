package portable

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/util/hooks"
	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/runners/universal/runnerlib"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/util/grpcx"
	"google.golang.org/protobuf/types/known/structpb"
)

// A Submission is a job to run.
type Submission struct {
	// Name is how the job is found again.
	Name     string
	Pipeline *pipepb.Pipeline
	// Stage is the worker's file, sent to the job server; "" stages nothing, where workers have it.
	Stage string
	// Options are the engine's, by their Beam names without the beam:option: around them.
	Options map[string]any
	// Worker are options that each worker gets.
	Worker map[string]string
}

// Submit starts a job and returns the server's id of it.
func (c *Client) Submit(ctx context.Context, s Submission) (id string, err error) {
	opts, err := s.options()
	if err != nil {
		return "", fmt.Errorf("job %s: options: %w", s.Name, err)
	}
	if s.Stage == "" {
		for _, e := range s.Pipeline.GetComponents().GetEnvironments() {
			e.Dependencies = nil
		}
	} else if err := runnerlib.UpdateGoEnvironmentWorker(s.Stage, s.Pipeline); err != nil {
		return "", fmt.Errorf("job %s: worker file %s: %w", s.Name, s.Stage, err)
	}
	prep, err := c.jobs.Prepare(ctx, &jobpb.PrepareJobRequest{Pipeline: s.Pipeline, PipelineOptions: opts, JobName: s.Name})
	if err != nil {
		return "", c.fault("prepare job "+s.Name, err)
	}
	token := prep.GetStagingSessionToken()
	if s.Stage != "" {
		if err := c.stage(ctx, prep, s.Stage); err != nil {
			return "", fmt.Errorf("job %s: send worker file %s: %w", s.Name, s.Stage, err)
		}
	}
	run, err := c.jobs.Run(ctx, &jobpb.RunJobRequest{PreparationId: prep.GetPreparationId(), RetrievalToken: token})
	if err != nil {
		return "", c.fault("start job "+s.Name, err)
	}
	return run.GetJobId(), nil
}

// stage sends the worker's file to where the server wants it.
func (c *Client) stage(ctx context.Context, prep *jobpb.PrepareJobResponse, file string) (err error) {
	conn, err := grpcx.Dial(ctx, prep.GetArtifactStagingEndpoint().GetUrl(), patience)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	return runnerlib.StageViaPortableAPI(grpcx.WriteWorkerID(ctx, prep.GetPreparationId()), conn, file, prep.GetStagingSessionToken())
}

// options are the job's in Beam's form. The Go options carry the hooks: without them a worker sends no logs.
func (s Submission) options() (*structpb.Struct, error) {
	hooks.SerializeHooksToOptions()
	beam.PipelineOptions.LoadOptionsFromFlags(nil)
	goOptions := beam.PipelineOptions.Export()
	maps.Copy(goOptions.Options, s.Worker)
	all := map[string]any{
		"go_options": goOptions, "app_name": s.Name, "job_name": s.Name,
		"experiments": []string{"beam_fn_api"},
	}
	for _, name := range slices.Sorted(maps.Keys(s.Options)) {
		if _, taken := all[name]; taken {
			return nil, fmt.Errorf("%s is the client's own", name)
		}
		all[name] = s.Options[name]
	}
	urns := map[string]any{}
	for name, v := range all {
		urns["beam:option:"+name+":v1"] = v
	}
	text, err := json.Marshal(urns)
	if err != nil {
		return nil, err
	}
	out := &structpb.Struct{}
	return out, out.UnmarshalJSON(text)
}

// WorkerOptions are the Go options among what an engine gives a worker, Submission.Worker with them.
func WorkerOptions(opts *structpb.Struct) runtime.RawOptions {
	var all struct {
		Go runtime.RawOptions `json:"beam:option:go_options:v1"`
	}
	text, err := opts.MarshalJSON()
	if err == nil {
		err = json.Unmarshal(text, &all)
	}
	if err != nil {
		return runtime.RawOptions{} // not of this client's making: none of its options is there
	}
	return all.Go
}
