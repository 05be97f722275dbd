package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/promptmill/promptmill/model"
)

// invalid is OpenAI's type of errors that are the client's.
const invalid = "invalid_request_error"

// A fault is an error in OpenAI's form.
type fault struct {
	status  int
	Message string
	Type    string
	// Param is the field that is wrong, Code the kind of error; null if empty.
	Param, Code string
	// wait tells the client to come back a little later.
	wait bool
}

// Error implements error.
func (f *fault) Error() string { return f.Message }

// wrong is the fault of a field of the request.
func wrong(param, format string, args ...any) *fault {
	return &fault{status: http.StatusBadRequest, Message: param + ": " + fmt.Sprintf(format, args...), Type: invalid, Param: param}
}

func (f *fault) send(w http.ResponseWriter) {
	null := func(s string) *string {
		if s == "" {
			return nil
		}
		return &s
	}
	type body struct {
		Message string  `json:"message"`
		Type    string  `json:"type"`
		Param   *string `json:"param"`
		Code    *string `json:"code"`
	}
	w.Header().Set("Content-Type", "application/json")
	if f.wait {
		w.Header().Set("Retry-After", "1")
	}
	w.WriteHeader(f.status)
	// Whoever asked may be gone.
	_ = json.NewEncoder(w).Encode(map[string]body{"error": {strings.ToValidUTF8(f.Message, "?"), f.Type, null(f.Param), null(f.Code)}})
}

// statusGone is nginx's status of requests whose client went away; nobody reads it but the metrics.
const statusGone = 499

// explain puts any error in OpenAI's form. Of what is not the client's business only the log has more
// than the kind.
func (s *Server) explain(r *http.Request, err error) *fault {
	if f, ok := errors.AsType[*fault](err); ok {
		return f
	}
	if large, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &fault{status: http.StatusRequestEntityTooLarge, Message: fmt.Sprintf("the request is larger than %d bytes", large.Limit), Type: invalid}
	}
	switch {
	case r.Context().Err() != nil:
		return &fault{status: statusGone, Message: "the client went away", Type: invalid}
	case errors.Is(err, model.ErrRejected):
		return &fault{status: http.StatusBadRequest, Message: err.Error(), Type: invalid}
	}
	s.log.Warn("request failed", "path", r.URL.Path, "error", err)
	switch {
	case errors.Is(err, model.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		return &fault{status: http.StatusServiceUnavailable, Message: "the model does not answer at the moment; try again later", Type: "server_error", wait: true}
	case errors.Is(err, model.ErrBadPicture):
		return &fault{status: http.StatusInternalServerError, Message: "the model drew no usable picture; another seed may help", Type: "server_error"}
	}
	return &fault{status: http.StatusInternalServerError, Message: "the model failed; the server's log says why", Type: "server_error"}
}

// strict reads JSON into v and refuses fields that v does not have. at is where data stands in the
// request, "" for the whole.
func strict(at string, data []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	err := dec.Decode(v)
	if err == nil {
		if _, err = dec.Token(); errors.Is(err, io.EOF) {
			return nil
		}
		err = errors.New("there is more after the JSON value")
	}
	if f, ok := errors.AsType[*fault](err); ok { // of a field that reads itself
		return f
	}
	under := func(field string) string { return strings.TrimPrefix(at+"."+field, ".") }
	if field, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		f := wrong(under(strings.Trim(field, `"`)), "this server does not know the field, or does not support it; leave it out")
		f.Code = "unsupported_parameter"
		return f
	}
	if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && t.Field != "" {
		return wrong(under(t.Field), "a JSON %s does not belong here", t.Value)
	}
	if at != "" {
		return wrong(at, "%v", err)
	}
	return &fault{status: http.StatusBadRequest, Message: "the body is not the JSON object that is expected: " + err.Error(), Type: invalid}
}
