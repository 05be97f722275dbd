package guard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/hashicorp/go-retryablehttp"

	"github.com/promptmill/promptmill/model"
)

// A call is one Post or Get through all its tries. It makes the first one itself; most calls need no
// other. For more it is the transport of its own retryablehttp client, so that the slot, the breaker, the
// body and the check are all inside the retry.
type call struct {
	client *Client
	check  func([]byte) error

	arrived time.Time
	// end is when the total time is over; zero until the first slot. elapsed says that it ended the call.
	end     time.Time
	elapsed bool

	answer []byte
	// last is how the last try failed; failures counts those that were not mere refusals.
	last            error
	tries, failures int
}

func (c *Client) do(ctx context.Context, method, path, contentType string, body []byte, check func([]byte) error) ([]byte, error) {
	u, err := c.url(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %s %s%s: bad path", model.ErrConfig, method, c.base.Host, path)
	}
	header := http.Header{"Accept": {"application/json"}, "Idempotency-Key": {idempotencyKey()}}
	if body != nil {
		header["Content-Type"] = []string{contentType}
	}
	if key := c.key.value(); key != "" {
		header["Authorization"] = []string{"Bearer " + key}
	}
	req := (&http.Request{Method: method, URL: u, Host: u.Host, Header: header, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}).WithContext(ctx)
	if body != nil {
		req.ContentLength = int64(len(body))
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		req.Body, _ = req.GetBody() // never fails
	}
	k := &call{client: c, check: check, arrived: time.Now()}
	_, err = k.RoundTrip(req)
	if err != nil {
		err = k.retry(req, body)
	}
	if err == nil {
		return k.answer, nil
	}
	// The error is dropped: the library's quotes the URL.
	return nil, fmt.Errorf("%s %s%s: %w", method, c.base.Host, path, k.fault(ctx))
}

// retry makes the tries after the first, if there are to be any. Any error says that the call failed.
func (k *call) retry(req *http.Request, body []byte) error {
	if again, _ := k.again(req.Context(), nil, k.last); !again {
		return errLeft
	}
	ctx, stop := context.WithDeadlineCause(req.Context(), k.end, errElapsed)
	defer stop()
	wait := time.NewTimer(k.wait(0))
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-ctx.Done():
		k.elapsed = errors.Is(context.Cause(ctx), errElapsed)
		return errLeft
	}
	more, err := retryablehttp.FromRequest(&http.Request{Method: req.Method, URL: req.URL, Host: req.Host, Header: req.Header})
	if err == nil && body != nil {
		err = more.SetBody(body)
	}
	if err != nil {
		return err
	}
	library := retryablehttp.Client{
		HTTPClient: &http.Client{Transport: k},
		RetryMax:   math.MaxInt, // again decides
		CheckRetry: k.again,
		Backoff: func(_, _ time.Duration, try int, _ *http.Response) time.Duration {
			return k.wait(try + 1)
		},
	}
	resp, err := library.Do(more.WithContext(ctx))
	if err != nil {
		k.elapsed = k.elapsed || errors.Is(context.Cause(ctx), errElapsed)
		return err
	}
	return resp.Body.Close() // http.NoBody
}

// RoundTrip implements http.RoundTripper. The answer stays in the call; only its absence is an error.
func (k *call) RoundTrip(req *http.Request) (*http.Response, error) {
	g, ctx := k.client.gate, req.Context()
	if err := g.slots.acquire(ctx); err != nil {
		return nil, err
	}
	k.startClock()
	var took time.Duration
	err := g.through(ctx, k.end, func() error {
		k.tries++
		start := time.Now()
		err := k.attempt(req)
		took = time.Since(start)
		return err
	})
	g.slots.release(load(err), took)
	if err != nil {
		k.elapsed = k.elapsed || errors.Is(err, errElapsed)
		if !errors.Is(err, errLeft) && !k.elapsed { // how the last try failed says more
			k.last = err
		}
		return nil, err
	}
	g.budget.earn()
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: req}, nil
}

