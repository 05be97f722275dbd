package guard_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/guard"
)

func TestStatus(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		status int
		body   string
		want   error
		says   string
	}{
		{400, `{"error":{"message":"n must be 1","type":"BadRequestError","code":400}}`, model.ErrRejected, "answered 400: n must be 1"},
		{413, `too large`, model.ErrRejected, "answered 413: too large"},
		{422, `{"detail":[{"type":"json_invalid","loc":["body",9],"msg":"JSON decode error"}]}`, model.ErrRejected, "body.9: JSON decode error"},
		{400, `{"error":"prompt required"}`, model.ErrRejected, "prompt required"},
		{403, `{"error":{"message":"no","code":"content_policy_violation"}}`, model.ErrRejected, "403: no"},
		{401, `{"error":"Unauthorized"}`, model.ErrConfig, "401: Unauthorized"},
		{403, ``, model.ErrConfig, "403 Forbidden"},
		{404, `{"detail":"Not Found"}`, model.ErrConfig, "404: Not Found"},
		{429, `{"error":{"message":"You exceeded your current quota","code":"insufficient_quota"}}`, model.ErrConfig, "current quota"},
		{500, `Internal Server Error`, model.ErrUnavailable, "after 10 tries: server answered 500: Internal Server Error"},
		{500, `{"error":"server_error","message":"parse error"}`, model.ErrUnavailable, "server_error: parse error"},
		{502, "<html>\r\n<title>bad\x1b[31m gateway</title>", model.ErrUnavailable, "<html> <title>bad[31m gateway</title>"},
		{501, ``, model.ErrConfig, "501"},
		{400, strings.Repeat("ä", 4000), model.ErrRejected, strings.Repeat("ä", 300) + "..."},
	} {
		t.Run(fmt.Sprint(tt.status, tt.says[:min(20, len(tt.says))]), func(t *testing.T) {
			t.Parallel()
			url := handler(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tt.status)
				_, _ = w.Write([]byte(tt.body))
			})
			_, err := open(t, model.Spec{Endpoint: url, TotalTimeout: 2 * time.Second}).Post(t.Context(), "/v1/x", []byte("{}"), nil)
			s, ok := errors.AsType[*guard.StatusError](err)
			if !errors.Is(err, tt.want) || !ok || s.Code != tt.status || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), "POST 127.0.0.1:") {
				t.Errorf("error is %v; want %v, %q", err, tt.want, tt.says)
			}
		})
	}
}

const sekret = "sk-Zx81/sekret+key"

func TestSecretNeverPrints(t *testing.T) {
	t.Setenv("GUARD_TEST_KEY", sekret+"\n")
	s, err := guard.LoadSecret("env:GUARD_TEST_KEY")
	if err != nil {
		t.Fatal(err)
	}
	var prints bytes.Buffer
	hidden := struct {
		Open   guard.Secret
		closed guard.Secret
	}{s, s}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%T"} {
		fmt.Fprintf(&prints, verb+verb+verb, s, &hidden, hidden)
	}
	if err := json.NewEncoder(&prints).Encode(hidden); err != nil {
		t.Fatal(err)
	}
	slog.New(slog.NewJSONHandler(&prints, nil)).Info("x", "key", s, "both", hidden)
	slog.New(slog.NewTextHandler(&prints, nil)).Info("x", "key", s, "both", hidden)

	// A server that got the key right, and throws it back in every way.
	var right atomic.Int64
	url := handler(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer "+sekret {
			right.Add(1)
		}
		switch r.URL.Path {
		case "/redirect":
			w.Header().Set("Location", "http://me:pw@other.example/?k="+sekret)
			w.WriteHeader(http.StatusTemporaryRedirect)
		case "/good":
			_, _ = w.Write([]byte(r.Header.Get("Authorization")))
		case "/long":
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(strings.Repeat("x ", 145) + r.Header.Get("Authorization")))
		default:
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = fmt.Fprintf(w, `{"error":{"message":"wrong key %s","code":"%[1]s"}}`, sekret)
		}
	})
	c := open(t, model.Spec{Endpoint: url + "?api-version=Q3&x=private", APIKey: "env:GUARD_TEST_KEY", TotalTimeout: 100 * time.Millisecond})
	fmt.Fprintf(&prints, "%v %+v %#v", c, c, c)
	for _, path := range []string{"/unauthorized", "/redirect", "/good", "/long", "/bad\x7fpath"} {
		_, err := c.Post(t.Context(), path, []byte("{}"), func(b []byte) error { return fmt.Errorf("odd: %s", b) })
		if err == nil {
			t.Fatalf("%s: no error", path)
		}
		fmt.Fprintf(&prints, "%v %+v %#v", err, err, err)
		if strings.Contains(err.Error(), "private") {
			t.Errorf("%s: the error shows the query: %v", path, err)
		}
	}
	if right.Load() < 4 {
		t.Errorf("the server got the key %d times", right.Load())
	}
	if out := prints.String(); strings.Contains(out, "sekret") || strings.Contains(out, "sk-Zx") || strings.Contains(out, "Zx81") {
		t.Errorf("the key is in %s", out)
	}
}

