package guard_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/guard"
	"github.com/promptmill/promptmill/model/modeltest/fakeserver"
)

func open(t testing.TB, spec model.Spec) *guard.Client {
	t.Helper()
	c, err := guard.Open(spec)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func handler(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// say is a chat request; equal i are equal requests.
func say(i int) []byte {
	return fmt.Appendf(nil, `{"model":"m","messages":[{"role":"user","content":"prompt %d"}]}`, i)
}

func hasChoices(b []byte) error {
	var v struct{ Choices []json.RawMessage }
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	if len(v.Choices) == 0 {
		return errors.New("no choices")
	}
	return nil
}

const chatPath = "/v1/chat/completions"

// each runs n calls at once and returns their errors.
func each(n int, call func(i int) error) []error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = call(i) })
	}
	wg.Wait()
	return errs
}

func TestFaultsLoseNothing(t *testing.T) {
	t.Parallel()
	s := fakeserver.New(t, fakeserver.Config{
		Slots: 64, Latency: time.Millisecond, FaultRate: 0.25, Seed: 1, SlowBy: time.Minute,
		Faults: []fakeserver.Fault{
			fakeserver.Status429, fakeserver.Status500, fakeserver.Status503, fakeserver.Reset, fakeserver.Cut,
			fakeserver.Slow, fakeserver.Garbage, fakeserver.Empty,
		},
	})
	c := open(t, model.Spec{Endpoint: s.URL, AttemptTimeout: 800 * time.Millisecond, TotalTimeout: 20 * time.Second})
	for i, err := range each(1000, func(i int) error {
		_, err := c.Post(t.Context(), chatPath, say(i), hasChoices)
		return err
	}) {
		if err != nil {
			t.Errorf("call %d: %v", i, err)
		}
	}
	st := s.Stats()
	// A quarter of the tries fail, so a third more are needed. On a busy machine an answer may come just
	// as the attempt's time ends.
	if st.Calls > 1450 || st.OK != 1000+st.PaidTwice || st.PaidTwice > 50 || st.MaxOpen > 64+16 {
		t.Errorf("1000 calls cost %+v", st)
	}
	if len(st.Faults) < 7 {
		t.Errorf("only these faults came: %v", st.Faults)
	}
}

func TestDeadServerIsLeftAlone(t *testing.T) {
	t.Parallel()
	s := fakeserver.New(t, fakeserver.Config{FaultRate: 1, Faults: []fakeserver.Fault{fakeserver.Status503}})
	c := open(t, model.Spec{Endpoint: s.URL, Concurrency: 8, TotalTimeout: 600 * time.Millisecond})
	start := time.Now()
	for _, err := range each(300, func(i int) error {
		_, err := c.Post(t.Context(), chatPath, say(i), nil)
		return err
	}) {
		if !errors.Is(err, model.ErrUnavailable) {
			t.Fatalf("error is %v; want ErrUnavailable", err)
		}
	}
	// 10 failures and those in flight open the breaker; then one probe each 10 ms.
	if n := s.Stats().Calls; n > 100 {
		t.Errorf("300 calls hit a dead server %d times", n)
	}
	// Not 300/8 turns of 0.6 s: all have waited since it went down.
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("giving up took %v", took)
	}
}

