package runners_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"github.com/promptmill/promptmill/model"
	_ "github.com/promptmill/promptmill/model/openai"  // backend openai
	_ "github.com/promptmill/promptmill/model/txt2img" // backend txt2img
	"github.com/promptmill/promptmill/pipelines/preference"
	"github.com/promptmill/promptmill/recipe"
	"github.com/promptmill/promptmill/runners"
	"github.com/promptmill/promptmill/runners/engine"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/parquetio"
	"github.com/promptmill/promptmill/transforms/snapshot"
)

// The preference pipeline as Dataflow would get it: nothing is called, so this says nothing about a run.
func TestTranslateDataflow(t *testing.T) {
	const secret = "sk-0123456789"
	t.Setenv("PROMPTMILL_TEST_KEY", secret)
	const image, gpu = "europe-docker.pkg.dev/p/r/promptmill-cuda:1", "type:nvidia-l4;count:1;install-nvidia-driver"
	c := engine.Default()
	c.Image, c.Workers = image, 4
	c.Dataflow = engine.DataflowConfig{
		Project: "proj", Region: "europe-west4", StagingBucket: "gs://bucket/promptmill/", ServiceAccount: "worker@proj.iam.gserviceaccount.com",
		MachineType: "g2-standard-8", Accelerator: gpu, DiskGB: 100, Subnetwork: "regions/europe-west4/subnetworks/s",
	}
	c = c.For(engine.Dataflow, true)
	if err := c.Check(engine.Dataflow); err != nil {
		t.Fatal(err)
	}
	r := bound(t, "env:PROMPTMILL_TEST_KEY")
	p, s := beam.NewPipelineWithRoot()
	preference.Build(s, withSink(t, r))
	pipeline, job, err := runners.TranslateDataflow(t.Context(), runners.Job{Runner: engine.Dataflow, Name: "promptmill-preference-2026-01-31-Run_1", Engine: c}, p)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(job)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		image, `"machineType":"g2-standard-8"`, "worker_accelerator=" + gpu, `"numWorkers":4`, `"maxNumWorkers":4`, `"JOB_TYPE_BATCH"`, "use_runner_v2",
		"worker@proj.iam.gserviceaccount.com", "regions/europe-west4/subnetworks/s", `"WORKER_IP_PRIVATE"`, "bucket/promptmill/tmp",
		"promptmill-preference-2026-01-31-run-1", "gs://bucket/promptmill/staging/promptmill-preference-2026-01-31-run-1/worker-",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the job lacks %s:\n%s", want, text)
		}
	}
	for id, env := range pipeline.GetComponents().GetEnvironments() {
		var d pipepb.DockerPayload
		if err := proto.Unmarshal(env.GetPayload(), &d); err != nil {
			t.Fatal(err)
		}
		if d.GetContainerImage() != image {
			t.Errorf("environment %s has image %q", id, d.GetContainerImage())
		}
		if got := string(env.GetResourceHints()["beam:resources:accelerator:v1"]); got != gpu {
			t.Errorf("environment %s has accelerator %q, want %q", id, got, gpu)
		}
	}
	if !strings.Contains(prototext.Format(pipeline), "rewrite.Sample") {
		t.Error("the pipeline is not the one that was built")
	}
	// The settings of DoFns are encoded in the graph: the reference is there, the secret nowhere.
	for what, bytes := range map[string][]byte{"job": text, "pipeline": marshal(t, pipeline)} {
		if strings.Contains(string(bytes), secret) {
			t.Errorf("the secret is in the %s", what)
		}
	}
}

func marshal(t *testing.T, p *pipepb.Pipeline) []byte {
	t.Helper()
	b, err := proto.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// bound is the paper's recipe with servers that want the key.
func bound(t *testing.T, key string) *recipe.Recipe {
	t.Helper()
	r, _, err := recipe.Load("paper", nil)
	if err != nil {
		t.Fatal(err)
	}
	chat := model.Spec{Backend: "openai", Endpoint: "http://127.0.0.1:1", Model: "m", Revision: "r", APIKey: key}
	r.Models = recipe.Models{Policy: chat, Judge: chat, Images: model.Spec{Backend: "txt2img", Endpoint: "http://127.0.0.1:2", Model: "m", Revision: "r", APIKey: key}}
	if err := r.Bind(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	return r
}

// withSink is the preference pipeline of r on a prompt set of one shard.
func withSink(t *testing.T, r *recipe.Recipe) preference.Config {
	t.Helper()
	c := preference.New(r)
	dir := t.TempDir()
	shard := schemas.Shard{Object: "prompts/p/0.parquet", Config: "prompts", Rows: 1, Bytes: 1, SHA256: strings.Repeat("0", 64)}
	c.Prompts = parquetio.ReadConfig{Store: dir, Shards: []schemas.Shard{shard}, Limit: 1}
	c.Sink, c.ShardRows = parquetio.WriteConfig{Store: dir, Dir: snapshot.RunDir("preference", "r")}, 10
	c.Snapshot = snapshot.Config{Store: dir, Header: snapshot.Header{Set: "preference", RunID: "r", LogicalDate: "2026-01-31"}}
	return c
}
