package runners

import (
	"context"
	"errors"
	"io"
	"time"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/util/grpcx"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// refusing bounds how long a worker says no before it ends: engines ask a few times.
const refusing = time.Minute

// refuse connects to the engine as a worker that answers everything with why. A worker that only died
// would be started again, or waited for, and its reason would stand in a log on another machine; so the
// launcher gets it as the job's error, on every engine.
func refuse(ctx context.Context, control, why string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, refusing)
	defer cancel()
	conn, err := grpcx.Dial(ctx, control, refusing)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	client := fnpb.NewBeamFnControlClient(conn)
	stream, err := client.Control(ctx)
	if err != nil {
		return err
	}
	var sinks errgroup.Group
	defer func() {
		cancel()
		err = errors.Join(err, sinks.Wait())
	}()
	open := map[string]bool{}
	for {
		req, err := stream.Recv()
		if err != nil {
			return nil //nolint:nilerr // the engine has heard enough
		}
		for _, data := range dataEndpoints(ctx, client, req.GetProcessBundle().GetProcessBundleDescriptorId()) {
			if !open[data] {
				open[data] = true
				sinks.Go(func() error { return discard(ctx, data) })
			}
		}
		answer := &fnpb.InstructionResponse{InstructionId: req.GetInstructionId(), Error: why}
		if err := stream.Send(answer); err != nil {
			return err
		}
	}
}

// dataEndpoints are where a bundle's elements come from. Beam's Java runners send them before they look at
// an answer, and wait three minutes for a worker that does not fetch them.
func dataEndpoints(ctx context.Context, client fnpb.BeamFnControlClient, descriptor string) []string {
	if descriptor == "" {
		return nil
	}
	d, err := client.GetProcessBundleDescriptor(ctx, &fnpb.GetProcessBundleDescriptorRequest{ProcessBundleDescriptorId: descriptor})
	if err != nil {
		return nil
	}
	const source = "beam:runner:source:v1"
	var all []string
	for _, t := range d.GetTransforms() {
		var port fnpb.RemoteGrpcPort
		if t.GetSpec().GetUrn() == source && proto.Unmarshal(t.GetSpec().GetPayload(), &port) == nil {
			all = append(all, port.GetApiServiceDescriptor().GetUrl())
		}
	}
	return all
}

// discard fetches elements and drops them until ctx ends or the engine has no more.
func discard(ctx context.Context, endpoint string) (err error) {
	conn, err := grpcx.Dial(ctx, endpoint, refusing)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	stream, err := fnpb.NewBeamFnDataClient(conn).Data(ctx, grpc.WaitForReady(true))
	for err == nil {
		_, err = stream.Recv()
	}
	if ctx.Err() != nil || errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
