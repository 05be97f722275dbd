package guard

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/promptmill/promptmill/model"
)

// A StatusError is an answer with a status other than 2xx.
type StatusError struct {
	Code int
	// Message is what the server says about it, at most 300 runes without control characters; the
	// key is taken out.
	Message string
	// after is how long the server wants to be left alone; 0 if it does not say.
	after time.Duration
	// kind is the server's own name for the error, if it has one.
	kind string
	// hint says what to do about it.
	hint string
}

// Error implements error.
func (e *StatusError) Error() string {
	if e.Message == "" {
		return fmt.Sprintf("server answered %d %s%s", e.Code, http.StatusText(e.Code), e.hint)
	}
	return fmt.Sprintf("server answered %d: %s%s", e.Code, e.Message, e.hint)
}

var (
	// errLeft: the caller went away, or the call's time was over.
	errLeft = errors.New("left before an answer came")
	// errSilent: the attempt's time was over.
	errSilent = errors.New("no answer")
)

// A badAnswer came whole with a good status and failed the caller's check.
type badAnswer struct {
	err error
	// text is err's, which may quote the server, without the key.
	text string
}

func (e *badAnswer) Error() string { return "unusable answer: " + e.text }
func (e *badAnswer) Unwrap() error { return e.err }

func isBadAnswer(err error) bool {
	_, ok := errors.AsType[*badAnswer](err)
	return ok
}

// sentinel is the error of package model that err amounts to. Only what is ErrUnavailable, and
// answers that say nothing, are worth another try.
func sentinel(err error) error {
	if s, ok := errors.AsType[*StatusError](err); ok {
		switch c := s.Code; {
		case s.kind == "insufficient_quota": // comes as 429, and waiting does not fill an account
			return model.ErrConfig
		case c == 408 || c == 409 || c == 425 || c == 429:
			return model.ErrUnavailable
		case c == 403 && (strings.Contains(s.kind, "content") || strings.Contains(s.kind, "moderation")):
			return model.ErrRejected
		case c < 400 || c >= 401 && c <= 405 || c == 501:
			return model.ErrConfig
		case c < 500:
			return model.ErrRejected
		}
		return model.ErrUnavailable
	}
	for _, kind := range []error{model.ErrConfig, model.ErrRejected} {
		if errors.Is(err, kind) {
			return kind
		}
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok || errors.Is(err, errNotSent) {
		return model.ErrConfig
	}
	return model.ErrUnavailable
}

// load is what the end of an attempt says about how busy the server is.
func load(err error) outcome {
	if err == nil || isBadAnswer(err) {
		return good
	}
	if s, ok := errors.AsType[*StatusError](err); errors.Is(err, errSilent) || ok && (s.Code == 429 || s.Code == 503) {
		return refused
	}
	return noNews
}

func newStatusError(resp *http.Response, body []byte, key Secret) *StatusError {
	// Before it is shortened, or the start of the key could stay.
	text, kind := explanation([]byte(key.redact(string(body))))
	e := &StatusError{Code: resp.StatusCode, Message: key.redact(text), kind: kind, after: retryAfter(resp.Header.Get("Retry-After"), time.Now())}
	if e.Code >= 300 && e.Code < 400 {
		// Following would hand the key to whoever the server names.
		e.Message = "redirects are not followed; set endpoint to the final address"
		if to, err := url.Parse(resp.Header.Get("Location")); err == nil && to.Host != "" {
			e.Message += fmt.Sprintf(" (it is on %s)", clean(key.redact(to.Host)))
		}
	}
	if (e.Code == http.StatusUnauthorized || e.Code == http.StatusForbidden) && errors.Is(sentinel(e), model.ErrConfig) {
		e.hint = "; the server wants a key: set api_key to env:NAME or file:PATH"
		if key.value() != "" {
			e.hint = "; the server refuses the key: check what api_key refers to"
		}
	}
	return e
}

// retryAfter reads seconds or an HTTP date (RFC 9110, section 10.2.3); 0 if it is neither or past.
func retryAfter(s string, now time.Time) time.Duration {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return time.Duration(min(max(n, 0), 1<<30)) * time.Second
	}
	if t, err := http.ParseTime(s); err == nil {
		return max(t.Sub(now), 0)
	}
	return 0
}

// Explain returns what an error body says, in whichever of the forms that servers use, as one short
// line without control characters: {"error":{"message"}}, {"error":"text"}, {"detail"}, {"message"}
// or plain text. It is "" for a body that holds no explanation.
func Explain(body []byte) string {
	text, _ := explanation(body)
	return text
}

func explanation(body []byte) (text, kind string) {
	var b struct {
		Error   json.RawMessage `json:"error"`
		Detail  json.RawMessage `json:"detail"`
		Message any             `json:"message"`
		Code    any             `json:"code"`
	}
	if json.Unmarshal(body, &b) != nil {
		return clean(string(body)), ""
	}
	var inner struct {
		Message any `json:"message"`
		Type    any `json:"type"`
		Code    any `json:"code"`
	}
	message, _ := b.Message.(string)
	kind, _ = b.Code.(string)
	var word string
	switch {
	case json.Unmarshal(b.Error, &word) == nil && word != "":
		text = word
		if message != "" {
			text += ": " + message
		}
	case len(b.Error) > 0 && json.Unmarshal(b.Error, &inner) == nil && inner.Message != nil:
		text = fmt.Sprint(inner.Message)
		if code, ok := inner.Code.(string); ok {
			kind = code
		} else if typ, ok := inner.Type.(string); ok {
			kind = typ
		}
	case len(b.Error) > 0 && string(b.Error) != "null":
		text = string(b.Error)
	case len(b.Detail) > 0:
		text = detail(b.Detail)
	default:
		text = message
	}
	return clean(text), kind
}

// detail reads FastAPI's form: a text, or a list of faults each with a place.
func detail(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	var faults []struct {
		Loc []any  `json:"loc"`
		Msg string `json:"msg"`
	}
	if json.Unmarshal(raw, &faults) != nil || len(faults) == 0 {
		return string(raw)
	}
	parts := make([]string, len(faults))
	for i, f := range faults {
		var place strings.Builder
		for _, step := range f.Loc {
			fmt.Fprintf(&place, ".%v", step)
		}
		parts[i] = strings.TrimLeft(place.String()+": "+f.Msg, ".: ")
	}
	return strings.Join(parts, "; ")
}

// clean makes a stranger's text fit for one line of a log.
func clean(s string) string {
	const most = 300
	s = strings.ToValidUTF8(s[:min(len(s), 8*most)], "")
	s = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r):
			return -1
		}
		return r
	}, s)), " ")
	if runes := []rune(s); len(runes) > most {
		s = string(runes[:most]) + "..."
	}
	return s
}
