package runners_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"google.golang.org/protobuf/proto"

	"github.com/promptmill/promptmill/runners"
	"github.com/promptmill/promptmill/runners/engine"
)

const name = "promptmill-preference-run-0011aabb"

func init() { register.Function1x1(same) }

func same(b []byte) []byte { return b }

func TestMain(m *testing.M) {
	runners.Init()
	os.Exit(m.Run())
}

// pipeline is the least that an engine takes.
func pipeline() *beam.Pipeline {
	p, s := beam.NewPipelineWithRoot()
	beam.ParDo(s, same, beam.Impulse(s))
	return p
}

// said collects what people are told.
type said struct {
	mu    sync.Mutex
	lines []string
}

func (s *said) tell(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, line)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.lines, "\n")
}

func (e *fakeEngine) job(told *said) runners.Job {
	c := engine.Default()
	c.Endpoint, c.RestURL, c.StallAfter = e.endpoint, e.rest, 400*time.Millisecond
	return runners.Job{Runner: engine.Flink, Name: name, Engine: c.For(engine.Flink, false), Tell: told.tell}
}

func TestRun(t *testing.T) {
	e, told := startEngine(t), &said{}
	j := e.job(told)
	j.Engine.SDKWorkerParallelism, j.Engine.Workers, j.Engine.Parallelism = 2, 2, 3
	j.Engine.Options = map[string]string{"spark_history": "true", "labels": "a b"}
	j.Engine.WorkerEnv = map[string]string{"LANG": "C"}
	if err := runners.Run(t.Context(), j, pipeline()); err != nil {
		t.Fatal(err)
	}
	if len(e.prepared) != 1 {
		t.Fatalf("%d jobs", len(e.prepared))
	}
	got := e.prepared[0].GetPipelineOptions().AsMap()
	for option, want := range map[string]any{
		"sdk_worker_parallelism": 2.0, "environment_cache_millis": 500.0, "parallelism": 3.0, "spark_history": true, "labels": "a b", "job_name": name,
	} {
		if got["beam:option:"+option+":v1"] != want {
			t.Errorf("option %s is %v, want %v", option, got["beam:option:"+option+":v1"], want)
		}
	}
	goOptions, _ := got["beam:option:go_options:v1"].(map[string]any)["options"].(map[string]any)
	if hooks, _ := goOptions["hooks"].(string); !strings.Contains(hooks, "logging") {
		t.Errorf("no logging hook among the Go options: workers' logs would be lost: %v", goOptions)
	}
	if d, _ := goOptions["promptmill_worker"].(string); len(d) != 64 {
		t.Errorf("the worker's digest is %q", d)
	}
	for id, env := range e.prepared[0].GetPipeline().GetComponents().GetEnvironments() {
		var p pipepb.ProcessPayload
		if err := proto.Unmarshal(env.GetPayload(), &p); err != nil || p.GetCommand() == "" || p.GetEnv()["LANG"] != "C" {
			t.Errorf("environment %s: %v, %v", id, &p, err)
		}
		if len(env.GetDependencies()) != 0 {
			t.Errorf("environment %s has files to stage, and the worker has its file", id)
		}
	}
}

// A job that fails says why in one line: the DoFn's words, without Java's and Beam's layers.
func TestRunFails(t *testing.T) {
	e, told := startEngine(t), &said{}
	e.ends = func(int) jobpb.JobState_Enum { return jobpb.JobState_FAILED }
	err := runners.Run(t.Context(), e.job(told), pipeline())
	var job *runners.JobError
	if !errors.As(err, &job) || err.Error() != "job on flink failed: the judge is not configured" {
		t.Errorf("%v", err)
	}
	if job != nil && !strings.Contains(job.Full(), "instruction 7") {
		t.Errorf("the whole message is lost: %s", job.Full())
	}
}

