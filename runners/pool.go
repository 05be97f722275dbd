package runners

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/util/hooks"
	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/util/grpcx"
	"google.golang.org/grpc"
)

// A Pool is a process that is the worker of every job that an engine sends to its machine: one copy of
// each model, kept between stages and jobs, and one limit of requests for each model server.
type Pool struct {
	fnpb.UnimplementedBeamFnExternalWorkerPoolServer

	// Tell, if it is set before Serve, gets the faults of workers.
	Tell func(string)

	lis    net.Listener
	server *grpc.Server
	// ctx ends with the pool; workers outlive the requests that start them.
	ctx    context.Context
	cancel context.CancelFunc

	mu      sync.Mutex
	workers map[string]context.CancelFunc
}

// OpenPool listens at address, host:port; port 0 takes a free one. Only those who may run this program's
// jobs should reach it: the protocol has no password.
func OpenPool(address string) (*Pool, error) {
	lis, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("worker pool: %w", err)
	}
	hooks.SerializeHooksToOptions() // the harness takes them from there: without them no logs
	ctx, cancel := context.WithCancel(context.Background())
	p := &Pool{lis: lis, server: grpc.NewServer(), ctx: ctx, cancel: cancel, workers: map[string]context.CancelFunc{}, Tell: func(string) {}}
	fnpb.RegisterBeamFnExternalWorkerPoolServer(p.server, p)
	return p, nil
}

// Address is where engines reach the pool.
func (p *Pool) Address() string { return p.lis.Addr().String() }

// Serve works until ctx ends; then its workers end, with the work they have.
func (p *Pool) Serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		p.cancel()
		p.server.Stop()
	})
	defer stop()
	if err := p.server.Serve(p.lis); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("worker pool: %w", err)
	}
	return nil
}

// StartWorker begins a worker in this process.
func (p *Pool) StartWorker(_ context.Context, req *fnpb.StartWorkerRequest) (*fnpb.StartWorkerResponse, error) {
	id, provision := req.GetWorkerId(), req.GetProvisionEndpoint().GetUrl()
	if provision == "" {
		return &fnpb.StartWorkerResponse{Error: fmt.Sprintf("worker %q is not told where to ask for its options", id)}, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, taken := p.workers[id]; taken {
		return &fnpb.StartWorkerResponse{Error: fmt.Sprintf("worker %q is there already", id)}, nil
	}
	ctx, cancel := context.WithCancel(grpcx.WriteWorkerID(p.ctx, id))
	p.workers[id] = cancel
	go func() {
		defer p.forget(id)
		// Jobs of several launchers share the process: none of them sets its options.
		err := work(ctx, provision, func(runtime.RawOptions) {})
		if err != nil && ctx.Err() == nil {
			p.Tell(fmt.Sprintf("worker %s: %v", id, err))
		}
	}()
	return &fnpb.StartWorkerResponse{}, nil
}

// StopWorker ends a worker; one that has gone is no fault.
func (p *Pool) StopWorker(_ context.Context, req *fnpb.StopWorkerRequest) (*fnpb.StopWorkerResponse, error) {
	p.forget(req.GetWorkerId())
	return &fnpb.StopWorkerResponse{}, nil
}

func (p *Pool) forget(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if cancel, ok := p.workers[id]; ok {
		cancel()
		delete(p.workers, id)
	}
}
