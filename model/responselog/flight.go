package responselog

import (
	"context"
	"slices"
	"sync"
)

// A slot is the address of one answer.
type slot struct {
	key      key
	position uint32
}

// flights are the answers that are being asked for in this process.
type flights struct {
	mu sync.Mutex
	m  map[slot]*flight
}

type flight struct {
	done chan struct{}
	err  error // set before done is closed
}

// claim makes those of want that nobody asks for the caller's. It returns one of the flights that have
// the others, nil if there are no others.
func (fs *flights) claim(want []slot) (own *flight, mine []slot, other *flight) {
	own = &flight{done: make(chan struct{})}
	mine = make([]slot, 0, len(want))
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.m == nil {
		fs.m = map[slot]*flight{}
	}
	for _, s := range want {
		switch f := fs.m[s]; f {
		case nil:
			fs.m[s] = own
			mine = append(mine, s)
		case own: // wanted twice
		default:
			other = f
		}
	}
	return own, mine, other
}

func (fs *flights) release(own *flight, mine []slot, err error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for _, s := range mine {
		delete(fs.m, s)
	}
	own.err = err
	close(own.done)
}

// settle gets answers from the log, from whoever else is asking for them, or by asking, in this
// order. read takes what the log has and returns what is missing; ask gets some of that and stores it.
// An error of ask goes to all who wait for its answers, unless it came from the end of the asker's ctx.
func (l *Log) settle(ctx context.Context, read func() ([]slot, error), ask func([]slot) error) error {
	var failed error
	for {
		missing, err := read()
		if err != nil || len(missing) == 0 {
			return err
		}
		if failed != nil {
			return failed
		}
		own, mine, other := l.flights.claim(missing)
		if len(mine) > 0 {
			if err := l.fly(ctx, own, mine, read, ask); err != nil {
				return err
			}
		}
		if other == nil {
			continue
		}
		// Nothing is claimed while waiting, so two requests cannot wait for one another.
		select {
		case <-other.done:
			failed = other.err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (l *Log) fly(ctx context.Context, own *flight, mine []slot, read func() ([]slot, error), ask func([]slot) error) (err error) {
	defer func() { // also after a panic of the model
		shared := err
		if ctx.Err() != nil {
			shared = nil
		}
		l.flights.release(own, mine, shared)
	}()
	// Who asked for a slot until a moment ago has stored it.
	missing, err := read()
	if err != nil {
		return err
	}
	if slices.Equal(missing, mine) { // as nearly always
		return ask(mine)
	}
	still := make(map[slot]bool, len(missing))
	for _, s := range missing {
		still[s] = true
	}
	due := mine[:0:0]
	for _, s := range mine {
		if still[s] {
			due = append(due, s)
		}
	}
	if len(due) == 0 {
		return nil
	}
	return ask(due)
}