func TestServerThatComesBack(t *testing.T) {
	t.Parallel()
	s := fakeserver.New(t, fakeserver.Config{FaultRate: 1, Faults: []fakeserver.Fault{fakeserver.Reset}})
	time.AfterFunc(400*time.Millisecond, func() { s.Change(func(c *fakeserver.Config) { c.FaultRate = 0 }) })
	c := open(t, model.Spec{Endpoint: s.URL, Concurrency: 8, TotalTimeout: 5 * time.Second})
	for i, err := range each(100, func(i int) error {
		_, err := c.Post(t.Context(), chatPath, say(i), hasChoices)
		return err
	}) {
		if err != nil {
			t.Errorf("call %d: %v", i, err)
		}
	}
	if st := s.Stats(); st.Calls > 160 || st.OK != 100 {
		t.Errorf("100 calls over an outage cost %d requests, %d good", st.Calls, st.OK)
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, header string
		total        time.Duration
		least, most  time.Duration
	}{
		{"seconds are honoured", "1", 10 * time.Second, time.Second, 1800 * time.Millisecond},
		{"an hour is capped", "3600", time.Second, 200 * time.Millisecond, 900 * time.Millisecond},
		{"a date is capped", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat), time.Second, 200 * time.Millisecond, 900 * time.Millisecond},
		{"a past date is no wait", "Sun, 06 Nov 1994 08:49:37 GMT", time.Second, 0, 300 * time.Millisecond},
		{"nonsense is no wait", "soon", time.Second, 0, 300 * time.Millisecond},
		{"overflow is capped", "99999999999999999", time.Second, 200 * time.Millisecond, 900 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int64
			url := handler(t, func(w http.ResponseWriter, _ *http.Request) {
				if calls.Add(1) == 1 {
					w.Header().Set("Retry-After", tt.header)
					w.WriteHeader(http.StatusTooManyRequests)
				}
			})
			start := time.Now()
			_, err := open(t, model.Spec{Endpoint: url, TotalTimeout: tt.total}).Post(t.Context(), "/x", nil, nil)
			if took := time.Since(start); err != nil || took < tt.least || took > tt.most || calls.Load() != 2 {
				t.Errorf("took %v and %d calls, %v; want %v to %v and 2 calls", took, calls.Load(), err, tt.least, tt.most)
			}
		})
	}
}

// A server that bears 8 requests at once and refuses more: the limit must come down to about that.
func TestLimitAdapts(t *testing.T) {
	t.Parallel()
	var flying, calls atomic.Int64
	url := handler(t, func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		defer flying.Add(-1)
		if flying.Add(1) > 8 {
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		time.Sleep(2 * time.Millisecond)
	})
	c := open(t, model.Spec{Endpoint: url, TotalTimeout: 10 * time.Second})
	for i, err := range each(1000, func(int) error {
		_, err := c.Post(t.Context(), "/x", []byte("{}"), nil)
		return err
	}) {
		if err != nil {
			t.Errorf("call %d: %v", i, err)
		}
	}
	// At a fixed width of 64, seven of eight requests would be refused.
	if n := calls.Load(); n > 2500 {
		t.Errorf("1000 calls took %d requests", n)
	}
}

// A server that becomes slow under more than 8 requests, after a while in which it was not.
func TestLimitAdaptsToLatency(t *testing.T) {
	t.Parallel()
	var flying, calls, least atomic.Int64
	least.Store(64)
	url := handler(t, func(http.ResponseWriter, *http.Request) {
		n := calls.Add(1)
		f := flying.Add(1)
		defer flying.Add(-1)
		if n < 200 {
			time.Sleep(5 * time.Millisecond)
			return
		}
		time.Sleep(min(time.Duration(f)*5*time.Millisecond, 300*time.Millisecond))
		if n < 600 { // the last ones come alone anyway
			least.Store(min(least.Load(), flying.Load()))
		}
	})
	c := open(t, model.Spec{Endpoint: url})
	for i, err := range each(700, func(int) error {
		_, err := c.Post(t.Context(), "/x", []byte("{}"), nil)
		return err
	}) {
		if err != nil {
			t.Errorf("call %d: %v", i, err)
		}
	}
	if n := least.Load(); n > 45 {
		t.Errorf("never fewer than %d requests at once at a server that went slow", n)
	}
}

