package async_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/mtime"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/passert"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	"github.com/google/go-cmp/cmp"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/async"
)

func TestMain(m *testing.M) { ptest.Main(m) }

func init() {
	beam.RegisterDoFn(reflect.TypeFor[squareFn]())
	register.Emitter2[beam.EventTime, int]()
	beam.RegisterDoFn(reflect.TypeFor[stampFn]())
	beam.RegisterDoFn(reflect.TypeFor[tellFn]())
}

// working counts the calls under way and the most there were.
type working struct{ now, most atomic.Int64 }

func (w *working) enter() {
	n := w.now.Add(1)
	for m := w.most.Load(); n > m && !w.most.CompareAndSwap(m, n); m = w.most.Load() {
	}
}

var squares working

// squareFn squares its elements slowly, several at once; it fails on FailAt.
type squareFn struct {
	Limit, FailAt int

	bundle async.Bundle[int, int]
}

func (fn *squareFn) StartBundle(ctx context.Context, _ func(beam.EventTime, int)) {
	fn.bundle.Start(ctx, fn.Limit, func(ctx context.Context, n int) (int, error) {
		squares.enter()
		defer squares.now.Add(-1)
		if n == fn.FailAt {
			return 0, fmt.Errorf("%d is not wanted", n)
		}
		select {
		case <-time.After(2 * time.Millisecond):
			return n * n, nil
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	})
}

func (fn *squareFn) ProcessElement(t beam.EventTime, n int, emit func(beam.EventTime, int)) error {
	return fn.bundle.Submit(t, n, emit)
}

func (fn *squareFn) FinishBundle(emit func(beam.EventTime, int)) error { return fn.bundle.Finish(emit) }

// stampFn gives n the time n.
type stampFn struct{}

func (*stampFn) ProcessElement(n int, emit func(beam.EventTime, int)) { emit(mtime.Time(n), n) }

// tellFn puts the time into the value.
type tellFn struct{}

func (*tellFn) ProcessElement(t beam.EventTime, n int) string { return fmt.Sprint(int64(t), " ", n) }

func TestBundleOnBeam(t *testing.T) {
	var in []int
	var want []any
	for n := range 300 {
		in = append(in, n+1)
		want = append(want, fmt.Sprint(n+1, " ", (n+1)*(n+1)))
	}
	for _, limit := range []int{1, 16, 1000} {
		squares.most.Store(0)
		p, s := beam.NewPipelineWithRoot()
		stamped := beam.ParDo(s, &stampFn{}, beam.CreateList(s, in))
		got := beam.ParDo(s, &tellFn{}, beam.ParDo(s, &squareFn{Limit: limit}, stamped))
		passert.Equals(s, got, want...) // each result with the time of its element
		ptest.RunAndValidate(t, p)
		if most := squares.most.Load(); most > int64(limit) || limit > 1 && most < 2 {
			t.Errorf("limit %d: %d calls at once", limit, most)
		}
	}
}

func TestBundleFailsOnBeam(t *testing.T) {
	p, s := beam.NewPipelineWithRoot()
	beam.ParDo(s, &squareFn{Limit: 8, FailAt: 3}, beam.CreateList(s, []int{1, 2, 3, 4, 5, 6, 7, 8, 9}))
	if err := ptest.Run(p); err == nil || !strings.Contains(err.Error(), "3 is not wanted") {
		t.Errorf("error %v", err)
	}
}

func nothing(beam.EventTime, int) {}

// The first error cancels the calls beside it and comes out; nothing is taken after it.
func TestFirstErrorCancels(t *testing.T) {
	var b async.Bundle[int, int]
	cancelled := make(chan error, 4)
	b.Start(t.Context(), 8, func(ctx context.Context, n int) (int, error) {
		if n == 4 {
			return 0, errors.New("four")
		}
		<-ctx.Done()
		cancelled <- context.Cause(ctx)
		return 0, ctx.Err()
	})
	var err error
	for n := 0; n < 5 && err == nil; n++ {
		err = b.Submit(0, n, nothing)
	}
	if err == nil {
		err = b.Finish(nothing)
	}
	if err == nil || err.Error() != "four" {
		t.Errorf("error %v", err)
	}
	for range 4 {
		if cause := <-cancelled; cause.Error() != "four" {
			t.Errorf("cancelled because of %v", cause)
		}
	}
}

func TestPanicIsAnError(t *testing.T) {
	var b async.Bundle[int, int]
	b.Start(t.Context(), 1, func(context.Context, int) (int, error) { panic("boom") })
	err := b.Submit(0, 1, nothing)
	if err == nil {
		err = b.Finish(nothing)
	}
	if err == nil || !strings.Contains(err.Error(), "boom") {
		t.Errorf("error %v", err)
	}
}

// A bundle that the runner gave up is cancelled by the next one, which sees nothing of it.
func TestAbandonedBundle(t *testing.T) {
	before := runtime.NumGoroutine()
	var b async.Bundle[int, int]
	b.Start(t.Context(), 4, func(ctx context.Context, n int) (int, error) {
		<-ctx.Done()
		return n, nil // the answer of a call that did not notice
	})
	for n := range 4 {
		if err := b.Submit(0, n, nothing); err != nil {
			t.Fatal(err)
		}
	}
	b.Start(t.Context(), 4, func(_ context.Context, n int) (int, error) { return 10 * n, nil })
	var got []int
	take := func(_ beam.EventTime, n int) { got = append(got, n) }
	if err := errors.Join(b.Submit(0, 7, take), b.Finish(take)); err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got[0] != 70 {
		t.Errorf("took %v", got)
	}
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
	}
}

