package flink_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/promptmill/promptmill/runners/flink"
)

// restart is what a cluster with this configuration does.
func restart(t *testing.T, config string) (flink.Restart, error) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/jobmanager/config" {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write([]byte(config))
	}))
	defer s.Close()
	return flink.Open(s.URL + "/").Restart(t.Context())
}

func TestRestart(t *testing.T) {
	for _, tt := range []struct {
		config string
		want   flink.Restart
		sure   bool
	}{
		{`[]`, flink.Restart{}, false},
		{`[{"key":"restart-strategy.type","value":"none"}]`, flink.Restart{Strategy: "none"}, false},
		{`[{"key":"restart-strategy.type","value":"fixed-delay"},{"key":"restart-strategy.fixed-delay.delay","value":"1 s"}]`, flink.Restart{Strategy: "fixed-delay", Delay: time.Second}, true},
		{`[{"key":"restart-strategy","value":"failure-rate"},{"key":"restart-strategy.failure-rate.delay","value":"2 min"}]`, flink.Restart{Strategy: "failure-rate", Delay: 2 * time.Minute}, true},
		{`[{"key":"restart-strategy.type","value":"fixed-delay"},{"key":"restart-strategy.fixed-delay.delay","value":"500"}]`, flink.Restart{Strategy: "fixed-delay", Delay: 500 * time.Millisecond}, true},
	} {
		got, err := restart(t, tt.config)
		if err != nil || got != tt.want || got.Sure() != tt.sure {
			t.Errorf("%s: %+v, sure %v, %v", tt.config, got, got.Sure(), err)
		}
	}
	if _, err := restart(t, `<html>`); err == nil || !strings.Contains(err.Error(), "is this Flink's REST address?") {
		t.Errorf("a page: %v", err)
	}
	if _, err := restart(t, `[{"key":"restart-strategy.type","value":"fixed-delay"},{"key":"restart-strategy.fixed-delay.delay","value":"soon"}]`); err == nil {
		t.Error("a delay of soon was read")
	}
}

// Why a job fails is read from its last restart, too.
func TestCause(t *testing.T) {
	for answer, want := range map[string]string{
		`{"root-exception":"a"}`: "a",
		`{"root-exception":null,"exceptionHistory":{"entries":[{"stacktrace":"newest"},{"stacktrace":"older"}]}}`: "newest",
		`{"root-exception":null,"exceptionHistory":{"entries":[]}}`:                                               "",
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(answer)) }))
		got, err := flink.Open(s.URL).Cause(t.Context(), "j")
		s.Close()
		if err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", answer, got, err, want)
		}
	}
}
