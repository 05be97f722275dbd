package onnx_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/promptmill/promptmill/model/onnx"
)

// Requests of one key meet, never more than the limit, and each gets its own answer.
func TestBatcherJoins(t *testing.T) {
	var batches, largest atomic.Int64
	b := onnx.NewBatcher(4, 1, 20*time.Millisecond, func(_ context.Context, key string, qs []int) ([]string, error) {
		batches.Add(1)
		largest.Store(max(largest.Load(), int64(len(qs))))
		out := make([]string, len(qs))
		for i, q := range qs {
			out[i] = fmt.Sprint(key, q)
		}
		return out, nil
	})
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			key := []string{"a", "b"}[i%2]
			got, err := b.Do(t.Context(), key, i)
			if want := fmt.Sprint(key, i); got != want || err != nil {
				t.Errorf("answer %q, %v; want %q", got, err, want)
			}
		})
	}
	wg.Wait()
	if largest.Load() != 4 {
		t.Errorf("the largest batch had %d requests, want 4", largest.Load())
	}
	if n := batches.Load(); n < 10 || n > 20 {
		t.Errorf("40 requests left in %d batches", n)
	}
}

// Who asks alone waits for company once, and no more until there was some.
func TestBatcherAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const wait, work = time.Second, time.Millisecond
		b := onnx.NewBatcher(4, 1, wait, func(_ context.Context, _ int, qs []int) ([]int, error) {
			time.Sleep(work)
			return qs, nil
		})
		ask := func(n int) time.Duration {
			start := time.Now()
			var wg sync.WaitGroup
			for i := range n {
				wg.Go(func() {
					if got, err := b.Do(t.Context(), 0, i); got != i || err != nil {
						t.Errorf("answer %d, %v; want %d", got, err, i)
					}
				})
			}
			wg.Wait()
			return time.Since(start)
		}
		for i, want := range []time.Duration{wait + work, work, work} {
			if took := ask(1); took != want {
				t.Errorf("alone, request %d took %v, want %v", i, took, want)
			}
		}
		if took := ask(3); took > 2*work { // one may have left, with whom the others did not join
			t.Errorf("three after one that was alone took %v", took)
		}
		for _, n := range []int{3, 1} {
			if took := ask(n); took != wait+work {
				t.Errorf("%d after company took %v, want %v", n, took, wait+work)
			}
		}
		if took := ask(1); took != work {
			t.Errorf("alone again: %v, want %v", took, work)
		}
	})
}

func TestBatcherErrors(t *testing.T) {
	broken := errors.New("broken")
	b := onnx.NewBatcher(2, 1, time.Millisecond, func(_ context.Context, key int, _ []int) ([]int, error) {
		if key == 0 {
			return nil, broken
		}
		return nil, nil
	})
	if _, err := b.Do(t.Context(), 0, 1); !errors.Is(err, broken) {
		t.Errorf("the batch's error: %v", err)
	}
	if _, err := b.Do(t.Context(), 1, 1); err == nil {
		t.Error("no answer and no error")
	}
}

// Who gives up leaves at once; the batch goes on while anybody waits, and ends with the last.
func TestBatcherCancel(t *testing.T) {
	ended := make(chan error, 1)
	started := make(chan struct{})
	b := onnx.NewBatcher(2, 1, time.Hour, func(ctx context.Context, _ int, qs []int) ([]int, error) {
		close(started)
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Second):
		}
		ended <- ctx.Err()
		return qs, nil
	})
	first, stopFirst := context.WithCancel(t.Context())
	second, stopSecond := context.WithCancel(t.Context())
	left := make(chan error, 2)
	go func() { _, err := b.Do(first, 0, 1); left <- err }()
	go func() { _, err := b.Do(second, 0, 2); left <- err }()
	<-started
	stopFirst()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("the first left with %v", err)
	}
	select {
	case err := <-ended:
		t.Fatalf("the batch ended (%v) while one still waited", err)
	case <-time.After(30 * time.Millisecond):
	}
	stopSecond()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the batch went on for nobody: %v", err)
	}
}
