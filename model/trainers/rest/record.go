package rest

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"time"

	"github.com/promptmill/promptmill/store"
)

// A record is what is stored of one job: file.json and job.json, ids that never change, and lease.json.
type record struct {
	store  store.Store
	folder string
}

type stored struct {
	ID string `json:"id"`
}

// read returns the id in an object, "" if there is none.
func (r record) read(ctx context.Context, name string) (string, error) {
	data, _, err := r.store.Read(ctx, path.Join(r.folder, name))
	if errors.Is(err, store.ErrNotExist) {
		return "", nil
	}
	var s stored
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err == nil && !identifier.MatchString(s.ID) {
		err = fmt.Errorf("%w: %q is no id", store.ErrDamaged, s.ID)
	}
	if err != nil {
		return "", fmt.Errorf("train: %s/%s: %w", r.folder, name, err)
	}
	return s.ID, nil
}

// write stores an id, durably, and returns the one that is stored: the first.
func (r record) write(ctx context.Context, name, id string) (string, error) {
	data, err := json.Marshal(stored{id})
	if err != nil {
		return "", err
	}
	_, err = r.store.CompareAndSwap(ctx, path.Join(r.folder, name), "", data)
	if err != nil && !errors.Is(err, store.ErrConflict) {
		return "", fmt.Errorf("train: %s/%s: %w", r.folder, name, err)
	}
	return r.read(ctx, name)
}

// A starter holds the lease for leaseTime and renews it; one that was killed lets it run out.
const leaseTime = 30 * time.Second

var errLeaseLost = errors.New("another process has taken over the start of this job")

type lease struct {
	Owner string    `json:"owner"`
	Until time.Time `json:"until"`
}

// acquire takes the lease, waiting while another starter holds it. The context that it returns ends
// when the lease is lost; release gives it back.
func (r record) acquire(ctx context.Context) (held context.Context, release func(), err error) {
	name := path.Join(r.folder, "lease.json")
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		data, old, err := r.store.Read(ctx, name)
		if err != nil && !errors.Is(err, store.ErrNotExist) {
			return nil, nil, err
		}
		var l lease
		if err == nil {
			if err := json.Unmarshal(data, &l); err != nil {
				return nil, nil, fmt.Errorf("%s: %w: %w", name, store.ErrDamaged, err)
			}
		}
		if time.Now().After(l.Until) {
			version, err := r.take(ctx, name, old)
			if err == nil {
				held, release = r.keep(ctx, name, version)
				return held, release, nil
			}
			if !errors.Is(err, store.ErrConflict) {
				return nil, nil, err
			}
		}
		select {
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("waiting for another process that starts the same job: %w", ctx.Err())
		case <-time.After(wait):
		}
	}
}

func (r record) take(ctx context.Context, name string, old store.Version) (store.Version, error) {
	data, err := json.Marshal(lease{rand.Text(), time.Now().Add(leaseTime).UTC()})
	if err != nil {
		return "", err
	}
	return r.store.CompareAndSwap(ctx, name, old, data)
}

// keep renews the lease until release is called.
func (r record) keep(ctx context.Context, name string, version store.Version) (held context.Context, release func()) {
	held, cancel := context.WithCancelCause(ctx)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for until := time.Now().Add(leaseTime); ; {
			select {
			case <-stop:
				return
			case <-time.After(leaseTime / 3):
			}
			begun := time.Now()
			next, err := r.take(held, name, version)
			switch {
			case err == nil:
				version, until = next, begun.Add(leaseTime)
			case errors.Is(err, store.ErrConflict) || time.Now().After(until.Add(-leaseTime/3)):
				cancel(errLeaseLost)
				return
			}
		}
	}()
	return held, func() {
		close(stop)
		<-stopped
		cancel(nil)
		// A failure only makes the next starter wait.
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if data, err := json.Marshal(lease{}); err == nil {
			_, _ = r.store.CompareAndSwap(ctx, name, version, data)
		}
	}
}