func TestRedirectIsNotFollowed(t *testing.T) {
	t.Setenv("GUARD_TEST_KEY", sekret)
	var reached atomic.Int64
	evil := handler(t, func(http.ResponseWriter, *http.Request) { reached.Add(1) })
	for _, status := range []int{301, 302, 303, 307, 308} {
		url := handler(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, evil, status) })
		c := open(t, model.Spec{Endpoint: url, APIKey: "env:GUARD_TEST_KEY"})
		_, err := c.Post(t.Context(), "/x", []byte("{}"), nil)
		if !errors.Is(err, model.ErrConfig) || !strings.Contains(err.Error(), strings.TrimPrefix(evil, "http://")) {
			t.Errorf("%d: error is %v; want ErrConfig that names the host", status, err)
		}
	}
	if reached.Load() > 0 {
		t.Errorf("the other host was reached %d times", reached.Load())
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Setenv("GUARD_TEST_EMPTY", "")
	t.Setenv("GUARD_TEST_TWO", "a b")
	const good = "http://127.0.0.1:8000"
	for _, tt := range []struct {
		name string
		spec model.Spec
		says string
	}{
		{"no endpoint", model.Spec{}, "http://127.0.0.1:8000"},
		{"no scheme", model.Spec{Endpoint: "127.0.0.1:8000"}, "http or https"},
		{"file", model.Spec{Endpoint: "file:///etc/passwd"}, "http or https"},
		{"user", model.Spec{Endpoint: "http://me:" + sekret[:6] + "@h"}, "api_key: file:PATH"},
		{"key in query", model.Spec{Endpoint: good + "?api_key=" + sekret}, "api_key: env:NAME"},
		{"bad URL with password", model.Spec{Endpoint: "http://me:" + sekret + "@h:x/"}, "endpoint"},
		{"inline key", model.Spec{Endpoint: good, APIKey: sekret}, "never the key itself"},
		{"unset", model.Spec{Endpoint: good, APIKey: "env:GUARD_TEST_UNSET"}, "GUARD_TEST_UNSET is empty or not set"},
		{"empty", model.Spec{Endpoint: good, APIKey: "env:GUARD_TEST_EMPTY"}, "is empty"},
		{"two words", model.Spec{Endpoint: good, APIKey: "env:GUARD_TEST_TWO"}, "one line"},
		{"no file", model.Spec{Endpoint: good, APIKey: "file:/nowhere/key"}, "/nowhere/key"},
		{"negative", model.Spec{Endpoint: good, Concurrency: -1}, "negative"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := guard.Open(tt.spec)
			if !errors.Is(err, model.ErrConfig) || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), sekret[:6]) {
				t.Errorf("error is %v; want ErrConfig with %q and no key", err, tt.says)
			}
		})
	}
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(sekret+"\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var got atomic.Value
	url := handler(t, func(_ http.ResponseWriter, r *http.Request) { got.Store(r.Header.Get("Authorization")) })
	if _, err := open(t, model.Spec{Endpoint: url, APIKey: "file:" + file}).Get(t.Context(), "/", nil); err != nil || got.Load() != "Bearer "+sekret {
		t.Errorf("key from a file: %v, %v", got.Load(), err)
	}
}

func FuzzExplain(f *testing.F) {
	for _, s := range []string{
		`{"error":{"message":"m","code":1}}`, `{"error":"e","message":"m"}`, `{"detail":"d"}`, `{"detail":[{"loc":["body",1],"msg":"m"}]}`,
		`{"message":"m"}`, "plain", `{"error":null}`, `{"error":[1]}`, `{"error":{"message":{"a":1}}}`, "\xff\x00\u202e", `{}`, ``,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got := guard.Explain(body)
		if !utf8.ValidString(got) || utf8.RuneCountInString(got) > 303 || strings.ContainsAny(got, "\n\r\x1b\x00\u202e") {
			t.Errorf("Explain(%q) = %q", body, got)
		}
	})
}
