package guard

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"
)

// A gate is what all calls of this process to one endpoint go through.
type gate struct {
	slots     *limiter
	breaker   *gobreaker.CircuitBreaker[struct{}]
	transport http.RoundTripper
	budget    budget
	probe     time.Duration

	mu sync.Mutex
	// downSince is when the breaker opened; zero while it is closed.
	downSince time.Time
	// changed is closed at the next change of the breaker's state.
	changed chan struct{}
}

func newGate(base *url.URL, width int, l limits) *gate {
	g := &gate{
		slots:     newLimiter(width),
		probe:     l.open,
		changed:   make(chan struct{}),
		budget:    budget{tokens: budgetStart(width), most: budgetStart(width)},
		transport: newTransport(base, width),
	}
	g.breaker = gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
		Name:    base.Host,
		Timeout: l.open,
		// Counts are over the last half minute.
		Interval: 30 * time.Second, BucketPeriod: 5 * time.Second,
		ReadyToTrip: func(n gobreaker.Counts) bool {
			return n.ConsecutiveFailures >= 10 || n.Requests >= 20 && n.TotalFailures*2 > n.Requests
		},
		IsSuccessful: func(err error) bool {
			// A server that explains what is wrong with a request is well.
			s, ok := errors.AsType[*StatusError](err)
			return err == nil || ok && s.Code < 500
		},
		IsExcluded: func(err error) bool {
			// Nothing learnt: we went away, or it is busy, or it answers and the answer is of no use.
			s, ok := errors.AsType[*StatusError](err)
			_, unusable := errors.AsType[*badAnswer](err)
			return errors.Is(err, errLeft) || unusable || ok && s.Code == http.StatusTooManyRequests
		},
		OnStateChange: g.stateChanged,
	})
	return g
}

func (g *gate) stateChanged(host string, from, to gobreaker.State) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch to {
	case gobreaker.StateOpen:
		if from == gobreaker.StateClosed {
			g.downSince = time.Now()
			slog.Warn("model server fails; calls to it wait", "server", host)
		}
	case gobreaker.StateClosed:
		slog.Info("model server answers again", "server", host, "down", time.Since(g.downSince).Round(time.Millisecond))
		g.downSince = time.Time{}
	}
	close(g.changed)
	g.changed = make(chan struct{})
}

// state returns since when the server is down (zero if it is not) and a channel that the next change closes.
func (g *gate) state() (time.Time, <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.downSince, g.changed
}

// through runs attempt when the breaker lets it, however long that takes, but not after end.
func (g *gate) through(ctx context.Context, end time.Time, attempt func() error) error {
	for {
		_, changed := g.state()
		_, err := g.breaker.Execute(func() (struct{}, error) { return struct{}{}, attempt() })
		if !errors.Is(err, gobreaker.ErrOpenState) && !errors.Is(err, gobreaker.ErrTooManyRequests) {
			return err
		}
		// The breaker opens half only when asked, so waiting for the change alone could be for ever.
		t := time.NewTimer(min(g.probe+time.Millisecond, time.Until(end)))
		select {
		case <-changed:
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
		switch {
		case ctx.Err() != nil:
			return errLeft
		case !time.Now().Before(end):
			return errElapsed
		}
	}
}

// A budget bounds what share of the requests are retries while a server fails often. It is earned by
// answers; a retry that finds it empty waits longer.
type budget struct {
	mu           sync.Mutex
	tokens, most float64
}

// earned is what an answer adds: three retries for ten answers are free of delay.
const earned = 0.3

func budgetStart(width int) float64 { return float64(max(width, 10)) }

func (b *budget) earn() {
	b.mu.Lock()
	b.tokens = min(b.tokens+earned, b.most)
	b.mu.Unlock()
}

func (b *budget) spend() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
