package scene

import (
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sync"

	"github.com/promptmill/promptmill/model"
)

// measured holds the latest measurements of this process by the digest of the picture's bytes: all
// requests about one prompt share the raw prompt's picture, and each candidate's is judged many times.
var measured = &measurements{limit: 4096, of: map[string]*list.Element{}}

type measurements struct {
	mu    sync.Mutex
	limit int
	order list.List // of measurement, the latest used first
	of    map[string]*list.Element
}

type measurement struct {
	digest string
	*Measurement
}

func (c *measurements) get(digest string) (*Measurement, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.of[digest]
	if !ok {
		return nil, false
	}
	c.order.MoveToFront(e)
	return e.Value.(measurement).Measurement, true
}

func (c *measurements) put(digest string, m *Measurement) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.of[digest]; ok {
		return
	}
	c.of[digest] = c.order.PushFront(measurement{digest, m})
	if c.order.Len() > c.limit {
		delete(c.of, c.order.Remove(c.order.Back()).(measurement).digest)
	}
}

// measurePicture measures the picture of a request, and waits at the gate only to compute. A picture
// that cannot be decoded is rejected; bytes that are not those the digest names are a fault of the store.
func measurePicture(ctx context.Context, g gate, p model.Picture) (*Measurement, error) {
	if m, ok := measured.get(p.SHA256); ok {
		return m, nil
	}
	data, err := p.Bytes(ctx)
	if err != nil {
		return nil, fmt.Errorf("read picture %s: %w", p.SHA256, err)
	}
	sum := sha256.Sum256(data)
	digest := hex.EncodeToString(sum[:])
	if p.SHA256 != "" && p.SHA256 != digest {
		return nil, fmt.Errorf("read picture %s: its %d bytes have digest %s; the store is damaged", p.SHA256, len(data), digest)
	}
	if err := g.enter(ctx); err != nil {
		return nil, err
	}
	defer g.leave()
	img, err := Decode(data)
	if err != nil {
		return nil, fmt.Errorf("picture %s: %w: %w", p.SHA256, model.ErrRejected, err)
	}
	m := Measure(img)
	measured.put(digest, m)
	return m, nil
}
