// Package async makes slow calls for many elements of a bundle at once, emitting only on the bundle's
// own goroutine.
//
// # Design
//
// Runners give a DoFn one element at a time and few bundles (prism 1 to 8), so a call of 50 ms per
// element would use a model server of 64 slots to a sixtieth: concurrency has to live inside the DoFn.
// A Bundle bounds the elements in flight, which is a bound on memory; how many requests a server sees
// is the backend's own, process-wide limit. Beam's emitters are not safe off the bundle's goroutine,
// so results wait in a channel until ProcessElement or FinishBundle takes them.
package async

import (
	"context"
	"errors"
	"fmt"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
)

// MaxInFlight bounds the elements in flight that a stage may be given: each holds its prompt, pictures and
// answers.
const MaxInFlight = 4096

// A Bundle runs call for each submitted element, up to a limit at once. Embed it in a DoFn as an
// unexported field; it belongs to one bundle at a time.
type Bundle[I, O any] struct {
	call   func(context.Context, I) (O, error)
	limit  int
	ctx    context.Context
	cancel context.CancelCauseFunc
	// done has room for every call in flight: a sender never blocks, so an abandoned bundle leaks nothing.
	done   chan result[O]
	flying int
}

type result[O any] struct {
	time beam.EventTime
	out  O
	err  error
}

// Start begins a bundle with at most limit elements in flight. Calls of an abandoned bundle on the
// same DoFn are cancelled.
func (b *Bundle[I, O]) Start(ctx context.Context, limit int, call func(context.Context, I) (O, error)) {
	if b.cancel != nil {
		b.cancel(errors.New("bundle abandoned"))
	}
	b.call, b.limit, b.flying = call, max(limit, 1), 0
	b.ctx, b.cancel = context.WithCancelCause(ctx)
	b.done = make(chan result[O], b.limit)
}

// Submit starts the call for in, waiting for room, and hands finished results, in the order they
// finish, to take. The first failed call cancels the others and is returned.
func (b *Bundle[I, O]) Submit(t beam.EventTime, in I, take func(beam.EventTime, O)) error {
	for b.flying >= b.limit {
		if err := b.receive(take); err != nil {
			return err
		}
	}
	b.flying++
	ctx, done, call := b.ctx, b.done, b.call
	spawn(func() {
		r := result[O]{time: t}
		defer func() {
			if p := recover(); p != nil {
				r.err = fmt.Errorf("panic in a model call: %v", p)
			}
			done <- r
		}()
		r.out, r.err = call(ctx, in)
	})
	for {
		select {
		case r := <-b.done:
			if err := b.settle(r, take); err != nil {
				return err
			}
		default:
			return nil
		}
	}
}

// Finish waits for the calls in flight and hands on their results: call it in FinishBundle.
func (b *Bundle[I, O]) Finish(take func(beam.EventTime, O)) error {
	for b.flying > 0 {
		if err := b.receive(take); err != nil {
			return err
		}
	}
	b.cancel(nil)
	return nil
}

func (b *Bundle[I, O]) receive(take func(beam.EventTime, O)) error {
	select {
	case r := <-b.done:
		return b.settle(r, take)
	case <-b.ctx.Done():
		return context.Cause(b.ctx)
	}
}

func (b *Bundle[I, O]) settle(r result[O], take func(beam.EventTime, O)) error {
	b.flying--
	if r.err != nil {
		b.cancel(r.err)
		return r.err
	}
	take(r.time, r.out)
	return nil
}
