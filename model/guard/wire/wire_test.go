//go:build unix

package wire_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/promptmill/promptmill/model/guard/wire"
)

// serve gives every connection, numbered from 1, to talk, and returns the address.
func serve(t testing.TB, talk func(n int, c net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	ended := make(chan struct{})
	t.Cleanup(func() {
		_ = l.Close()
		close(ended)
		wg.Wait()
	})
	wg.Go(func() {
		for n := 1; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				<-ended
				_ = c.Close()
			})
			wg.Go(func() {
				defer c.Close()
				talk(n, c)
			})
		}
	})
	return l.Addr().String()
}

// question reads a request and returns its body, or false at the end of the connection.
func question(r *bufio.Reader) (string, bool) {
	req, err := http.ReadRequest(r)
	if err != nil {
		return "", false
	}
	b, err := io.ReadAll(req.Body)
	return string(b), err == nil
}

func ok(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

func ask(ctx context.Context, tr *wire.Transport, addr, body string, header ...string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/x", strings.NewReader(body))
	if err != nil {
		return "", err
	}
	for _, h := range header {
		req.Header.Set(h, "k")
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return fmt.Sprint(resp.StatusCode, " ", string(b)), err
}

// What a server may do to a connection between and within answers. Each case asks three times, one
// after the other; every question must get its own answer, and the connections used are counted.
func TestReuse(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		// answer is what follows the body of the question; "" closes without an answer.
		answer func(q string) string
		late   string // sent after a pause
		closes bool
		conns  int
	}{
		{"length", ok, "", false, 1},
		{"chunks", func(q string) string {
			return fmt.Sprintf("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(q), q)
		}, "", false, 1},
		{"trailer", func(q string) string {
			return fmt.Sprintf("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n%x\r\n%s\r\n0\r\nX: y\r\n\r\n", len(q), q)
		}, "", false, 1},
		{"interim answers", func(q string) string {
			return "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + ok(q)
		}, "", false, 1},
		{"says close", func(q string) string { return strings.Replace(ok(q), "\r\n", "\r\nConnection: close\r\n", 1) }, "", false, 3},
		{"old version", func(q string) string { return "HTTP/1.0 200 OK\r\n\r\n" + q }, "", true, 3},
		{"closes after the answer", ok, "", true, 3},
		{"more than its length", func(q string) string { return ok(q) + ok("wrong") }, "", false, 3},
		{"an answer nobody asked for", ok, ok("wrong"), false, 3},
		{"408 when idle", ok, "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n", true, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var conns atomic.Int64
			idle, settled := make(chan bool, 3), make(chan bool, 3) // what the server waits for, and the client
			addr := serve(t, func(_ int, c net.Conn) {
				conns.Add(1)
				r := bufio.NewReader(c)
				for {
					q, more := question(r)
					if !more {
						return
					}
					_, _ = io.WriteString(c, tt.answer(q))
					if tt.late != "" {
						<-idle
						_, _ = io.WriteString(c, tt.late)
					}
					if tt.closes {
						_ = c.Close()
					}
					settled <- true
					if tt.closes {
						return
					}
				}
			})
			tr := wire.New(addr, 4)
			for i := range 3 {
				q := fmt.Sprint("question ", i)
				if got, err := ask(t.Context(), tr, addr, q); got != "200 "+q || err != nil {
					t.Errorf("%s got %q, %v", q, got, err)
				}
				idle <- true
				<-settled // whatever comes to the idle connection has come
			}
			if n := int(conns.Load()); n != tt.conns {
				t.Errorf("%d connections; want %d", n, tt.conns)
			}
		})
	}
}

// A connection that dies under a question: it is asked once more, on a fresh connection, if that is
// allowed and no byte of an answer came.
func TestRepeat(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, header, answer string
		conns                int
		ok                   bool
	}{
		{"no answer", "Idempotency-Key", "", 2, true},
		{"not to be repeated", "X-Other", "", 1, false},
		{"a byte came", "Idempotency-Key", "H", 1, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var conns atomic.Int64
			addr := serve(t, func(n int, c net.Conn) {
				conns.Add(1)
				r := bufio.NewReader(c)
				q, _ := question(r)
				_, _ = io.WriteString(c, ok(q))
				if q, _ = question(r); n == 1 {
					_, _ = io.WriteString(c, tt.answer)
					return
				}
				_, _ = io.WriteString(c, ok(q))
			})
			tr := wire.New(addr, 4)
			if _, err := ask(t.Context(), tr, addr, "first"); err != nil {
				t.Fatal(err)
			}
			got, err := ask(t.Context(), tr, addr, "second", tt.header)
			if (err == nil) != tt.ok || tt.ok && got != "200 second" || int(conns.Load()) != tt.conns {
				t.Errorf("got %q, %v over %d connections", got, err, conns.Load())
			}
		})
	}
}

