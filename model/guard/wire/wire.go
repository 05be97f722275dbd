//go:build unix

// Package wire sends requests to one plain HTTP/1.1 server in the goroutine of the caller.
//
// # Design
//
// The Transport of net/http gives every connection two goroutines, and a request passes from the
// caller's to both and back: each hand-over is a wake-up, and at some thousand requests a second the
// wake-ups cost more than the protocol. Here the caller writes the request and reads the answer itself.
// The protocol is net/http's still: Request.Write and ReadResponse.
//
// What must not happen is that an answer reaches another's question. A connection is used again only if
// the answer was read to its end, the server agrees, nothing follows the answer in the buffer, the
// request was written whole and its context was alive to the end. Before it is used again the socket is
// read without waiting: a byte that nobody asked for, or the end, and the connection is dropped.
package wire

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	dialTime = 10 * time.Second
	idleTime = 90 * time.Second
)

// A Transport is an http.RoundTripper for requests to one address. It knows no TLS, no proxies and no
// compression, and never asks with Expect: 100-continue. It is safe for concurrent use.
//
// As with net/http, the body of an answer must be read to its end or closed. The end of the request's
// context ends both RoundTrip and the reading of the body.
type Transport struct {
	addr string
	// most bounds the idle connections; how many are in use is up to the callers.
	most   int
	dialer net.Dialer

	mu      sync.Mutex
	idle    []*conn // the last used last
	sweeper *time.Timer
}

// New returns a Transport for the server at addr, host:port, that keeps up to idle connections for 90
// seconds each. It does not connect.
func New(addr string, idle int) *Transport {
	return &Transport{addr: addr, most: idle, dialer: net.Dialer{Timeout: dialTime, KeepAlive: 30 * time.Second}}
}

// RoundTrip implements http.RoundTripper. A request that fails on a connection that was used before,
// without a byte of an answer, is sent once more on a fresh one, if it can be: it has no body or has
// GetBody, and its method or an Idempotency-Key says that a repetition does no harm (the conditions of
// net/http).
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	if err := ctx.Err(); err != nil {
		closeBody(req)
		return nil, context.Cause(ctx)
	}
	if c := t.take(); c != nil {
		resp, err := c.roundTrip(req)
		if err == nil {
			return resp, nil
		}
		if c.answered || ctx.Err() != nil || !repeatable(req) {
			return nil, cause(ctx, err)
		}
		if req, err = rewound(req); err != nil {
			return nil, err
		}
	}
	nc, err := t.dialer.DialContext(ctx, "tcp", t.addr)
	if err != nil {
		closeBody(req)
		return nil, cause(ctx, err)
	}
	resp, err := newConn(t, nc).roundTrip(req)
	if err != nil {
		return nil, cause(ctx, err)
	}
	return resp, nil
}

// cause is the reason why ctx ended, if it did: the error of the connection only follows from it.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close() // it was not used
	}
}

func repeatable(req *http.Request) bool {
	if req.Body != nil && req.Body != http.NoBody && req.GetBody == nil {
		return false
	}
	switch req.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions:
		return true
	}
	return req.Header.Get("Idempotency-Key") != ""
}

func rewound(req *http.Request) (*http.Request, error) {
	if req.GetBody == nil {
		return req, nil
	}
	body, err := req.GetBody()
	if err != nil {
		return nil, fmt.Errorf("send again: %w", err)
	}
	again := *req
	again.Body = body
	return &again, nil
}

// take returns the idle connection that was used last and is alive, or nil.
func (t *Transport) take() *conn {
	for {
		t.mu.Lock()
		n := len(t.idle)
		if n == 0 {
			t.mu.Unlock()
			return nil
		}
		c := t.idle[n-1]
		t.idle[n-1] = nil
		t.idle = t.idle[:n-1]
		t.mu.Unlock()
		if c.quiet() {
			return c
		}
		c.close()
	}
}

// put keeps a connection for the next request.
func (t *Transport) put(c *conn) {
	c.since = time.Now()
	t.mu.Lock()
	full := len(t.idle) >= t.most
	if !full {
		t.idle = append(t.idle, c)
		if t.sweeper == nil {
			t.sweeper = time.AfterFunc(idleTime, t.sweep)
		}
	}
	t.mu.Unlock()
	if full {
		c.close()
	}
}

// sweep closes what was idle for too long: the front of the list.
func (t *Transport) sweep() {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := 0
	for old < len(t.idle) && time.Since(t.idle[old].since) >= idleTime {
		t.idle[old].close()
		old++
	}
	t.idle = append(t.idle[:0:0], t.idle[old:]...)
	t.sweeper = nil
	if len(t.idle) > 0 {
		t.sweeper = time.AfterFunc(idleTime-time.Since(t.idle[0].since), t.sweep)
	}
}