// A stalled job is cancelled on Flink, whatever the job server says, and run again, and people hear of it.
func TestStall(t *testing.T) {
	e, told := startEngine(t), &said{}
	e.ends = func(n int) jobpb.JobState_Enum {
		if n == 0 {
			return jobpb.JobState_UNSPECIFIED
		}
		return jobpb.JobState_DONE
	}
	if err := runners.Run(t.Context(), e.job(told), pipeline()); err != nil {
		t.Fatal(err)
	}
	if len(e.prepared) != 2 || len(e.cancelled) != 1 || e.cancelled[0] != "job0" {
		t.Errorf("%d jobs, cancelled at Flink %v; want 2 and the first", len(e.prepared), e.cancelled)
	}
	if !strings.Contains(told.String(), "no progress for") || !strings.Contains(told.String(), "runs again (1 of 2 times)") {
		t.Errorf("told %q", told)
	}
}

func TestStallsForEver(t *testing.T) {
	e, told := startEngine(t), &said{}
	e.ends = func(int) jobpb.JobState_Enum { return jobpb.JobState_UNSPECIFIED }
	err := runners.Run(t.Context(), e.job(told), pipeline())
	if err == nil || !strings.Contains(err.Error(), "given up after 3 runs") {
		t.Errorf("%v", err)
	}
	if len(e.prepared) != 3 || len(e.cancelled) != 3 {
		t.Errorf("%d jobs, %d cancelled; want 3 and 3", len(e.prepared), len(e.cancelled))
	}
}

// A job that works for longer than the time allowed for a stall is left alone.
func TestWorkingIsNoStall(t *testing.T) {
	e, told := startEngine(t), &said{}
	e.ends = func(int) jobpb.JobState_Enum { return jobpb.JobState_UNSPECIFIED }
	e.working = true
	time.AfterFunc(1200*time.Millisecond, e.finish)
	if err := runners.Run(t.Context(), e.job(told), pipeline()); err != nil {
		t.Fatal(err)
	}
	if len(e.prepared) != 1 {
		t.Errorf("%d jobs; it worked all the time", len(e.prepared))
	}
}

// Ctrl-C: when Run returns, nothing runs on the cluster.
func TestCancel(t *testing.T) {
	e, told := startEngine(t), &said{}
	e.ends = func(int) jobpb.JobState_Enum { return jobpb.JobState_UNSPECIFIED }
	e.working = true
	ctx, stop := context.WithCancelCause(t.Context())
	why := errors.New("asked to stop")
	go func() {
		e.submitted(t, 1)
		stop(why)
	}()
	if err := runners.Run(ctx, e.job(told), pipeline()); !errors.Is(err, why) {
		t.Errorf("%v, want %v", err, why)
	}
	if e.asked != 1 || len(e.cancelled) != 1 || e.flink["job0"] != "CANCELED" {
		t.Errorf("asked the job server %d times, Flink for %v; the job is %s there", e.asked, e.cancelled, e.flink["job0"])
	}
}

// A job whose launcher was lost is found by its name and followed, at the job server, and on Flink when
// the job server was lost too; and it is cancelled by its name.
func TestFollow(t *testing.T) {
	for _, tt := range []struct {
		what       string
		serverLost bool
	}{{"job server knows it", false}, {"job server is a new one", true}} {
		t.Run(tt.what, func(t *testing.T) {
			e, told := startEngine(t), &said{}
			e.ends = func(int) jobpb.JobState_Enum { return jobpb.JobState_UNSPECIFIED }
			e.working = true
			if found, err := runners.Follow(t.Context(), e.job(told)); found || err != nil {
				t.Fatalf("found %v, %v; nothing runs", found, err)
			}
			lost, kill := context.WithCancel(t.Context())
			gone := make(chan error, 1)
			go func() {
				gone <- runners.Run(lost, e.job(told), pipeline())
			}()
			e.submitted(t, 1)
			if tt.serverLost {
				e.mu.Lock()
				e.prepared = nil
				e.mu.Unlock()
			}
			time.AfterFunc(time.Second/2, e.finish)
			found, err := runners.Follow(t.Context(), e.job(told))
			if !found || err != nil {
				t.Errorf("found %v, %v", found, err)
			}
			if !strings.Contains(told.String(), "following it") {
				t.Errorf("told %q", told)
			}
			if err := <-gone; err != nil {
				t.Errorf("the launcher that was not lost after all: %v", err)
			}
			kill()
		})
	}
}

