package runners

import (
	"context"
	"fmt"
	"strings"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/util/hooks"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/runners/dataflow/dataflowlib"
	df "google.golang.org/api/dataflow/v1b3"
)

// dataflowOptions maps the settings to Dataflow's.
func dataflowOptions(j Job) *dataflowlib.JobOptions {
	c, d := j.Engine, j.Engine.Dataflow
	hooks.SerializeHooksToOptions()
	opts := &dataflowlib.JobOptions{
		Name: dataflowName(j.Name), Options: beam.PipelineOptions.Export(),
		Project: d.Project, Region: d.Region, TempLocation: strings.TrimRight(d.StagingBucket, "/") + "/tmp",
		ServiceAccountEmail: d.ServiceAccount, MachineType: d.MachineType, DiskSizeGb: d.DiskGB, Subnetwork: d.Subnetwork,
		NoUsePublicIPs: !d.PublicIPs, ContainerImage: c.Image, Experiments: []string{"use_runner_v2"},
		// The models' limits are divided by the number of workers: so it is fixed.
		NumWorkers: int64(c.Workers), MaxNumWorkers: int64(c.Workers), Algorithm: "NONE",
	}
	if d.Accelerator != "" {
		opts.DataflowServiceOptions = []string{"worker_accelerator=" + d.Accelerator}
	}
	return opts
}

// dataflowName keeps of a name what Dataflow takes: lower-case letters, digits and dashes, a letter first.
func dataflowName(name string) string {
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(name))
	return strings.Trim(clean, "-")
}

// TranslateDataflow is what a launch of p on Dataflow sends: the pipeline, where the resource hints are, and
// the job. Nothing is called, and no credentials are needed.
func TranslateDataflow(ctx context.Context, j Job, p *beam.Pipeline) (*pipepb.Pipeline, *df.Job, error) {
	model, opts, err := prepareDataflow(ctx, j, p)
	if err != nil {
		return nil, nil, err
	}
	job, err := dataflowlib.Translate(ctx, model, opts, workerURL(j, opts), modelURL(j, opts), opts.WorkerHash)
	return model, job, err
}

func prepareDataflow(ctx context.Context, j Job, p *beam.Pipeline) (*pipepb.Pipeline, *dataflowlib.JobOptions, error) {
	model, err := translate(ctx, p, j.Engine, "")
	if err != nil {
		return nil, nil, err
	}
	digest, err := workerDigest(j.Engine)
	if err != nil {
		return nil, nil, err
	}
	opts := dataflowOptions(j)
	opts.Options.Options[digestOption], opts.WorkerHash = digest, digest
	if opts.Worker, err = workerFile(j.Engine); err != nil {
		return nil, nil, err
	}
	return model, opts, nil
}

func staging(j Job, opts *dataflowlib.JobOptions) string {
	return strings.TrimRight(j.Engine.Dataflow.StagingBucket, "/") + "/staging/" + opts.Name
}

func workerURL(j Job, opts *dataflowlib.JobOptions) string {
	return staging(j, opts) + "/worker-" + opts.WorkerHash[:16]
}

func modelURL(j Job, opts *dataflowlib.JobOptions) string { return staging(j, opts) + "/model" }

// runDataflow launches p and waits for it. It needs Google's application default credentials.
func runDataflow(ctx context.Context, j Job, p *beam.Pipeline) error {
	model, opts, err := prepareDataflow(ctx, j, p)
	if err != nil {
		return err
	}
	launched, err := dataflowlib.Execute(ctx, model, opts, workerURL(j, opts), modelURL(j, opts), "", true)
	if err != nil {
		return fmt.Errorf("job %s on Dataflow: %w", opts.Name, err)
	}
	id, d := launched.JobID(), j.Engine.Dataflow
	j.tell("job %s runs on Dataflow as %s", opts.Name, id)
	client, err := dataflowlib.NewClient(ctx, "")
	if err != nil {
		return err
	}
	err = dataflowlib.WaitForCompletion(ctx, client, d.Project, d.Region, id)
	if ctx.Err() == nil {
		return err
	}
	asking, done := context.WithTimeout(context.WithoutCancel(ctx), cancelWithin)
	defer done()
	_, err = client.Projects.Locations.Jobs.Update(d.Project, d.Region, id, &df.Job{RequestedState: "JOB_STATE_CANCELLED"}).Context(asking).Do()
	if err != nil {
		return fmt.Errorf("%w: cancel job %s on Dataflow: %w", errNotStopped, id, err)
	}
	return context.Cause(ctx)
}
