package serve_test

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/serve"
)

func TestKey(t *testing.T) {
	t.Setenv("SERVE_TEST_KEY", "open-sesame")
	url := start(t, scene(t), func(c *serve.Config) { c.APIKey = "env:SERVE_TEST_KEY" })
	const body = `{"messages":[{"role":"user","content":"a cat"}]}`
	for _, tt := range []struct {
		header string
		code   int
	}{
		{"Authorization: Bearer open-sesame", 200},
		{"Authorization: bearer open-sesame", 200},
		{"Authorization: Bearer open-sesam", 401},
		{"Authorization: Bearer ", 401},
		{"Authorization: open-sesame", 401},
		{"X: y", 401},
	} {
		if code, _, answer := post(t, url+"/v1/chat/completions", body, tt.header); code != tt.code || strings.Contains(answer, "sesame") {
			t.Errorf("%s: %d %s; want %d", tt.header, code, answer, tt.code)
		}
	}
	spec := client(url)
	spec.APIKey = "env:SERVE_TEST_KEY"
	m, err := model.OpenChat(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Chat(t.Context(), model.ChatRequest{Messages: []model.Message{model.Text("user", "a cat")}, N: 1}); err != nil {
		t.Error(err)
	}
	for _, path := range []string{"/health", "/metrics"} {
		if code, _ := get(t, url+path); code != http.StatusOK {
			t.Errorf("%s without a key: %d", path, code)
		}
	}
	if code, _ := get(t, url+"/v1/models"); code != http.StatusUnauthorized {
		t.Errorf("models without a key: %d", code)
	}
}

func TestModels(t *testing.T) {
	both, one := start(t, scene(t), nil), serve.Models{Chat: scene(t).Chat, ChatName: "org/judge"}
	chatOnly := start(t, one, nil)
	for _, tt := range []struct {
		url  string
		code int
		says []string
	}{
		{both + "/v1/models", 200, []string{`"id":"scene"`, `"object":"list"`, "/v1/images/generations", "scene-chat-v2; scene-images-v1"}},
		{both + "/v1/models/scene", 200, []string{`"object":"model"`}},
		{both + "/v1/models/other", 404, []string{"model_not_found"}},
		{chatOnly + "/v1/models/org/judge", 200, []string{`"paths":["/v1/chat/completions"]`}},
		{both + "/health", 200, []string{`"ok"`}},
	} {
		code, answer := get(t, tt.url)
		for _, want := range tt.says {
			if code != tt.code || !strings.Contains(answer, want) {
				t.Errorf("%s: %d %s; want %d with %s", tt.url, code, answer, tt.code, want)
			}
		}
	}
	if code, _, answer := post(t, chatOnly+"/v1/images/generations", `{"prompt":"x"}`); code != 404 || !strings.Contains(answer, "no model for images") {
		t.Errorf("images of a chat server: %d %s", code, answer)
	}
}

func TestMetrics(t *testing.T) {
	url := start(t, scene(t), nil)
	post(t, url+"/v1/chat/completions", `{"messages":[{"role":"user","content":"a cat"}],"seed":1}`)
	post(t, url+"/v1/chat/completions", `{"messages":[{"role":"user","content":"a cat"}],"n":0}`)
	post(t, url+"/v1/images/generations", `{"prompt":"a cat","n":3}`)
	_, text := get(t, url+"/metrics")
	for _, want := range []string{
		`promptmill_requests_total{code="200",endpoint="chat"} 1`,
		`promptmill_requests_total{code="400",endpoint="chat"} 1`,
		`promptmill_request_seconds_count{endpoint="chat"} 2`,
		"promptmill_pictures_drawn_total 3", "promptmill_requests_in_flight 0", "promptmill_requests_waiting 0",
		"promptmill_prompt_tokens_total 2", "go_goroutines",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s", want)
		}
	}
}

// One is answered and one waits; the third is told to come back, and the client that gives up makes room.
func TestQueue(t *testing.T) {
	d := &double{hold: make(chan struct{}), entered: make(chan struct{}, 1), answer: model.ChatResponse{Answers: []model.Answer{{Text: "x"}}}}
	url := start(t, d.models(), func(c *serve.Config) { c.Concurrency, c.Queue = 1, 1 })
	const body = `{"messages":[{"role":"user","content":"a cat"}]}`
	codes := make(chan int, 2)
	ask := func() {
		code, _, _ := post(t, url+"/v1/chat/completions", body)
		codes <- code
	}
	go ask()
	<-d.entered
	go ask()
	until(t, url, "promptmill_requests_waiting 1", "promptmill_requests_in_flight 1")
	code, header, answer := post(t, url+"/v1/chat/completions", body)
	if code != http.StatusTooManyRequests || header.Get("Retry-After") != "1" || !strings.Contains(answer, "rate_limit") {
		t.Errorf("%d, Retry-After %q: %s", code, header.Get("Retry-After"), answer)
	}
	d.hold <- struct{}{}
	<-d.entered // the one that waited
	d.hold <- struct{}{}
	for range 2 {
		if code := <-codes; code != http.StatusOK {
			t.Errorf("one that was let in got %d", code)
		}
	}

	// A client that goes away frees its slot.
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	go func() {
		<-d.entered
		cancel()
	}()
	if resp, err := http.DefaultClient.Do(req); err == nil {
		resp.Body.Close()
		t.Errorf("a client that went away got %d", resp.StatusCode)
	}
	until(t, url, "promptmill_requests_in_flight 0", `code="499",endpoint="chat"} 1`)
}

// until polls the metrics for all of the texts.
func until(t *testing.T, url string, texts ...string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		_, got := get(t, url+"/metrics")
		if !slices.ContainsFunc(texts, func(want string) bool { return !strings.Contains(got, want) }) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the metrics never had %q", texts)
		}
	}
}

// Requests under way are answered when the server is told to stop, and no more are taken.
func TestStop(t *testing.T) {
	d := &double{hold: make(chan struct{}), entered: make(chan struct{}, 1), answer: model.ChatResponse{Answers: []model.Answer{{Text: "x"}}}}
	for _, tt := range []struct {
		name   string
		drain  time.Duration
		answer bool
	}{{"answered", time.Minute, true}, {"too slow", 20 * time.Millisecond, false}} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := serve.DefaultConfig()
			cfg.Drain = tt.drain
			s, err := serve.New(cfg, d.models(), slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			served, code := make(chan error, 1), make(chan int, 1)
			go func() { served <- s.Serve(ctx, ln) }()
			go func() {
				resp, err := http.Post("http://"+ln.Addr().String()+"/v1/chat/completions", "application/json", strings.NewReader(`{"messages":[{"role":"user","content":"a cat"}]}`))
				if err != nil {
					code <- 0
					return
				}
				resp.Body.Close()
				code <- resp.StatusCode
			}()
			<-d.entered
			stop()
			if tt.answer {
				for gone := false; !gone; time.Sleep(time.Millisecond) {
					c, err := net.Dial("tcp", ln.Addr().String())
					if gone = err != nil; !gone {
						c.Close()
					}
				}
				d.hold <- struct{}{}
			}
			if err := <-served; (err == nil) != tt.answer {
				t.Errorf("Serve: %v", err)
			}
			if got := <-code; (got == http.StatusOK) != tt.answer {
				t.Errorf("the request under way got %d", got)
			}
		})
	}
}