func TestCancelByName(t *testing.T) {
	e, told := startEngine(t), &said{}
	e.ends = func(int) jobpb.JobState_Enum { return jobpb.JobState_UNSPECIFIED }
	e.working = true
	if err := runners.Cancel(t.Context(), e.job(told)); !errors.Is(err, runners.ErrNoJob) {
		t.Errorf("%v, want %v", err, runners.ErrNoJob)
	}
	done := make(chan error, 1)
	go func() { done <- runners.Run(t.Context(), e.job(told), pipeline()) }()
	e.submitted(t, 1)
	if err := runners.Cancel(t.Context(), e.job(told)); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err == nil || !strings.Contains(err.Error(), "was cancelled") {
		t.Errorf("the launcher heard %v", err)
	}
	all, err := runners.List(t.Context(), e.job(told).Engine)
	if err != nil || len(all) != 2 || all[0].State != "cancelled" || all[1].State != "CANCELED" {
		t.Errorf("%v, %v", all, err)
	}
}

// What a cluster lacks is found before anything is sent there.
func TestPreflight(t *testing.T) {
	for _, tt := range []struct {
		what   string
		change func(*fakeEngine, *engine.Config)
		want   string
	}{
		{"all is well", func(*fakeEngine, *engine.Config) {}, ""},
		{"no slot", func(e *fakeEngine, _ *engine.Config) { e.slots = 0 }, "0 of 4 slots are free"},
		{"too few slots", func(_ *fakeEngine, c *engine.Config) { c.Parallelism = 5 }, "engine.parallelism needs 5"},
		{"no TaskManager", func(e *fakeEngine, _ *engine.Config) { e.taskManagers = 0 }, "no TaskManager"},
		{"no restart strategy", func(e *fakeEngine, _ *engine.Config) { e.config = nil }, "set restart-strategy.type: fixed-delay"},
		{"old key", func(e *fakeEngine, _ *engine.Config) {
			e.config = []map[string]string{{"key": "restart-strategy", "value": "fixed-delay"}, {"key": "restart-strategy.fixed-delay.delay", "value": "10s"}}
		}, ""},
		{"cache above delay", func(_ *fakeEngine, c *engine.Config) { c.EnvironmentCacheMillis = 2000 }, "keep it below"},
		{"more workers than said", func(e *fakeEngine, _ *engine.Config) { e.taskManagers = 2 }, "set engine.workers to 2"},
		{"wrong job server", func(_ *fakeEngine, c *engine.Config) { c.Endpoint = "localhost:1" }, "no job server answers at localhost:1"},
		{"Flink's port as job server", func(_ *fakeEngine, c *engine.Config) { c.Endpoint = strings.TrimPrefix(c.RestURL, "http://") }, "job server"},
		{"wrong REST address", func(_ *fakeEngine, c *engine.Config) { c.RestURL = "http://localhost:1" }, "engine.rest_url"},
		{"no worker file", func(_ *fakeEngine, c *engine.Config) { c.WorkerBinary = "/nowhere/promptmill" }, "engine.worker_binary"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			e := startEngine(t)
			j := e.job(&said{})
			tt.change(e, &j.Engine)
			err := runners.Faults(runners.Preflight(t.Context(), j))
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("%v, want %q", err, tt.want)
			}
			if err == nil {
				return
			}
			if err := runners.Run(t.Context(), j, pipeline()); err == nil || len(e.prepared) != 0 {
				t.Errorf("the job was sent all the same: %v", err)
			}
		})
	}
}
