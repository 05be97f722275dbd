package serve_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/modeltest"
	"github.com/promptmill/promptmill/model/serve"
)

// bad is an error in OpenAI's form.
type bad struct {
	Error struct{ Message, Type, Param, Code string }
}

func TestRefusals(t *testing.T) {
	const chat, images = "/v1/chat/completions", "/v1/images/generations"
	ask := func(more string) string { return `{"messages":[{"role":"user","content":"a cat"}]` + more + `}` }
	look := func(urls ...string) string {
		var parts []string
		for _, u := range urls {
			parts = append(parts, fmt.Sprintf(`{"type":"image_url","image_url":{"url":%q}}`, u))
		}
		return `{"messages":[{"role":"user","content":[` + strings.Join(parts, ",") + `]}]}`
	}
	small := dataURL(picture(t, 8, 8))
	url := start(t, scene(t), func(c *serve.Config) {
		c.MaxBody, c.MaxPictures, c.MaxN, c.MaxPixels = 1<<16, 2, 4, 256*256
	})
	type refusal struct {
		name, path, body string
		code             int
		says, param      string
	}
	tests := []refusal{
		{"not JSON", chat, `{`, 400, "not the JSON object", ""},
		{"more than JSON", chat, ask("") + "{}", 400, "more after", ""},
		{"an array", chat, `[]`, 400, "not the JSON object", ""},
		{"unknown field", chat, ask(`,"tools":[]`), 400, "leave it out", "tools"},
		{"unsupported value", chat, ask(`,"logprobs":true`), 400, "not support", "logprobs"},
		{"JSON mode", chat, ask(`,"response_format":{"type":"json_object"}`), 400, "not support", "response_format"},
		{"another type", chat, ask(`,"n":"2"`), 400, "JSON string", "n"},
		{"no messages", chat, `{"messages":[]}`, 400, "none", "messages"},
		{"role", chat, `{"messages":[{"role":"tool","content":"x"}]}`, 400, "tool", "messages[0].role"},
		{"content", chat, `{"messages":[{"role":"user","content":7}]}`, 400, "neither", "messages[0].content"},
		{"part", chat, `{"messages":[{"role":"user","content":[{"type":"input_audio","text":"x"}]}]}`, 400, "input_audio", "messages[0].content[0]"},
		{"part field", chat, `{"messages":[{"role":"user","content":[{"type":"text","text":"x","cache":1}]}]}`, 400, "leave it out", "messages[0].content[0].cache"},
		{"n of 0", chat, ask(`,"n":0`), 400, "1..4", "n"},
		{"n", chat, ask(`,"n":5`), 400, "1..4", "n"},
		{"seed", chat, ask(`,"seed":-1`), 400, "0..", "seed"},
		{"large seed", chat, ask(`,"seed":2147483647`), 400, "0..", "seed"},
		{"temperature", chat, ask(`,"temperature":2.5`), 400, "0..2", "temperature"},
		{"top_p", chat, ask(`,"top_p":0`), 400, "at most 1", "top_p"},
		{"max_tokens", chat, ask(`,"max_tokens":0`), 400, "below 1", "max_tokens"},
		{"stop", chat, ask(`,"stop":[1]`), 400, "neither", "stop"},
		{"stops", chat, ask(`,"stop":["` + strings.Repeat(`x","`, 20) + `x"]`), 400, "more than 16", "stop"},
		{"model", chat, ask(`,"model":"gpt-4o"`), 404, `there is "scene"`, "model"},
		{"nothing to do", chat, `{"messages":[{"role":"user","content":""}]}`, 400, "no prompt to rewrite", ""},
		{"remote picture", chat, look("https://example.com/a.png"), 400, "fetches nothing", "messages[0].content[0].image_url"},
		{"not base64", chat, look("data:image/png,abc"), 400, "base64", "messages[0].content[0].image_url"},
		{"bad base64", chat, look("data:image/png;base64,@@"), 400, "base64", "messages[0].content[0].image_url"},
		{"many pictures", chat, look(small, small, small), 400, "more than 2 pictures", "messages[0].content[2]"},
		{"many pixels", chat, look(dataURL(picture(t, 300, 300))), 400, "claims 300 x 300", "messages[0].content[0].image_url"},
		{"large", chat, ask(`,"user":"` + strings.Repeat("x", 1<<16) + `"`), 413, "larger than 65536", ""},
		{"no prompt", images, `{}`, 400, "none", "prompt"},
		{"n pictures", images, `{"prompt":"x","n":3}`, 400, "1..2", "n"},
		{"size", images, `{"prompt":"x","size":"big"}`, 400, "512x512", "size"},
		{"negative size", images, `{"prompt":"x","size":"-64x-64"}`, 400, "512x512", "size"},
		{"large size", images, `{"prompt":"x","size":"512x512"}`, 400, "65536 pixels", "size"},
		{"size not drawn", images, `{"prompt":"x","size":"70x70"}`, 400, "nearest that it draws is 64x64", "size"},
		{"url", images, `{"prompt":"x","response_format":"url"}`, 400, "b64_json", "response_format"},
		{"image seed", images, `{"prompt":"x","seed":2147483647,"n":2}`, 400, "0..", "seed"},
		{"steps", images, `{"prompt":"x","num_inference_steps":0}`, 400, "1..1000", "num_inference_steps"},
		{"guidance", images, `{"prompt":"x","guidance_scale":-1}`, 400, "0..100", "guidance_scale"},
		{"image field", images, `{"prompt":"x","quality":"hd"}`, 400, "leave it out", "quality"},
		{"image model", images, `{"prompt":"x","model":"dall-e-3"}`, 404, `there is "scene"`, "model"},
		{"path", "/v1/completions", `{}`, 404, "/v1/chat/completions", ""},
		{"method", "/v1/models", `{}`, 405, "GET", ""},
	}
	for name, data := range modeltest.BadPictures(t) {
		tests = append(tests, refusal{name, chat, look(small, dataURL(data)), 400, "bad picture", "messages[0].content[1].image_url"})
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			code, header, answer := post(t, url+tt.path, tt.body)
			var got bad
			if err := json.Unmarshal([]byte(answer), &got); err != nil {
				t.Fatalf("%d, %v: %s", code, err, answer)
			}
			e := got.Error
			if code != tt.code || !strings.Contains(e.Message, tt.says) || e.Param != tt.param || e.Type != "invalid_request_error" || header.Get("Content-Type") != "application/json" {
				t.Errorf("%d: %s\nwant %d, %q and param %q", code, answer, tt.code, tt.says, tt.param)
			}
		})
	}
	t.Run("form", func(t *testing.T) {
		if code, _, answer := post(t, url+chat, ask(""), "Content-Type: text/plain"); code != http.StatusUnsupportedMediaType {
			t.Errorf("%d: %s", code, answer)
		}
	})
	t.Run("large without its length", func(t *testing.T) {
		body := io.MultiReader(strings.NewReader(ask(`,"user":"`)), strings.NewReader(strings.Repeat("x", 1<<17)))
		resp, err := http.Post(url+chat, "application/json", body)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("status %d", resp.StatusCode)
		}
	})
}

