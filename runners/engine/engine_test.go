package engine_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/promptmill/promptmill/runners/engine"
)

func TestValidate(t *testing.T) {
	if err := engine.Default().Validate(); err != nil {
		t.Fatal(err)
	}
	bad := engine.Config{
		Endpoint: "localhost", RestURL: "http://me:pw@flink:8081", Environment: "vm", WorkerPool: "50000",
		WorkerEnv: map[string]string{"OPENAI_API_KEY": "x", "LANG": "C"}, Options: map[string]string{"auth_token": "x"},
		Parallelism: -1, WorkerConcurrency: -1, EnvironmentCacheMillis: -1, MaxReruns: 3,
		Dataflow: engine.DataflowConfig{StagingBucket: "s3://b", DiskGB: -1},
	}
	got := lines(bad.Validate())
	want := []string{
		"engine.endpoint", "engine.worker_pool", "engine.rest_url", "engine.environment", "engine.worker_env.OPENAI_API_KEY",
		"engine.options.auth_token", "engine.parallelism", "engine.workers", "engine.worker_concurrency", "engine.sdk_worker_parallelism",
		"engine.environment_cache_millis", "engine.stall_after", "engine.max_reruns", "engine.dataflow.disk_gb", "engine.dataflow.staging_bucket",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if strings.Contains(bad.Validate().Error(), "pw") {
		t.Error("a password is in the message")
	}
}

// Check names what is missing, for each runner and way of starting workers.
func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		runner string
		change func(*engine.Config)
		want   []string
	}{
		{"prism", func(*engine.Config) {}, nil},
		{"direct", func(*engine.Config) {}, nil},
		{"prism", func(c *engine.Config) { c.Endpoint, c.Environment = "h:1", engine.External }, []string{"engine.worker_pool"}},
		{"flink", func(*engine.Config) {}, []string{"engine.endpoint", "engine.rest_url"}},
		{"flink", func(c *engine.Config) { c.Endpoint, c.RestURL = "h:1", "http://h:2" }, nil},
		{"flink", func(c *engine.Config) { c.Endpoint, c.RestURL, c.Environment = "h:1", "http://h:2", engine.Docker }, []string{"engine.image"}},
		{"spark", func(*engine.Config) {}, []string{"engine.endpoint"}},
		{"dataflow", func(*engine.Config) {}, []string{"engine.image", "engine.dataflow.project", "engine.dataflow.region", "engine.dataflow.staging_bucket"}},
		{"dataflow", func(c *engine.Config) {
			c.Image, c.Environment = "i", engine.Process
			c.Dataflow = engine.DataflowConfig{Project: "p", Region: "r", StagingBucket: "gs://b"}
		}, []string{"engine.environment"}},
	} {
		c := engine.Default()
		tt.change(&c)
		if diff := cmp.Diff(tt.want, lines(c.For(tt.runner, false).Check(tt.runner))); diff != "" {
			t.Errorf("%s %+v: %s", tt.runner, c, diff)
		}
	}
}

func TestFor(t *testing.T) {
	cluster := engine.Default()
	cluster.Endpoint, cluster.Workers = "h:1", 4
	local := engine.Default()
	local.Workers = 4
	for _, tt := range []struct {
		c           engine.Config
		runner      string
		gpu         bool
		environment string
		workers     int
	}{
		{local, "prism", true, engine.Loopback, 1},
		{cluster, "prism", false, engine.Process, 4},
		{cluster, "flink", false, engine.Process, 4},
		{cluster, "flink", true, engine.External, 4},
		{cluster, "spark", false, engine.Process, 4},
		{cluster, "dataflow", true, engine.Docker, 4},
		{cluster, "direct", true, engine.Loopback, 1},
	} {
		got := tt.c.For(tt.runner, tt.gpu)
		if got.Environment != tt.environment || got.Workers != tt.workers {
			t.Errorf("%s, GPU %v: %s and %d workers, want %s and %d", tt.runner, tt.gpu, got.Environment, got.Workers, tt.environment, tt.workers)
		}
		if kept := got.EnvironmentCacheMillis > 0; kept != (tt.runner != "spark") {
			t.Errorf("%s keeps workers for %d ms", tt.runner, got.EnvironmentCacheMillis)
		}
	}
}

// However many workers there are, together they stay within the limit.
func TestShare(t *testing.T) {
	for _, tt := range []struct{ limit, workers, own, want int }{
		{64, 1, 0, 64}, {64, 2, 0, 32}, {64, 4, 0, 16}, {7, 2, 0, 3}, {64, 2, 8, 8}, {64, 8, 32, 8}, {0, 4, 0, 0}, {0, 4, 8, 8}, {4, 4, 0, 1},
	} {
		c := engine.Config{Workers: tt.workers, WorkerConcurrency: tt.own}
		got, err := c.Share(tt.limit)
		if err != nil || got != tt.want {
			t.Errorf("%d over %d workers capped at %d: %d, %v; want %d", tt.limit, tt.workers, tt.own, got, err, tt.want)
		}
		if tt.limit > 0 && got*tt.workers > tt.limit {
			t.Errorf("%d workers with %d each exceed %d", tt.workers, got, tt.limit)
		}
	}
	if _, err := (engine.Config{Workers: 4}).Share(3); err == nil {
		t.Error("3 requests at once were divided over 4 workers")
	}
}

func TestRoundTrip(t *testing.T) {
	full := engine.Config{
		Endpoint: "a:1", RestURL: "http://a:2", Environment: "process", WorkerCommand: "/w", WorkerEnv: map[string]string{"A": "b"},
		WorkerBinary: "/b", StageWorker: true, WorkerPool: "c:3", Image: "i", Parallelism: 1, Workers: 2, WorkerConcurrency: 3,
		SDKWorkerParallelism: 4, EnvironmentCacheMillis: 5, Options: map[string]string{"o": "p"}, StallAfter: time.Minute, MaxReruns: 1,
		Dataflow: engine.DataflowConfig{
			Project: "p", Region: "r", StagingBucket: "gs://b", ServiceAccount: "s", MachineType: "m",
			Accelerator: "a", DiskGB: 1, Subnetwork: "n", PublicIPs: true,
		},
	}
	text, err := json.Marshal(full)
	if err != nil {
		t.Fatal(err)
	}
	var got engine.Config
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(full, got); diff != "" {
		t.Error(diff)
	}
	for _, zero := range []string{`""`, ":0", "null", "false", "{}"} {
		if strings.Contains(string(text), zero) {
			t.Errorf("a field is not set in this test: %s holds %s", text, zero)
		}
	}
}

// lines are the paths that the faults of err begin with.
func lines(err error) []string {
	if err == nil {
		return nil
	}
	var paths []string
	for line := range strings.Lines(err.Error()) {
		path, _, _ := strings.Cut(line, ":")
		paths = append(paths, path)
	}
	return paths
}
