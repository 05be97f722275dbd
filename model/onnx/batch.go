package onnx

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// A Batcher joins requests that come at about the same time, from all over the process, and answers them together.
// Requests are joined if their keys are equal. It is safe for concurrent use.
type Batcher[K comparable, Q, A any] struct {
	max   int
	wait  time.Duration
	run   func(context.Context, K, []Q) ([]A, error)
	slots chan struct{}

	mu   sync.Mutex
	open map[K]*batch[Q, A]
	// alone says that the last batch was of one request, and that no other came before it was answered: then none is
	// waited for. The wait would be a part of every request, and a core that idles is slow to begin again.
	alone bool
}

// NewBatcher returns a Batcher that hands run at most limit requests at a time, and at most parallel batches. A batch
// leaves when it is full, or when its oldest request has waited for wait and there is room to run it; until then others
// join. Who asks alone, one request after the other, waits with the first only. run returns one answer for each request,
// in their order; its context ends when nobody waits any more.
func NewBatcher[K comparable, Q, A any](limit, parallel int, wait time.Duration, run func(context.Context, K, []Q) ([]A, error)) *Batcher[K, Q, A] {
	return &Batcher[K, Q, A]{max: max(1, limit), wait: wait, run: run, slots: make(chan struct{}, max(1, parallel)), open: map[K]*batch[Q, A]{}}
}

type batch[Q, A any] struct {
	calls []*call[Q, A]
	full  chan struct{}
}

type call[Q, A any] struct {
	ctx    context.Context
	q      Q
	answer A
	err    error
	done   chan struct{}
}

// Do answers q together with others of the same key. An error of the batch is the error of each of its requests. Do
// returns early if ctx ends; others are not disturbed.
func (b *Batcher[K, Q, A]) Do(ctx context.Context, key K, q Q) (A, error) {
	c := &call[Q, A]{ctx: ctx, q: q, done: make(chan struct{})}
	b.mu.Lock()
	open := b.open[key]
	if open == nil {
		open = &batch[Q, A]{full: make(chan struct{})}
		b.open[key] = open
		wait := b.wait
		if b.alone {
			wait = 0
		}
		go b.leave(key, open, wait)
	}
	open.calls = append(open.calls, c)
	if len(open.calls) == b.max {
		delete(b.open, key)
		close(open.full)
	}
	b.mu.Unlock()
	select {
	case <-c.done:
		return c.answer, c.err
	case <-ctx.Done():
		var none A
		return none, ctx.Err()
	}
}

// leave waits until a batch is full or has waited, and for a slot, and runs it.
func (b *Batcher[K, Q, A]) leave(key K, open *batch[Q, A], wait time.Duration) {
	due := time.NewTimer(wait)
	defer due.Stop()
	select {
	case <-open.full:
	case <-due.C:
	}
	b.slots <- struct{}{}
	defer func() { <-b.slots }()
	b.mu.Lock()
	if b.open[key] == open {
		delete(b.open, key)
	}
	b.mu.Unlock()

	var calls []*call[Q, A]
	var queries []Q
	for _, c := range open.calls {
		if c.ctx.Err() == nil {
			calls, queries = append(calls, c), append(queries, c.q)
		}
	}
	if len(calls) == 0 {
		return
	}
	ctx, cancel := waited(calls)
	defer cancel()
	answers, err := b.run(ctx, key, queries)
	b.mu.Lock()
	b.alone = len(calls) == 1 && len(b.open) == 0
	b.mu.Unlock()
	if err == nil && len(answers) != len(queries) {
		err = fmt.Errorf("%d answers to %d requests", len(answers), len(queries))
	}
	for i, c := range calls {
		if c.err = err; err == nil {
			c.answer = answers[i]
		}
		close(c.done)
	}
}

// waited is a context that ends when the contexts of all calls have ended.
func waited[Q, A any](calls []*call[Q, A]) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(calls[0].ctx))
	var mu sync.Mutex
	left := len(calls)
	stops := make([]func() bool, len(calls))
	for i, c := range calls {
		stops[i] = context.AfterFunc(c.ctx, func() {
			mu.Lock()
			defer mu.Unlock()
			if left--; left == 0 {
				cancel()
			}
		})
	}
	return ctx, func() {
		for _, stop := range stops {
			stop()
		}
		cancel()
	}
}
