package async

import (
	"context"
	"fmt"
	"sync"
)

// Each calls f(ctx, 0) to f(ctx, n-1) at once, started in that order, and waits for all. The first call
// that fails, or panics, cancels the others' context, and its error is returned. It is for the calls
// within one element; how many reach a server is the backend's own limit.
func Each(ctx context.Context, n int, f func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		wg    sync.WaitGroup
		once  sync.Once
		first error
	)
	fail := func(err error) {
		once.Do(func() { first = err })
		cancel(err)
	}
	for i := range n {
		wg.Add(1)
		spawn(func() {
			defer wg.Done()
			defer func() {
				if p := recover(); p != nil {
					fail(fmt.Errorf("panic in a model call: %v", p))
				}
			}()
			if err := f(ctx, i); err != nil {
				fail(err)
			}
		})
	}
	wg.Wait()
	return first
}