// What is counted goes out once, with the bundle that succeeds.
func TestCounted(t *testing.T) {
	var c async.Counted[int, int]
	take := func(_ beam.EventTime, n int) { c.Tally.Out("square", n) }
	var got []schemas.Count
	emit := func(n schemas.Count) { got = append(got, n) }
	fault := errors.New("three")
	for i, fails := range []bool{false, true, false} {
		c.Start(t.Context(), 1, func(_ context.Context, n int) (int, error) {
			if fails && n == 3 {
				return 0, fault
			}
			return n * n, nil
		})
		err := errors.Join(c.Submit(0, 2, take), c.Submit(0, 3, take))
		if i > 0 && err == nil { // the runner gives the first up
			err = c.Finish(take, emit)
		}
		if errors.Is(err, fault) != fails || fails && len(got) > 0 {
			t.Errorf("bundle %d: error %v, counts %v", i, err, got)
		}
	}
	if d := cmp.Diff([]schemas.Count{{Stage: "square", Outcome: schemas.Out, N: 13}}, got); d != "" {
		t.Error(d)
	}
}

// A cancelled bundle does not wait for calls that never end.
func TestCancelledBundle(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	release := make(chan struct{})
	defer close(release)
	var b async.Bundle[int, int]
	b.Start(ctx, 2, func(context.Context, int) (int, error) { <-release; return 0, nil })
	if err := b.Submit(0, 1, nothing); err != nil {
		t.Fatal(err)
	}
	stop := errors.New("interrupted")
	cancel(stop)
	if err := b.Finish(nothing); !errors.Is(err, stop) {
		t.Errorf("error %v", err)
	}
}

func TestEach(t *testing.T) {
	var w working
	done := make([]bool, 50)
	all := make(chan struct{})
	err := async.Each(t.Context(), len(done), func(_ context.Context, i int) error {
		if w.enter(); w.now.Load() == int64(len(done)) {
			close(all)
		}
		<-all // passes only if all run at once
		done[i] = true
		return nil
	})
	for i, ok := range done {
		if !ok {
			t.Errorf("call %d not made", i)
		}
	}
	if err != nil {
		t.Error(err)
	}

	first := errors.New("first")
	err = async.Each(t.Context(), 8, func(ctx context.Context, i int) error {
		if i == 5 {
			return first
		}
		<-ctx.Done()
		return ctx.Err()
	})
	if !errors.Is(err, first) {
		t.Errorf("error %v", err)
	}
	err = async.Each(t.Context(), 2, func(_ context.Context, i int) error {
		if i == 1 {
			panic("boom")
		}
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "boom") {
		t.Errorf("error %v", err)
	}
	if err := async.Each(t.Context(), 0, nil); err != nil {
		t.Error(err)
	}
}
