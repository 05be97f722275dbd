// Package fakeserver is a model server that costs nothing: it speaks the wire formats of OpenAI chat
// completions and images, AUTOMATIC1111 and VILA over real HTTP, with slots, latency and faults.
//
// # Design
//
// Everything it answers is a function of the content of the request, and every fault of (seed, content,
// how often that content came), so a run is the same whatever the concurrency. The texts follow the
// shape of what is asked: two pictures get a judgment that a judge's parser accepts, anything else a
// rewriting. It knows the habits by which real servers differ; each is a switch of Config.
package fakeserver

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"
)

// Config says how a server behaves. The zero Config is a quick server without limits or faults that
// has every feature.
type Config struct {
	// Slots is how many requests are served at once; others queue. 0 is no limit.
	Slots int `json:"slots,omitempty" yaml:"slots,omitempty"`
	// Latency is the time in a slot: exactly, or as median of a log-normal distribution of this Sigma.
	Latency time.Duration `json:"latency,omitempty" yaml:"latency,omitempty"`
	Sigma   float64       `json:"sigma,omitempty" yaml:"sigma,omitempty"`

	// FaultRate is the share of requests that fail in one of the ways of Faults, each equally often;
	// empty Faults is Status429 and Status500.
	FaultRate float64 `json:"fault_rate,omitempty" yaml:"fault_rate,omitempty"`
	Faults    []Fault `json:"faults,omitempty" yaml:"faults,omitempty"`
	// RetryAfter is the header of a 429 and 503; "" is none.
	RetryAfter string `json:"retry_after,omitempty" yaml:"retry_after,omitempty"`
	// SlowBy is what Slow adds to the latency; 0 is a minute.
	SlowBy time.Duration `json:"slow_by,omitempty" yaml:"slow_by,omitempty"`
	// RedirectTo is where Redirect points.
	RedirectTo string `json:"redirect_to,omitempty" yaml:"redirect_to,omitempty"`
	Seed       uint64 `json:"seed,omitempty" yaml:"seed,omitempty"`

	// Key is the bearer key that requests must carry; "" asks for none.
	Key string `json:"-" yaml:"-"`

	// NoN answers one choice whatever n is; MaxN refuses more (0 is no limit); GreedyRefusesN refuses
	// n > 1 at temperature 0, as vLLM does.
	NoN            bool `json:"no_n,omitempty" yaml:"no_n,omitempty"`
	MaxN           int  `json:"max_n,omitempty" yaml:"max_n,omitempty"`
	GreedyRefusesN bool `json:"greedy_refuses_n,omitempty" yaml:"greedy_refuses_n,omitempty"`
	// SameN gives n equal choices. NoSeed ignores seeds: equal requests get equal answers.
	SameN  bool `json:"same_n,omitempty" yaml:"same_n,omitempty"`
	NoSeed bool `json:"no_seed,omitempty" yaml:"no_seed,omitempty"`
	// NoUsage and NoFinish leave out usage and finish_reason; ContentParts makes content an array.
	NoUsage      bool `json:"no_usage,omitempty" yaml:"no_usage,omitempty"`
	NoFinish     bool `json:"no_finish,omitempty" yaml:"no_finish,omitempty"`
	ContentParts bool `json:"content_parts,omitempty" yaml:"content_parts,omitempty"`
	// LastImageOnly forgets all but the last picture, as some versions of VILA do; NoImages refuses
	// pictures, as text models do.
	LastImageOnly bool `json:"last_image_only,omitempty" yaml:"last_image_only,omitempty"`
	NoImages      bool `json:"no_images,omitempty" yaml:"no_images,omitempty"`
	// VILA is the server of that project: no /v1, no n, seed, usage or finish_reason, array content.
	VILA bool `json:"vila,omitempty" yaml:"vila,omitempty"`
	// MaxPromptBytes refuses longer chat requests with 400; 0 is no limit.
	MaxPromptBytes int `json:"max_prompt_bytes,omitempty" yaml:"max_prompt_bytes,omitempty"`
	// EmptyInfo leaves the info of a txt2img answer empty, as sd-server does; AnySize draws 64 x 64
	// whatever is asked.
	EmptyInfo bool `json:"empty_info,omitempty" yaml:"empty_info,omitempty"`
	AnySize   bool `json:"any_size,omitempty" yaml:"any_size,omitempty"`
}