// The model's errors become statuses that this project's client, and others, act on.
func TestModelErrors(t *testing.T) {
	for _, tt := range []struct {
		err   error
		drawn []byte
		code  int
		wait  bool
	}{
		{fmt.Errorf("too long: %w", model.ErrRejected), nil, 400, false},
		{fmt.Errorf("down: %w", model.ErrUnavailable), nil, 503, true},
		{fmt.Errorf("secret path: %w", model.ErrConfig), nil, 500, false},
		{errors.New("secret path"), nil, 500, false},
		{nil, modeltest.BadPictures(t)["40000 x 40000"], 500, false},
		{nil, nil, 500, false},
	} {
		d := &double{err: tt.err, drawn: tt.drawn}
		url := start(t, d.models(), nil)
		code, header, answer := post(t, url+"/v1/images/generations", `{"prompt":"x"}`)
		if code != tt.code || (header.Get("Retry-After") != "") != tt.wait || strings.Contains(answer, "secret") {
			t.Errorf("%v: %d, Retry-After %q: %s; want %d, %v", tt.err, code, header.Get("Retry-After"), answer, tt.code, tt.wait)
		}
	}
}

func TestConfig(t *testing.T) {
	cfg := serve.DefaultConfig()
	if err := cfg.Validate(); err != nil {
		t.Error(err)
	}
	cfg.APIKey = "env:KEY"
	cfg.Drawing.Scheduler = "ddim"
	b, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var back serve.Config
	if err := json.Unmarshal(b, &back); err != nil || back != cfg || bytes.Contains(b, []byte(`:0`)) {
		t.Errorf("%s gives %+v, %v", b, back, err)
	}
	for field, change := range map[string]func(*serve.Config){
		"serve.concurrency":      func(c *serve.Config) { c.Concurrency = 0 },
		"serve.queue":            func(c *serve.Config) { c.Queue = -1 },
		"serve.max_body":         func(c *serve.Config) { c.MaxBody = 10 },
		"serve.max_pictures":     func(c *serve.Config) { c.MaxPictures = 0 },
		"serve.max_pixels":       func(c *serve.Config) { c.MaxPixels = 0 },
		"serve.max_n":            func(c *serve.Config) { c.MaxN = 0 },
		"serve.drain":            func(c *serve.Config) { c.Drain = -1 },
		"serve.drawing.width":    func(c *serve.Config) { c.Drawing.Width = 0 },
		"serve.drawing.height":   func(c *serve.Config) { c.Drawing.Height = 0 },
		"serve.drawing.steps":    func(c *serve.Config) { c.Drawing.Steps = -1 },
		"serve.drawing.guidance": func(c *serve.Config) { c.Drawing.Guidance = 101 },
		"serve.drawing":          func(c *serve.Config) { c.MaxPixels = 100 },
	} {
		cfg := serve.DefaultConfig()
		change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.HasPrefix(err.Error(), field+": ") {
			t.Errorf("%s: %v", field, err)
		}
	}
	for name, models := range map[string]serve.Models{"none": {}, "no name": {Chat: scene(t).Chat}} {
		if _, err := serve.New(serve.DefaultConfig(), models, slog.New(slog.DiscardHandler)); !errors.Is(err, model.ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whatever the body, the answer is JSON, and only what asks for something is answered with 200.
func FuzzChat(f *testing.F) {
	for _, s := range slices.Sorted(maps.Values(map[string]string{
		"plain":   `{"messages":[{"role":"user","content":"a cat"}],"n":2,"seed":3,"stop":["x"]}`,
		"parts":   `{"messages":[{"role":"user","content":[{"type":"text","text":"x"},{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgo="}}]}]}`,
		"broken":  `{"messages":[{"role":"user","content":[{"type":"text"}]}],"temperature":1e999}`,
		"unknown": `{"tools":{"a":[1,2,3]}}`,
	})) {
		f.Add([]byte(s))
	}
	d := &double{answer: model.ChatResponse{Answers: []model.Answer{{Text: "x"}}}}
	s, err := serve.New(serve.DefaultConfig(), d.models(), slog.New(slog.DiscardHandler))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r := httptest.NewRequest(http.MethodPost, "/v1/chat/completions", bytes.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != http.StatusOK && w.Code != http.StatusBadRequest && w.Code != http.StatusNotFound {
			t.Errorf("%d: %s", w.Code, w.Body)
		}
		if w.Header().Get("Content-Type") == "application/json" && !json.Valid(w.Body.Bytes()) {
			t.Errorf("not JSON: %s", w.Body)
		}
		if q := d.chat; w.Code == http.StatusOK && (len(q.Messages) == 0 || q.N < 1 || q.Seed < 0 || q.Sampling.TopP <= 0) {
			t.Errorf("the model was asked %+v", q)
		}
	})
}
