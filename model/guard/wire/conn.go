//go:build unix

package wire

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// maxHeader bounds the bytes before an answer's body, those of interim answers included.
	maxHeader = 1 << 20
	// maxInterim bounds the 1xx answers before the answer, as in net/http.
	maxInterim = 5
	// writeBuffer takes a question with two small pictures, so that it goes out in one write.
	writeBuffer = 16 << 10
	// lateTime is how long an answer is waited for from a server that stopped reading the question.
	lateTime = time.Second
)

// A conn is a connection; it has one user at a time.
type conn struct {
	t   *Transport
	net net.Conn
	// raw is net's file descriptor; nil if it has none.
	raw syscall.RawConn
	r   *bufio.Reader
	w   *bufio.Writer
	// left is how many bytes may still be read before the body begins.
	left int64
	// answered says that the server has sent something since the question.
	answered bool
	// since is when it became idle.
	since time.Time
}

func newConn(t *Transport, nc net.Conn) *conn {
	c := &conn{t: t, net: nc}
	if sc, ok := nc.(syscall.Conn); ok {
		c.raw, _ = sc.SyscallConn() // nil of one that is closed already
	}
	c.r, c.w = bufio.NewReader(c), bufio.NewWriterSize(nc, writeBuffer)
	return c
}

func (c *conn) close() { _ = c.net.Close() } // nothing is lost that was not reported

// Read is the bufio.Reader's way to the server.
func (c *conn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, fmt.Errorf("over %d bytes before the body of the answer", maxHeader)
	}
	n, err := c.net.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	c.answered = c.answered || n > 0
	return n, err
}

// roundTrip sends req and reads the head of the answer. After an error the connection is closed;
// otherwise the body of the answer has it.
func (c *conn) roundTrip(req *http.Request) (*http.Response, error) {
	stop := context.AfterFunc(req.Context(), func() { _ = c.net.SetDeadline(time.Unix(1, 0)) })
	c.left, c.answered = maxHeader, false
	unsent := req.Write(c.w)
	if unsent == nil {
		unsent = c.w.Flush()
	}
	if unsent != nil {
		// A server may refuse a question before it has read it all, and say why.
		_ = c.net.SetReadDeadline(time.Now().Add(lateTime)) // else reading fails just as well
	}
	resp, err := c.readHead(req)
	if err != nil {
		stop()
		c.close()
		switch {
		case unsent != nil:
			return nil, unsent
		case !c.answered && errors.Is(err, io.ErrUnexpectedEOF):
			return nil, fmt.Errorf("the server closed the connection without an answer: %w", err)
		}
		return nil, err
	}
	c.left = math.MaxInt64
	b := &body{
		ctx: req.Context(), c: c, inner: resp.Body, stop: stop,
		keep: unsent == nil && !req.Close && !resp.Close && resp.StatusCode != http.StatusSwitchingProtocols,
	}
	if resp.Body == http.NoBody {
		b.end(true)
		return resp, nil
	}
	resp.Body = b
	return resp, nil
}

func (c *conn) readHead(req *http.Request) (*http.Response, error) {
	for range maxInterim + 1 {
		resp, err := http.ReadResponse(c.r, req)
		if err != nil || resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols {
			return resp, err
		}
	}
	return nil, fmt.Errorf("over %d interim answers", maxInterim)
}

// quiet says that the server has neither closed an idle connection nor sent what nobody asked for.
func (c *conn) quiet() bool {
	if c.raw == nil {
		return false
	}
	var got error
	err := c.raw.Read(func(fd uintptr) bool {
		var b [1]byte
		_, got = syscall.Read(int(fd), b[:])
		return true // do not wait
	})
	return err == nil && (errors.Is(got, syscall.EAGAIN) || errors.Is(got, syscall.EWOULDBLOCK))
}

// A body is that of an answer; at its end the connection is free again.
type body struct {
	ctx   context.Context
	c     *conn
	inner io.Reader
	// stop takes back the order to end the connection with ctx; it says false if that has happened.
	stop func() bool
	// keep says that nothing before the body speaks against using the connection again.
	keep  bool
	ended atomic.Bool
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.inner.Read(p)
	switch {
	case errors.Is(err, io.EOF): // a body that is cut off ends in io.ErrUnexpectedEOF
		b.end(true)
	case err != nil:
		b.end(false)
		err = cause(b.ctx, err)
	}
	return n, err
}

// Close implements io.Closer. What was not read is not waited for: the connection is closed.
func (b *body) Close() error {
	b.end(false)
	return nil
}

func (b *body) end(whole bool) {
	if b.ended.Swap(true) {
		return
	}
	if alive := b.stop(); whole && alive && b.keep && b.c.r.Buffered() == 0 {
		b.c.t.put(b.c)
		return
	}
	b.c.close()
}