// A fresh connection that ends without an answer is not tried again: that is the caller's to decide.
func TestNoAnswer(t *testing.T) {
	t.Parallel()
	var conns atomic.Int64
	addr := serve(t, func(_ int, c net.Conn) {
		conns.Add(1)
		question(bufio.NewReader(c))
	})
	_, err := ask(t.Context(), wire.New(addr, 4), addr, "x", "Idempotency-Key")
	if err == nil || !strings.Contains(err.Error(), "without an answer") || conns.Load() != 1 {
		t.Errorf("%v over %d connections", err, conns.Load())
	}
}

// A refusal in the middle of a long question is read, and its connection is not used again.
func TestEarlyRefusal(t *testing.T) {
	t.Parallel()
	addr := serve(t, func(_ int, c net.Conn) {
		_, _ = io.ReadFull(c, make([]byte, 1000))
		_, _ = io.WriteString(c, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 8\r\n\r\ntoo long")
		_ = c.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, c)
	})
	tr := wire.New(addr, 4)
	for range 2 {
		if got, err := ask(t.Context(), tr, addr, strings.Repeat("x", 8<<20)); got != "413 too long" || err != nil {
			t.Errorf("got %.40q, %v", got, err)
		}
	}
}

func TestBadAnswers(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"not HTTP":              "SSH-2.0-x\r\n\r\n",
		"endless header":        "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 2<<20) + "\r\n\r\n",
		"endless interim":       strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 10) + ok("x"),
		"cut in the header":     "HTTP/1.1 200 OK\r\nContent-Le",
		"cut in the body":       "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345",
		"cut in a chunk":        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n12345",
		"two different lengths": "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := serve(t, func(_ int, c net.Conn) {
				question(bufio.NewReader(c))
				_, _ = io.WriteString(c, answer)
			})
			if got, err := ask(t.Context(), wire.New(addr, 4), addr, "x"); err == nil {
				t.Errorf("got %q", got)
			}
		})
	}
}

// The end of the context ends the wait for an answer and the reading of its body, with its cause.
func TestCancel(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{"no answer": "", "in the body": "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := serve(t, func(n int, c net.Conn) {
				q, _ := question(bufio.NewReader(c))
				if n > 1 {
					answer = ok(q)
				}
				_, _ = io.WriteString(c, answer)
				_, _ = io.Copy(io.Discard, c)
			})
			tr := wire.New(addr, 4)
			ctx, cancel := context.WithCancelCause(t.Context())
			why := errors.New("enough")
			time.AfterFunc(30*time.Millisecond, func() { cancel(why) })
			start := time.Now()
			if _, err := ask(ctx, tr, addr, "x"); !errors.Is(err, why) || time.Since(start) > 5*time.Second {
				t.Errorf("%v after %v", err, time.Since(start))
			}
			if got, err := ask(t.Context(), tr, addr, "y"); got != "200 y" || err != nil {
				t.Errorf("the next question got %q, %v", got, err)
			}
		})
	}
}

// An answer that is closed before its body came does not leave the body to the next question.
func TestClosedUnread(t *testing.T) {
	t.Parallel()
	closed := make(chan struct{})
	addr := serve(t, func(n int, c net.Conn) {
		r := bufio.NewReader(c)
		for {
			q, more := question(r)
			switch {
			case !more:
				return
			case n > 1:
				_, _ = io.WriteString(c, ok(q))
			default:
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n")
				<-closed
				defer func() { _, _ = io.WriteString(c, ok("another's")) }()
			}
		}
	})
	tr := wire.New(addr, 4)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Error(err)
	}
	close(closed)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if got, err := ask(ctx, tr, addr, "x"); got != "200 x" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

