package serve

import (
	"context"
	"net/http"
)

// A door lets a bounded number of requests in, and a bounded number wait before it.
type door struct {
	// seats are for all, slots for those being answered.
	seats, slots chan struct{}
}

func newDoor(concurrency, queue int) *door {
	return &door{seats: make(chan struct{}, concurrency+queue), slots: make(chan struct{}, concurrency)}
}

// enter waits for a slot and returns what gives it back. If too many wait already it fails at once.
func (d *door) enter(ctx context.Context) (leave func(), err error) {
	select {
	case d.seats <- struct{}{}:
	default:
		return nil, &fault{status: http.StatusTooManyRequests, Message: "too many requests wait for an answer; try again later", Type: "rate_limit_error", Code: "rate_limit_exceeded", wait: true}
	}
	select {
	case d.slots <- struct{}{}:
		return func() { <-d.slots; <-d.seats }, nil
	case <-ctx.Done():
		<-d.seats
		return nil, ctx.Err()
	}
}

// inside is how many are being answered, waiting how many are not yet.
func (d *door) inside() int  { return len(d.slots) }
func (d *door) waiting() int { return max(len(d.seats)-len(d.slots), 0) }