// Stats counts what a server has seen since it started or since ResetStats.
type Stats struct {
	// Calls counts requests, OK those answered as asked, Cancelled those whose client left.
	Calls     int `json:"calls"`
	OK        int `json:"ok"`
	Cancelled int `json:"cancelled"`
	// Distinct counts different bodies, Repeated further requests with a body seen before, PaidTwice
	// further good answers to a body answered before.
	Distinct  int `json:"distinct"`
	Repeated  int `json:"repeated"`
	PaidTwice int `json:"paid_twice"`
	// MaxInFlight is the most requests in slots at once, MaxOpen the most in slots and queue.
	MaxInFlight int `json:"max_in_flight"`
	MaxOpen     int `json:"max_open"`
	// Connections counts accepted connections.
	Connections int `json:"connections"`
	// Busy is the sum of the times in slots: Busy / (wall time x slots) is the utilisation.
	Busy time.Duration `json:"busy"`
	// First is when the first call came, Last when the newest answer left.
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
	// Faults counts faults by kind.
	Faults map[Fault]int `json:"faults"`
}

// A Server answers at URL until Close.
type Server struct {
	// URL is the endpoint, without /v1.
	URL string

	http  *http.Server
	slots chan struct{}

	mu       sync.Mutex
	config   Config
	stats    Stats
	flying   int
	open     int
	seen     map[[32]byte]int
	answered map[[32]byte]int
}

// Start starts a server on a free port of the loopback interface.
func Start(c Config) (*Server, error) { return Listen("127.0.0.1:0", c) }

// New starts a server that lives as long as a test.
func New(tb testing.TB, c Config) *Server {
	tb.Helper()
	s, err := Start(c)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Close)
	return s
}

// Listen starts a server on addr.
func Listen(addr string, c Config) (*Server, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("fake server: %w", err)
	}
	s := &Server{URL: "http://" + l.Addr().String(), config: c}
	if c.Slots > 0 {
		s.slots = make(chan struct{}, c.Slots)
	}
	s.ResetStats()
	s.http = &http.Server{Handler: s.routes(c), ReadHeaderTimeout: 10 * time.Second, ConnState: func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.mu.Lock()
			s.stats.Connections++
			s.mu.Unlock()
		}
	}}
	go func() { _ = s.http.Serve(l) }() // ends with Close
	return s, nil
}

// Close stops the server and cuts its connections.
func (s *Server) Close() { _ = s.http.Close() }

// Change changes how the server behaves from the next request on. Slots and VILA stay as they were.
func (s *Server) Change(change func(*Config)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.config)
}

// Stats returns the counts so far.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Faults = make(map[Fault]int, len(s.stats.Faults))
	for k, n := range s.stats.Faults {
		st.Faults[k] = n
	}
	st.Distinct = len(s.seen)
	for _, n := range s.seen {
		st.Repeated += n - 1
	}
	for _, n := range s.answered {
		st.PaidTwice += n - 1
	}
	return st
}

// ResetStats starts counting anew. A body that came before is new again.
func (s *Server) ResetStats() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats = Stats{Faults: map[Fault]int{}}
	s.seen, s.answered = map[[32]byte]int{}, map[[32]byte]int{}
}