// Many askers, cancelled at random, at a server that does everything wrong at random: whoever gets an
// answer gets their own.
func TestNeverAnothersAnswer(t *testing.T) {
	t.Parallel()
	addr := serve(t, func(n int, c net.Conn) {
		rng := rand.New(rand.NewPCG(7, uint64(n)))
		r := bufio.NewReader(c)
		for {
			q, more := question(r)
			if !more {
				return
			}
			if rng.IntN(3) == 0 {
				time.Sleep(time.Duration(rng.IntN(3000)) * time.Microsecond)
			}
			a := ok(q)
			if rng.IntN(2) == 0 {
				a = fmt.Sprintf("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(q), q)
			}
			switch rng.IntN(12) {
			case 0:
				a = a[:rng.IntN(len(a))]
				_, _ = io.WriteString(c, a)
				return
			case 1:
				a += ok("another's")
			case 2:
				_, _ = io.WriteString(c, a)
				return
			case 3:
				return
			}
			half := rng.IntN(len(a))
			_, _ = io.WriteString(c, a[:half])
			_, _ = io.WriteString(c, a[half:])
		}
	})
	tr := wire.New(addr, 8)
	var wg sync.WaitGroup
	var answered, failed atomic.Int64
	for worker := range 16 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(11, uint64(worker)))
			for i := range 250 {
				ctx, cancel := context.WithCancel(t.Context())
				if rng.IntN(4) == 0 {
					time.AfterFunc(time.Duration(rng.IntN(2000))*time.Microsecond, cancel)
				}
				q := fmt.Sprintf("question %d of %d %s", i, worker, strings.Repeat("x", rng.IntN(9000)))
				got, err := ask(ctx, tr, addr, q, "Idempotency-Key")
				cancel()
				switch {
				case err != nil:
					failed.Add(1)
				case got != "200 "+q:
					t.Errorf("%.30q got %.60q", q, got)
				default:
					answered.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if a, f := answered.Load(), failed.Load(); a < 2000 || f < 200 {
		t.Errorf("%d answered, %d failed: the test tests nothing", a, f)
	}
}

// Idle connections are bounded; an answer that is closed unread gives its connection up.
func TestPool(t *testing.T) {
	t.Parallel()
	var open, most atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
		time.Sleep(20 * time.Millisecond)
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			most.Store(max(most.Load(), open.Add(1)))
		case http.StateClosed:
			open.Add(-1)
		}
	}
	s.Start()
	defer s.Close()
	addr := s.Listener.Addr().String()
	tr := wire.New(addr, 3)
	var wg sync.WaitGroup
	for range 12 {
		wg.Go(func() {
			if _, err := ask(t.Context(), tr, addr, "x"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	left := func(want int64) {
		t.Helper()
		for deadline := time.Now().Add(5 * time.Second); open.Load() != want; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d connections open; want %d", open.Load(), want)
			}
		}
	}
	left(3)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL, strings.NewReader(strings.Repeat("x", 1<<20)))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Error(err)
	}
	left(2)
	if most.Load() < 4 {
		t.Errorf("at most %d at once: the test tests nothing", most.Load())
	}
}

// FuzzAnswer sends a stranger's bytes as an answer: whatever becomes of that question, those before and
// after it get their own answers.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{
		ok("x"), ok(""), ok("x") + ok("wrong"), "HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
		"HTTP/1.1 100 Continue\r\n\r\n" + ok("x"), "HTTP/1.1 101 Switching Protocols\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\nx",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx", "",
	} {
		f.Add([]byte(seed))
	}
	var answer atomic.Pointer[[]byte]
	addr := serve(f, func(_ int, c net.Conn) {
		r := bufio.NewReader(c)
		for {
			q, more := question(r)
			if !more {
				return
			}
			if q == "plain" {
				_, _ = io.WriteString(c, ok("plain"))
				continue
			}
			_, _ = c.Write(*answer.Load())
			_ = c.(*net.TCPConn).CloseWrite()
		}
	})
	tr := wire.New(addr, 2)
	f.Fuzz(func(t *testing.T, data []byte) {
		answer.Store(&data)
		for _, q := range []string{"plain", "strange", "plain"} {
			got, err := ask(t.Context(), tr, addr, q, "Idempotency-Key")
			if q == "plain" && (got != "200 plain" || err != nil) {
				t.Errorf("got %q, %v", got, err)
			}
		}
	})
}
