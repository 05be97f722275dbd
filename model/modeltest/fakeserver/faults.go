package fakeserver

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

// A Fault is a way to fail.
type Fault string

// The faults. The last three need a picture to spoil; chat requests that draw one of them get Garbage.
const (
	Status429 Fault = "429"      // at once, with Config.RetryAfter
	Status500 Fault = "500"      // after the work
	Status503 Fault = "503"      // at once, with Config.RetryAfter
	Reset     Fault = "reset"    // the connection ends before any answer
	Cut       Fault = "cut"      // the connection ends in the middle of the body
	Slow      Fault = "slow"     // a good answer, Config.SlowBy late
	Garbage   Fault = "garbage"  // 200 with HTML
	Empty     Fault = "empty"    // 200 with no choices or pictures
	Redirect  Fault = "redirect" // 307 to Config.RedirectTo
	Damaged   Fault = "damaged"  // a picture that ends in its header
	Black     Fault = "black"    // a black picture
	Bomb      Fault = "bomb"     // a picture that claims 40000 x 40000 pixels
)

// early says that a fault takes no slot.
func (f Fault) early() bool {
	return f == Status429 || f == Status503 || f == Redirect || f == Reset
}

// fate decides about the try-th request of one content: the same in every run.
func (c Config) fate(sum [32]byte, try int) (Fault, time.Duration) {
	rng := rand.New(rand.NewPCG(c.Seed, binary.LittleEndian.Uint64(sum[:])+uint64(try)))
	faults := c.Faults
	if len(faults) == 0 {
		faults = []Fault{Status429, Status500}
	}
	var f Fault
	if rng.Float64() < c.FaultRate {
		f = faults[rng.IntN(len(faults))]
	}
	took := c.Latency
	if c.Sigma > 0 {
		took = time.Duration(float64(took) * math.Exp(c.Sigma*rng.NormFloat64()))
	}
	if f == Slow {
		if c.SlowBy > 0 {
			took += c.SlowBy
		} else {
			took += time.Minute
		}
	}
	return f, took
}

// fail answers with a fault that takes no slot.
func (s *Server) fail(w http.ResponseWriter, c Config, f Fault) {
	s.count(func(st *Stats) { st.Faults[f]++ })
	switch f {
	case Status429:
		if c.RetryAfter != "" {
			w.Header().Set("Retry-After", c.RetryAfter)
		}
		send(w, http.StatusTooManyRequests, []byte(`{"error":{"message":"Rate limit reached","type":"rate_limit_error","code":"rate_limit_exceeded"}}`))
	case Status503:
		if c.RetryAfter != "" {
			w.Header().Set("Retry-After", c.RetryAfter)
		}
		send(w, http.StatusServiceUnavailable, []byte("no healthy upstream"))
	case Redirect:
		w.Header().Set("Location", c.RedirectTo)
		send(w, http.StatusTemporaryRedirect, nil)
	case Reset:
		panic(http.ErrAbortHandler)
	}
}

// spoil sends a good answer, or what fault f leaves of it.
func spoil(w http.ResponseWriter, f Fault, answer []byte) {
	switch f {
	case Status500:
		send(w, http.StatusInternalServerError, []byte(`{"error":{"message":"internal error","type":"server_error"}}`))
	case Cut:
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
		_, _ = w.Write(answer[:len(answer)/2])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	case Garbage:
		send(w, http.StatusOK, []byte("<html><body>please log in</body></html>"))
	default:
		send(w, http.StatusOK, answer)
	}
}
