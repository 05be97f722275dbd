// Package guard calls slow, costly HTTP model servers: a request goes in, a whole and valid answer or
// a typed error comes out.
//
// # Design
//
// Outermost first, a call passes: retry with full jitter, bounded in tries and in time; a retry budget
// that slows a job down and never fails a row; a first-come-first-served bulkhead whose width adapts
// to the server; a circuit breaker; a time limit for the attempt; the request; the reading and checking
// of the whole body. The breaker is inside the bulkhead, because calls that queued before it opened
// must see it open. The check is inside the retry, because a 200 with half a body is a failure.
//
// Everything from the bulkhead inwards belongs to the endpoint and is shared by all clients of this
// process, so bundles and stages that use one server share its limits. A call that waits for the
// breaker burns no tries. The clock of a call starts when it first gets a slot (a long queue of our
// own is not the server's fault), or, if the server is down by then, when it went down.
//
// All waits are fractions of Spec.TotalTimeout, so there is one number to set.
package guard

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/promptmill/promptmill/model"
)

// Defaults where a Spec gives 0.
const (
	DefaultConcurrency    = 64
	DefaultTotalTimeout   = 10 * time.Minute
	DefaultAttemptTimeout = 3 * time.Minute
)

const (
	// maxTries bounds the failures of one call; refusals with "come back later" do not count.
	maxTries = 10
	// maxRejected bounds how often a complete answer that says nothing is asked for.
	maxRejected = 3
	maxBody     = 64 << 20
)

// limits are the times of one client.
type limits struct {
	total, attempt   time.Duration
	minWait, maxWait time.Duration
	// retryAfter caps what a server may ask for.
	retryAfter time.Duration
	// open is how long the breaker stays open before it lets one call probe.
	open time.Duration
}

func newLimits(spec model.Spec) limits {
	total, attempt := spec.TotalTimeout, spec.AttemptTimeout
	if total == 0 {
		total = DefaultTotalTimeout
	}
	if attempt == 0 {
		attempt = DefaultAttemptTimeout
	}
	return limits{
		total: total, attempt: min(attempt, total),
		minWait: max(min(total/2400, 250*time.Millisecond), 1), maxWait: max(min(total/20, 30*time.Second), 1),
		retryAfter: max(total/5, 1), open: max(min(total/60, 10*time.Second), 1),
	}
}

// A Client calls one endpoint with one key. It is safe for concurrent use.
type Client struct {
	base   *url.URL
	key    Secret
	limits limits
	gate   *gate
}

// Open checks spec's Endpoint and limits, loads its key and returns a client. It does not call the
// server. Clients of equal endpoints share one limit: the lowest Concurrency that any of them asks
// for. Its errors wrap model.ErrConfig.
func Open(spec model.Spec) (*Client, error) {
	base, err := parseEndpoint(spec.Endpoint)
	if err != nil {
		return nil, err
	}
	if spec.Concurrency < 0 || spec.AttemptTimeout < 0 || spec.TotalTimeout < 0 {
		return nil, fmt.Errorf("%w: concurrency and timeouts of %s must not be negative; leave them out for the defaults", model.ErrConfig, base.Host)
	}
	key, err := LoadSecret(spec.APIKey)
	if err != nil {
		return nil, err
	}
	width := spec.Concurrency
	if width == 0 {
		width = DefaultConcurrency
	}
	l := newLimits(spec)
	return &Client{base: base, key: key, limits: l, gate: openGate(base, width, l)}, nil
}

