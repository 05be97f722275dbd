package guard

import (
	"container/list"
	"context"
	"math"
	"sync"
	"time"
)

// A limiter is a bulkhead whose width follows what the server bears. Slots go to waiters in the order
// they came.
//
// Every window of as many answers as the limit is wide, the limit loses the share that the server
// refused (429, 503, no answer in time), or a quarter if answers took twice their usual time for two
// windows, and gains a fixed step. So it settles where refusals are about a step a window: a server that takes
// half of what is offered halves the limit at once, and one that refuses a tenth of everything
// whatever the load, as some do, costs no throughput to speak of.
type limiter struct {
	mu      sync.Mutex
	ceiling int
	limit   float64
	flying  int
	queue   list.List // of chan struct{}, closed when the slot is given

	// The window: answers so far, how many were refusals, and the latencies of the good ones. The mean
	// is of logarithms, so that a single slow answer is not taken for a slow server.
	answers, refused, timed int
	logTime                 float64
	// usual is the running mean of windows' logTime; NaN at first.
	usual float64
	// slow counts the windows in a row that were slow.
	slow int
}

const (
	minWindow = 8
	// slower is the least rise that counts: below it is noise of this machine.
	slower = 50 * time.Millisecond
)

func newLimiter(ceiling int) *limiter {
	return &limiter{ceiling: ceiling, limit: float64(ceiling), usual: math.NaN()}
}

// narrow lowers the ceiling to n if it is above.
func (l *limiter) narrow(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ceiling = min(l.ceiling, n)
	l.limit = min(l.limit, float64(l.ceiling))
}

// acquire waits for a slot.
func (l *limiter) acquire(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l.mu.Lock()
	if l.flying < int(l.limit) && l.queue.Len() == 0 {
		l.flying++
		l.mu.Unlock()
		return nil
	}
	ready := make(chan struct{})
	place := l.queue.PushBack(ready)
	l.mu.Unlock()

	select {
	case <-ready:
		return nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-ready: // given meanwhile: to the next in line
		l.flying--
	default:
		l.queue.Remove(place)
	}
	l.give()
	return ctx.Err()
}

// give hands free slots to waiters.
func (l *limiter) give() {
	for l.flying < int(l.limit) && l.queue.Len() > 0 {
		close(l.queue.Remove(l.queue.Front()).(chan struct{}))
		l.flying++
	}
}

// An outcome is what an attempt says about the server's load.
type outcome int

const (
	noNews  outcome = iota // never sent, or failed in a way that load does not explain
	good                   // answered in the time given
	refused                // too much: 429, 503 or silence
)

// release gives a slot back.
func (l *limiter) release(o outcome, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flying--
	if o != noNews {
		l.answers++
	}
	switch o {
	case good:
		l.timed++
		l.logTime += math.Log(max(took.Seconds(), 1e-6))
	case refused:
		l.refused++
	}
	if l.answers >= max(minWindow, int(l.limit)) {
		l.adapt()
	}
	l.give()
}

func (l *limiter) adapt() {
	share := float64(l.refused) / float64(l.answers)
	keep, step := 1-share, float64(max(1, l.ceiling/16))
	if share > 0.5 {
		step = 0
	}
	if l.slowWindow() {
		keep = min(keep, 0.75)
	}
	l.limit = min(max(l.limit*keep+step, 1), float64(l.ceiling))
	l.answers, l.refused, l.timed, l.logTime = 0, 0, 0, 0
}

// slowWindow says whether this window and the one before were slow, and notes what is usual.
func (l *limiter) slowWindow() bool {
	if l.timed == 0 {
		return false
	}
	mean := l.logTime / float64(l.timed)
	if math.IsNaN(l.usual) {
		l.usual = mean
	}
	now, usual := math.Exp(mean), math.Exp(l.usual)
	l.usual += 0.2 * (mean - l.usual) // the work may have changed for good
	if now < 2*usual || now-usual < slower.Seconds() {
		l.slow = 0
		return false
	}
	l.slow++
	return l.slow > 1
}
