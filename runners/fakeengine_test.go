package runners_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"google.golang.org/grpc"
)

// A fakeEngine is a job server before a Flink cluster, both of which do what a test says. What it stands
// for, a job server that says yes to a cancel and a cluster that goes on, was seen on Beam's own.
type fakeEngine struct {
	jobpb.UnimplementedJobServiceServer

	endpoint, rest string
	server         *grpc.Server

	// ends says how the nth job ends, counted from 0; "" stays as it is for ever.
	ends func(n int) jobpb.JobState_Enum
	// working makes a job that does not end show progress.
	working bool
	// slots, taskManagers and config are what Flink's REST interface tells.
	slots, taskManagers int
	config              []map[string]string

	mu        sync.Mutex
	prepared  []*jobpb.PrepareJobRequest
	state     map[string]jobpb.JobState_Enum
	flink     map[string]string // state by job id
	cancelled []string          // at Flink
	asked     int               // cancels at the job server
	looks     int
}

func startEngine(t *testing.T) *fakeEngine {
	t.Helper()
	e := &fakeEngine{
		ends:  func(int) jobpb.JobState_Enum { return jobpb.JobState_DONE },
		slots: 4, taskManagers: 1,
		config: []map[string]string{{"key": "restart-strategy.type", "value": "fixed-delay"}, {"key": "restart-strategy.fixed-delay.delay", "value": "1 s"}},
		state:  map[string]jobpb.JobState_Enum{}, flink: map[string]string{},
	}
	lis, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	e.endpoint, e.server = lis.Addr().String(), grpc.NewServer()
	jobpb.RegisterJobServiceServer(e.server, e)
	go func() { _ = e.server.Serve(lis) }()
	t.Cleanup(e.server.Stop)
	web := httptest.NewServer(e)
	t.Cleanup(web.Close)
	e.rest = web.URL
	return e
}

func (e *fakeEngine) Prepare(_ context.Context, r *jobpb.PrepareJobRequest) (*jobpb.PrepareJobResponse, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.prepared = append(e.prepared, r)
	return &jobpb.PrepareJobResponse{PreparationId: fmt.Sprintf("job%d", len(e.prepared)-1)}, nil
}

func (e *fakeEngine) Run(_ context.Context, r *jobpb.RunJobRequest) (*jobpb.RunJobResponse, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	id := r.GetPreparationId()
	e.state[id], e.flink[id] = jobpb.JobState_RUNNING, "RUNNING"
	if end := e.ends(len(e.prepared) - 1); end != jobpb.JobState_UNSPECIFIED {
		e.state[id], e.flink[id] = end, "FINISHED"
	}
	return &jobpb.RunJobResponse{JobId: id}, nil
}

func (e *fakeEngine) GetJobs(context.Context, *jobpb.GetJobsRequest) (*jobpb.GetJobsResponse, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := &jobpb.GetJobsResponse{}
	for i, r := range e.prepared {
		id := fmt.Sprintf("job%d", i)
		out.JobInfo = append(out.JobInfo, &jobpb.JobInfo{JobId: id, JobName: r.GetJobName(), State: e.state[id]})
	}
	return out, nil
}

func (e *fakeEngine) GetState(_ context.Context, r *jobpb.GetJobStateRequest) (*jobpb.JobStateEvent, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return &jobpb.JobStateEvent{State: e.state[r.GetJobId()]}, nil
}

func (e *fakeEngine) GetJobMetrics(context.Context, *jobpb.GetJobMetricsRequest) (*jobpb.GetJobMetricsResponse, error) {
	return &jobpb.GetJobMetricsResponse{}, nil
}

func (e *fakeEngine) GetMessageStream(r *jobpb.JobMessagesRequest, s jobpb.JobService_GetMessageStreamServer) error {
	for s.Context().Err() == nil {
		e.mu.Lock()
		state := e.state[r.GetJobId()]
		e.mu.Unlock()
		switch state {
		case jobpb.JobState_FAILED:
			if err := s.Send(message("java.lang.RuntimeException: Error received from SDK harness for instruction 7: process bundle failed\n\tcaused by:\nthe judge is not configured\n\tat java.base/x")); err != nil {
				return err
			}
			fallthrough
		case jobpb.JobState_DONE, jobpb.JobState_CANCELLED:
			return s.Send(&jobpb.JobMessagesResponse{Response: &jobpb.JobMessagesResponse_StateResponse{StateResponse: &jobpb.JobStateEvent{State: state}}})
		}
		time.Sleep(10 * time.Millisecond)
	}
	return s.Context().Err()
}

func message(text string) *jobpb.JobMessagesResponse {
	return &jobpb.JobMessagesResponse{Response: &jobpb.JobMessagesResponse_MessageResponse{
		MessageResponse: &jobpb.JobMessage{MessageText: text, Importance: jobpb.JobMessage_JOB_MESSAGE_ERROR},
	}}
}

func (e *fakeEngine) Cancel(_ context.Context, r *jobpb.CancelJobRequest) (*jobpb.CancelJobResponse, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asked++
	e.state[r.GetJobId()] = jobpb.JobState_CANCELLED // and Flink goes on
	return &jobpb.CancelJobResponse{State: jobpb.JobState_CANCELLED}, nil
}

// ServeHTTP is Flink's REST interface.
func (e *fakeEngine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	id := strings.TrimPrefix(r.URL.Path, "/jobs/")
	var answer any
	switch {
	case r.URL.Path == "/overview":
		answer = map[string]any{"flink-version": "1.20.5", "taskmanagers": e.taskManagers, "slots-total": 4, "slots-available": e.slots}
	case r.URL.Path == "/jobmanager/config":
		answer = e.config
	case r.URL.Path == "/jobs/overview":
		var jobs []map[string]any
		for id, state := range e.flink {
			jobs = append(jobs, map[string]any{"jid": id, "name": name, "state": state, "start-time": 1})
		}
		answer = map[string]any{"jobs": jobs}
	case r.Method == http.MethodPatch && r.URL.Query().Get("mode") == "cancel":
		e.flink[id] = "CANCELED"
		e.cancelled = append(e.cancelled, id)
		w.WriteHeader(http.StatusAccepted)
		return
	case e.flink[id] != "":
		if e.working {
			e.looks++
		}
		answer = map[string]any{"jid": id, "state": e.flink[id], "vertices": []any{map[string]any{"status": "RUNNING", "metrics": map[string]any{"write-records": e.looks}}}}
	default:
		http.NotFound(w, r)
		return
	}
	_ = json.NewEncoder(w).Encode(answer)
}

// finish ends all jobs that run.
func (e *fakeEngine) finish() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for id := range e.state {
		e.state[id], e.flink[id] = jobpb.JobState_DONE, "FINISHED"
	}
}

// submitted waits for the nth job.
func (e *fakeEngine) submitted(t *testing.T, n int) {
	t.Helper()
	for range 1000 {
		e.mu.Lock()
		started := len(e.state)
		e.mu.Unlock()
		if started >= n {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("no job %d was submitted", n)
}
