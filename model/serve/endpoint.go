package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strings"
	"time"
)

// A request's body must come, and its answer be taken, within these times: slots are not for those who
// send a byte a minute.
const (
	bodyTime   = time.Minute
	answerTime = time.Minute
)

// A reply is a good answer.
type reply interface {
	send(w http.ResponseWriter) error
}

// jsonReply is a reply of one JSON value.
type jsonReply struct{ value any }

func (j jsonReply) send(w http.ResponseWriter) error {
	b, err := json.Marshal(j.value)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	_, err = w.Write(append(b, '\n'))
	return err
}

// An answerFunc answers a request, or says why not; it writes nothing.
type answerFunc func(http.ResponseWriter, *http.Request) (reply, error)

// endpoint wraps what answers in the checks, the counts and the form of errors that all paths share.
// An empty method is any.
func (s *Server) endpoint(name, method string, answer answerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		code := http.StatusInternalServerError // what net/http makes of a panic, as far as anybody sees
		defer func() { s.metrics.done(name, code, time.Since(start)) }()

		got, err := s.checked(w, r, method, answer)
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerTime)) // a recorder has none
		if err != nil {
			f := s.explain(r, err)
			code = f.status
			if f.status == http.StatusMethodNotAllowed {
				w.Header().Set("Allow", method)
			}
			f.send(w)
			return
		}
		code = http.StatusOK
		if err := got.send(w); err != nil {
			s.log.Debug("answer not sent", "path", r.URL.Path, "error", err)
		}
	})
}

func (s *Server) checked(w http.ResponseWriter, r *http.Request, method string, answer answerFunc) (reply, error) {
	if s.cfg.APIKey != "" {
		scheme, key, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		if !strings.EqualFold(scheme, "Bearer") || !s.key.Is(strings.TrimSpace(key)) {
			return nil, &fault{status: http.StatusUnauthorized, Message: "no key, or a wrong one: send the header Authorization: Bearer KEY", Type: invalid, Code: "invalid_api_key"}
		}
	}
	if method != "" && r.Method != method {
		return nil, &fault{status: http.StatusMethodNotAllowed, Message: fmt.Sprintf("%s is not for %s: use %s", r.URL.Path, r.Method, method), Type: invalid}
	}
	return answer(w, r)
}

// limited reads the body of a request that has got a slot, and hands it on.
func (s *Server) limited(answer func(context.Context, []byte) (reply, error)) answerFunc {
	return func(w http.ResponseWriter, r *http.Request) (reply, error) {
		// A browser sends this type to other sites only with their consent.
		if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
			return nil, &fault{status: http.StatusUnsupportedMediaType, Message: "send JSON with the header Content-Type: application/json", Type: invalid}
		}
		if r.ContentLength > s.cfg.MaxBody {
			return nil, &http.MaxBytesError{Limit: s.cfg.MaxBody}
		}
		leave, err := s.door.enter(r.Context())
		if err != nil {
			return nil, err
		}
		defer leave()
		body, err := s.read(w, r)
		if err != nil {
			return nil, err
		}
		return answer(r.Context(), body)
	}
}

// read returns the whole body.
func (s *Server) read(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Now().Add(bodyTime)) // a recorder has none
	// Past the body, the end of this time would look like a client that went away.
	defer func() { _ = rc.SetReadDeadline(time.Time{}) }()
	var body bytes.Buffer
	body.Grow(int(max(r.ContentLength, 0)) + bytes.MinRead) // the length has been checked
	_, err := body.ReadFrom(http.MaxBytesReader(w, r.Body, s.cfg.MaxBody))
	if err != nil {
		if _, large := errors.AsType[*http.MaxBytesError](err); large {
			return nil, err
		}
		return nil, &fault{status: http.StatusBadRequest, Message: "the request was cut off: " + err.Error(), Type: invalid}
	}
	return body.Bytes(), nil
}