func (s *Server) routes(c Config) http.Handler {
	mux := http.NewServeMux()
	v1 := "/v1"
	if c.VILA {
		v1 = ""
	}
	mux.HandleFunc("POST "+v1+"/chat/completions", s.serve(chat))
	mux.HandleFunc("POST "+v1+"/images/generations", s.serve(generations))
	mux.HandleFunc("POST /sdapi/v1/txt2img", s.serve(txt2img))
	mux.HandleFunc("GET "+v1+"/models", func(w http.ResponseWriter, _ *http.Request) {
		send(w, http.StatusOK, []byte(`{"object":"list","data":[{"id":"fake","object":"model","owned_by":"fakeserver"}]}`))
	})
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) {
		b, err := json.Marshal(s.Stats())
		if err != nil {
			panic(err) // plain data
		}
		send(w, http.StatusOK, b)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		send(w, http.StatusNotFound, []byte(`{"detail":"Not Found"}`))
	})
	return mux
}

// A refusal is an answer with a status of its own.
type refusal struct {
	status int
	text   string
}

func (r *refusal) Error() string { return r.text }

// serve counts, waits for a slot, takes its time, and answers with what handle makes of the body, or
// with a fault.
func (s *Server) serve(handle func(c Config, body []byte, f Fault) ([]byte, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the client is gone
		}
		sum := sha256.Sum256(body)
		c, f, took := s.arrive(sum)
		defer s.leave()
		if c.Key != "" && r.Header.Get("Authorization") != "Bearer "+c.Key {
			send(w, http.StatusUnauthorized, []byte(`{"error":"Unauthorized"}`))
			return
		}
		if f.early() { // a rate limiter and a proxy take no slot
			s.fail(w, c, f)
			return
		}
		if !s.work(r, took) {
			s.count(func(st *Stats) { st.Cancelled++ })
			return
		}
		answer, err := handle(c, body, f)
		if refused, ok := errors.AsType[*refusal](err); ok {
			sendError(w, c, refused)
			return
		} else if err != nil {
			sendError(w, c, &refusal{http.StatusBadRequest, err.Error()})
			return
		}
		if f != "" {
			s.count(func(st *Stats) { st.Faults[f]++ })
		} else {
			s.count(func(st *Stats) { st.OK++; s.answered[sum]++ })
		}
		spoil(w, f, answer)
	}
}

// arrive counts a request and decides its fate.
func (s *Server) arrive(sum [32]byte) (Config, Fault, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stats.Calls++; s.stats.Calls == 1 {
		s.stats.First = time.Now()
	}
	s.seen[sum]++
	s.open++
	s.stats.MaxOpen = max(s.stats.MaxOpen, s.open)
	f, took := s.config.fate(sum, s.seen[sum])
	return s.config, f, took
}

func (s *Server) leave() {
	s.mu.Lock()
	s.open--
	s.stats.Last = time.Now()
	s.mu.Unlock()
}

func (s *Server) count(f func(*Stats)) {
	s.mu.Lock()
	f(&s.stats)
	s.mu.Unlock()
}

// work holds a slot for the time that the request takes; false if the client left.
func (s *Server) work(r *http.Request, took time.Duration) bool {
	if s.slots != nil {
		select {
		case s.slots <- struct{}{}:
			defer func() { <-s.slots }()
		case <-r.Context().Done():
			return false
		}
	}
	start := time.Now()
	s.count(func(st *Stats) { s.flying++; st.MaxInFlight = max(st.MaxInFlight, s.flying) })
	defer func() {
		s.count(func(st *Stats) { s.flying--; st.Busy += time.Since(start) })
	}()
	if took <= 0 {
		return true
	}
	t := time.NewTimer(took)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.Context().Done():
		return false
	}
}

func send(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may be gone
}

// sendError explains in the form of the server that is imitated.
func sendError(w http.ResponseWriter, c Config, r *refusal) {
	if c.VILA {
		b, _ := json.Marshal(map[string]string{"error": r.text})
		send(w, http.StatusInternalServerError, b)
		return
	}
	b, _ := json.Marshal(map[string]any{"error": map[string]any{"message": r.text, "type": "BadRequestError", "code": r.status}})
	send(w, r.status, b)
}