// startClock starts the total time of the call: now, or when the server went down if it is down.
func (k *call) startClock() {
	if !k.end.IsZero() {
		return
	}
	k.end = time.Now()
	if down, _ := k.client.gate.state(); !down.IsZero() {
		k.end = down
		if down.Before(k.arrived) {
			k.end = k.arrived
		}
	}
	k.end = k.end.Add(k.client.limits.total)
}

// attempt sends the request once and keeps the answer if it is whole and passes the check.
func (k *call) attempt(req *http.Request) error {
	limit := k.client.limits.attempt
	end := time.Now().Add(limit)
	if k.end.Before(end) {
		end = k.end
	}
	ctx, stop := context.WithDeadline(req.Context(), end)
	defer stop()
	broken := func(doing string, err error) error {
		switch {
		case req.Context().Err() != nil:
			return errLeft
		case ctx.Err() != nil && end.Equal(k.end) && limit < k.client.limits.total:
			k.elapsed = true
			return errLeft
		case ctx.Err() != nil:
			return fmt.Errorf("%w within %v", errSilent, limit)
		}
		return fmt.Errorf("%s: %w", doing, err)
	}
	resp, err := k.client.gate.transport.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return broken("send", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		// What cannot be read of an explanation is not worth another error.
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
		return newStatusError(resp, text, k.client.key)
	}
	body, err := readAll(resp)
	switch {
	case errors.Is(err, model.ErrRejected):
	case err != nil:
		return broken("read answer", err)
	case k.check != nil:
		err = k.check(body)
	}
	if err != nil {
		return &badAnswer{err, k.client.key.redact(err.Error())}
	}
	k.answer = body
	return nil
}

func readAll(resp *http.Response) ([]byte, error) {
	// Trust the declared length only so far: a server that lies should not make us allocate.
	if size := resp.ContentLength; size >= 0 && size <= 1<<20 {
		body := make([]byte, size)
		_, err := io.ReadFull(resp.Body, body)
		return body, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err == nil && len(body) > maxBody {
		err = fmt.Errorf("%w: over %d bytes", model.ErrRejected, maxBody)
	}
	return body, err
}

// again implements retryablehttp.CheckRetry.
func (k *call) again(ctx context.Context, _ *http.Response, err error) (bool, error) {
	if err == nil {
		return false, nil
	}
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if k.elapsed {
		return false, errElapsed
	}
	if k.last == nil { // net/http did not even hand it to RoundTrip
		k.last = errNotSent
	}
	most := 1
	switch kind := sentinel(k.last); {
	case errors.Is(kind, model.ErrUnavailable):
		most = maxTries
	case isBadAnswer(k.last) && errors.Is(kind, model.ErrRejected):
		most = maxRejected
	}
	if s, ok := errors.AsType[*StatusError](k.last); !ok || s.Code != http.StatusTooManyRequests && s.after == 0 || most == 1 {
		k.failures++
	}
	return k.failures < most, nil
}

// wait is how long to wait after a try, counted from 0: what the server asked for, within limits, or full jitter.
func (k *call) wait(try int) time.Duration {
	l := k.client.limits
	if s, ok := errors.AsType[*StatusError](k.last); ok && s.after > 0 {
		return min(s.after, l.retryAfter) + rand.N(l.minWait)
	}
	w := rand.N(min(l.maxWait, l.minWait<<min(try, 16))) + 1
	if !k.client.gate.budget.spend() {
		w += l.maxWait/2 + rand.N(l.maxWait/2+1)
	}
	return w
}

// fault is the error for the caller: why the call ended and how the last try failed.
func (k *call) fault(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	last := k.last
	if k.elapsed {
		if last == nil {
			last = errors.New("the server was down all the time")
		}
		return fmt.Errorf("%w: gave up after %v and %d tries: %w", model.ErrUnavailable, k.client.limits.total, k.tries, last)
	}
	kind := sentinel(last)
	if k.tries > 1 {
		return fmt.Errorf("%w after %d tries: %w", kind, k.tries, last)
	}
	return fmt.Errorf("%w: %w", kind, last)
}
