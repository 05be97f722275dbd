// Package portable submits pipelines to Beam job servers (Flink, Spark, prism) and follows them.
//
// # Design
//
// Beam's own universal runner sends a job server neither its options (sdk_worker_parallelism,
// environment_cache_millis) nor a cancel, and cannot find a job again. This client does, on Beam's
// public packages, and does what the universal runner does besides: the Go options and hooks without
// which workers started as processes lose their logs, and the staging of the worker's file.
package portable

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// patience bounds a question to a job server that does not wait for a job.
const patience = 15 * time.Second

// A Client is a connection to one job server. It is safe for concurrent use.
type Client struct {
	endpoint string
	conn     *grpc.ClientConn
	jobs     jobpb.JobServiceClient
}

// Dial connects to the job server at endpoint, host:port, and asks it something, so that a wrong
// address is found at once.
func Dial(ctx context.Context, endpoint string) (*Client, error) {
	conn, err := grpc.NewClient(endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)))
	if err != nil {
		return nil, fmt.Errorf("job server %s: %w", endpoint, err)
	}
	c := &Client{endpoint: endpoint, conn: conn, jobs: jobpb.NewJobServiceClient(conn)}
	if _, err := c.Jobs(ctx); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return c, nil
}

// maxMessage bounds one message: a graph is far smaller, metrics of many stages may be larger than
// gRPC's 4 MB.
const maxMessage = 64 << 20

// Close ends the connection; jobs go on.
func (c *Client) Close() error { return c.conn.Close() }

// A State is what has become of a job.
type State string

// The states, as far as a launcher minds the difference.
const (
	Pending   State = "pending"
	Running   State = "running"
	Done      State = "done"
	Failed    State = "failed"
	Cancelled State = "cancelled"
)

// Ended says whether the job will not run any more.
func (s State) Ended() bool { return s == Done || s == Failed || s == Cancelled }

func stateOf(s jobpb.JobState_Enum) State {
	switch s {
	case jobpb.JobState_DONE, jobpb.JobState_DRAINED, jobpb.JobState_UPDATED:
		return Done
	case jobpb.JobState_FAILED:
		return Failed
	case jobpb.JobState_CANCELLED:
		return Cancelled
	case jobpb.JobState_RUNNING, jobpb.JobState_DRAINING, jobpb.JobState_CANCELLING, jobpb.JobState_UPDATING:
		return Running
	}
	return Pending
}

// A Job is one of the server's jobs.
type Job struct {
	ID, Name string
	State    State
}

// Jobs are the server's jobs, those that ended lately included, by their ids.
func (c *Client) Jobs(ctx context.Context) ([]Job, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	resp, err := c.jobs.GetJobs(ctx, &jobpb.GetJobsRequest{}, grpc.WaitForReady(false))
	if err != nil {
		return nil, c.fault("list jobs", err)
	}
	var jobs []Job
	for _, j := range resp.GetJobInfo() {
		jobs = append(jobs, Job{ID: j.GetJobId(), Name: j.GetJobName(), State: stateOf(j.GetState())})
	}
	slices.SortFunc(jobs, func(a, b Job) int { return cmp.Compare(a.ID, b.ID) })
	return jobs, nil
}

// Cancel asks for the end of a job. Beam's Flink job server answers yes and lets it run: cancel it on
// Flink too.
func (c *Client) Cancel(ctx context.Context, id string) error {
	if _, err := c.jobs.Cancel(ctx, &jobpb.CancelJobRequest{JobId: id}); err != nil {
		return c.fault("cancel job "+id, err)
	}
	return nil
}

// Progress is a text that changes when the job's counters do, if the server tells them while it runs.
func (c *Client) Progress(ctx context.Context, id string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	resp, err := c.jobs.GetJobMetrics(ctx, &jobpb.GetJobMetricsRequest{JobId: id})
	if err != nil {
		return "", c.fault("read counters of job "+id, err)
	}
	var lines []string
	for _, m := range resp.GetMetrics().GetAttempted() {
		if name := m.GetUrn(); strings.Contains(name, "user:") || strings.Contains(name, "element_count") {
			lines = append(lines, fmt.Sprintf("%s %v %x", name, m.GetLabels(), m.GetPayload()))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n"), nil
}

// A Message is what a job server says about a job.
type Message struct {
	State State
	// Text is "" for a change of state. Error says that it is about a failure.
	Text  string
	Error bool
}

// Watch follows a job to its end and calls tell, which may be nil, for each message and change of state.
// The error of a job that failed is a *FailedError; a cancelled job is a state and no error, and so is a
// job of which a server stopped telling without a last word: ask for its state.
func (c *Client) Watch(ctx context.Context, id string, tell func(Message)) (State, error) {
	stream, err := c.jobs.GetMessageStream(ctx, &jobpb.JobMessagesRequest{JobId: id})
	if err != nil {
		return Pending, c.fault("follow job "+id, err)
	}
	state, cause := Pending, ""
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			if state.Ended() {
				break // servers close this stream in more than one way
			}
			return state, c.fault("follow job "+id, err)
		}
		var out Message
		if s := m.GetStateResponse(); s != nil {
			state = stateOf(s.GetState())
		} else {
			out.Text = m.GetMessageResponse().GetMessageText()
			out.Error = m.GetMessageResponse().GetImportance() >= jobpb.JobMessage_JOB_MESSAGE_ERROR
			if out.Error {
				cause = out.Text
			}
		}
		if out.State = state; tell != nil {
			tell(out)
		}
		if state == Done || state == Cancelled || state == Failed && cause != "" {
			break
		}
	}
	if !state.Ended() {
		// The stream may end before the last state is told.
		if state, err = c.State(ctx, id); err != nil {
			return state, err
		}
	}
	if state == Failed {
		return state, &FailedError{ID: id, Cause: cause}
	}
	return state, nil
}

// State asks for a job's state.
func (c *Client) State(ctx context.Context, id string) (State, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	resp, err := c.jobs.GetState(ctx, &jobpb.GetJobStateRequest{JobId: id})
	if err != nil {
		return Pending, c.fault("ask for the state of job "+id, err)
	}
	return stateOf(resp.GetState()), nil
}

// A FailedError says that a job failed on its engine. Cause is what the engine says, maybe a stack trace.
type FailedError struct{ ID, Cause string }

func (e *FailedError) Error() string {
	return fmt.Sprintf("job %s failed: %s", e.ID, cmp.Or(e.Cause, "the job server does not say why; look at its log"))
}

// ErrUnreachable is wrapped by errors of a job server that does not answer.
var ErrUnreachable = errors.New("no job server answers")

func (c *Client) fault(what string, err error) error {
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded:
		return fmt.Errorf("%s: %w at %s: %s; is it started, and is this its job port (engine.endpoint)?", what, ErrUnreachable, c.endpoint, status.Convert(err).Message())
	case codes.Unimplemented:
		return fmt.Errorf("%s: %s is not a Beam job server (engine.endpoint): %s", what, c.endpoint, status.Convert(err).Message())
	case codes.Canceled:
		return fmt.Errorf("%s: %w", what, context.Canceled)
	}
	return fmt.Errorf("%s on job server %s: %w", what, c.endpoint, err)
}