func TestClientsShareTheEndpointsLimit(t *testing.T) {
	t.Parallel()
	s := fakeserver.New(t, fakeserver.Config{Latency: 2 * time.Millisecond})
	clients := []*guard.Client{
		open(t, model.Spec{Endpoint: s.URL, Concurrency: 7}),
		open(t, model.Spec{Endpoint: s.URL + "/", Concurrency: 3, Model: "other"}),
		open(t, model.Spec{Endpoint: strings.ToUpper(s.URL[:4]) + s.URL[4:], Concurrency: 9}),
	}
	for _, err := range each(60, func(i int) error {
		_, err := clients[i%3].Post(t.Context(), chatPath, say(i), hasChoices)
		return err
	}) {
		if err != nil {
			t.Error(err)
		}
	}
	if st := s.Stats(); st.MaxOpen != 3 || st.Connections > 3 {
		t.Errorf("%d requests at once over %d connections; want 3 over 3", st.MaxOpen, st.Connections)
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	s := fakeserver.New(t, fakeserver.Config{Latency: time.Minute})
	c := open(t, model.Spec{Endpoint: s.URL, Concurrency: 2})
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	start := time.Now()
	for _, err := range each(20, func(i int) error { // 2 in flight, 18 in the queue
		_, err := c.Post(ctx, chatPath, say(i), nil)
		return err
	}) {
		if !errors.Is(err, context.Canceled) || errors.Is(err, model.ErrUnavailable) {
			t.Errorf("error is %v; want context.Canceled", err)
		}
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("cancelling took %v", took)
	}
	s.Change(func(c *fakeserver.Config) { c.Latency = 0 })
	if _, err := c.Post(t.Context(), chatPath, say(0), hasChoices); err != nil {
		t.Errorf("after cancelled calls the slots are lost: %v", err)
	}
}

func TestQueueIsFair(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	var order []string // one request at a time
	url := handler(t, func(_ http.ResponseWriter, r *http.Request) {
		order = append(order, r.URL.Path)
		<-release
	})
	c := open(t, model.Spec{Endpoint: url, Concurrency: 1})
	var wg sync.WaitGroup
	var want []string
	for i := range 8 {
		path := fmt.Sprintf("/%d", i)
		want = append(want, path)
		wg.Go(func() {
			if _, err := c.Get(t.Context(), path, nil); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(20 * time.Millisecond)
	}
	close(release)
	wg.Wait()
	if !slices.Equal(order, want) {
		t.Errorf("served in the order %v", order)
	}
}

// Tries of one call carry one key; equal calls are different draws.
func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var keys []string
	url := handler(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if keys = append(keys, r.Header.Get("Idempotency-Key")); len(keys) < 3 {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	c := open(t, model.Spec{Endpoint: url, TotalTimeout: 2 * time.Second})
	for range 2 {
		if _, err := c.Post(t.Context(), "/x", []byte("{}"), nil); err != nil {
			t.Fatal(err)
		}
	}
	if len(keys) != 4 || keys[0] == "" || keys[0] != keys[1] || keys[1] != keys[2] || keys[2] == keys[3] {
		t.Errorf("keys %q; want three equal and another", keys)
	}
}

func TestAttemptTimeout(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	url := handler(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if calls.Add(1) < 3 {
			<-r.Context().Done()
		}
	})
	c := open(t, model.Spec{Endpoint: url, AttemptTimeout: 50 * time.Millisecond, TotalTimeout: 5 * time.Second})
	if _, err := c.Post(t.Context(), "/x", []byte("{}"), nil); err != nil || calls.Load() != 3 {
		t.Errorf("%d calls, %v; want two timeouts and an answer", calls.Load(), err)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		fail  error
		want  error
		calls int64
	}{
		{"says nothing", fmt.Errorf("%w: empty", model.ErrRejected), model.ErrRejected, 3},
		{"never can", fmt.Errorf("%w: no pictures", model.ErrConfig), model.ErrConfig, 1},
		{"malformed", errors.New("unexpected end"), model.ErrUnavailable, 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int64
			url := handler(t, func(http.ResponseWriter, *http.Request) { calls.Add(1) })
			_, err := open(t, model.Spec{Endpoint: url, TotalTimeout: 2 * time.Second}).Get(t.Context(), "/x", func([]byte) error { return tt.fail })
			if !errors.Is(err, tt.want) || !errors.Is(err, tt.fail) || calls.Load() != tt.calls {
				t.Errorf("%d calls, %v; want %d, %v", calls.Load(), err, tt.calls, tt.want)
			}
		})
	}
}

func TestEndlessAnswer(t *testing.T) {
	t.Parallel()
	url := handler(t, func(w http.ResponseWriter, _ *http.Request) {
		chunk := make([]byte, 1<<20)
		for {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	})
	if _, err := open(t, model.Spec{Endpoint: url}).Get(t.Context(), "/x", nil); !errors.Is(err, model.ErrRejected) {
		t.Errorf("error is %v; want ErrRejected", err)
	}
}