// Options reads what every backend on an endpoint has: it refuses the options of spec that are not known, and returns the
// option prefix, a path below the endpoint, which is preset unless given. Its errors wrap model.ErrConfig.
func Options(spec model.Spec, preset string, known ...string) (prefix string, err error) {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(spec.Options)) {
		if !slices.Contains(known, name) {
			errs = append(errs, fmt.Errorf("%w: no option %q; there are %s", model.ErrConfig, name, strings.Join(known, ", ")))
		}
	}
	prefix, given := spec.Options["prefix"]
	if !given {
		prefix = preset
	}
	if prefix = strings.TrimRight(prefix, "/"); prefix != "" && prefix[0] != '/' || strings.ContainsAny(prefix, "?#%") {
		errs = append(errs, fmt.Errorf("%w: option prefix: %q is not a path such as %s", model.ErrConfig, prefix, preset))
	}
	return prefix, errors.Join(errs...)
}

func parseEndpoint(endpoint string) (*url.URL, error) {
	// The parser's error would quote the endpoint, and with it a password.
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%w: endpoint is not an http or https address such as http://127.0.0.1:8000", model.ErrConfig)
	}
	if u.User != nil {
		return nil, fmt.Errorf("%w: endpoint %s has a name or password in it; put it in a file and name that in api_key: file:PATH", model.ErrConfig, u.Host)
	}
	for name := range u.Query() {
		for _, word := range []string{"key", "token", "secret", "sig", "auth", "pass"} {
			if strings.Contains(strings.ToLower(name), word) {
				return nil, fmt.Errorf("%w: endpoint %s has a secret in its query (%s); use api_key: env:NAME or file:PATH", model.ErrConfig, u.Host, name)
			}
		}
	}
	u.Scheme, u.Host = strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	u.Path, u.Fragment = strings.TrimRight(u.Path, "/"), ""
	return u, nil
}

// Post sends a JSON body to path below the endpoint and returns the whole answer. check, unless nil,
// says whether an answer is usable; it may run several times and keep what it decoded. An answer that
// fails it is asked for again: a few times if its error wraps model.ErrRejected, never if
// model.ErrConfig, as any other failure otherwise. body must not change until Post returns.
//
// Errors wrap the context's error, model.ErrRejected, model.ErrConfig or model.ErrUnavailable, and a
// *StatusError if it was a status that ended the call.
func (c *Client) Post(ctx context.Context, path string, body []byte, check func([]byte) error) ([]byte, error) {
	return c.do(ctx, "POST", path, "application/json", body, check)
}

// Upload is Post with a body of another type, such as a multipart form.
func (c *Client) Upload(ctx context.Context, path, contentType string, body []byte, check func([]byte) error) ([]byte, error) {
	return c.do(ctx, "POST", path, contentType, body, check)
}

// Get is Post without a body; path may end with a query.
func (c *Client) Get(ctx context.Context, path string, check func([]byte) error) ([]byte, error) {
	return c.do(ctx, "GET", path, "", nil, check)
}

// url is that of path, which may end with a query, below the endpoint.
func (c *Client) url(path string) (*url.URL, error) {
	u := *c.base
	path, query, _ := strings.Cut(path, "?")
	u.Path += path
	u.RawQuery = strings.Trim(u.RawQuery+"&"+query, "&")
	if strings.ContainsFunc(u.RawQuery, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return nil, errors.New("not a query")
	}
	return &u, nil
}

var (
	gatesMu sync.Mutex
	gates   = map[string]*gate{}
)

// openGate returns the process's only gate for the endpoint.
func openGate(base *url.URL, width int, l limits) *gate {
	key := base.Scheme + "://" + base.Host + base.Path
	gatesMu.Lock()
	defer gatesMu.Unlock()
	g := gates[key]
	if g == nil {
		g = newGate(base, width, l)
		gates[key] = g
	}
	g.slots.narrow(width)
	return g
}

// idempotencyKey is one per call, not per content: tries of one call may be answered once, but equal
// calls are separate draws.
func idempotencyKey() string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], rand.Uint64())
	binary.BigEndian.PutUint64(b[8:], rand.Uint64())
	return hex.EncodeToString(b[:])
}

// errElapsed is why a call ends when its total time is over.
var errElapsed = errors.New("total time is over")
