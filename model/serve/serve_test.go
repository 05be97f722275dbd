package serve_test

import (
	"context"
	"encoding/base64"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/modeltest"
	_ "github.com/promptmill/promptmill/model/openai"
	_ "github.com/promptmill/promptmill/model/scene"
	"github.com/promptmill/promptmill/model/serve"
)

// scene are the weightless models under one name.
func scene(t testing.TB) serve.Models {
	t.Helper()
	spec := model.Spec{Backend: "scene"}
	chat, err := model.OpenChat(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	images, err := model.OpenImages(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return serve.Models{Chat: chat, ChatName: "scene", Images: images, ImagesName: "scene"}
}

// start serves models over HTTP and returns the address.
func start(t testing.TB, models serve.Models, change func(*serve.Config)) string {
	t.Helper()
	cfg := serve.DefaultConfig()
	cfg.Drawing = serve.Drawing{Width: 64, Height: 64, Steps: 20, Guidance: 7.5}
	if change != nil {
		change(&cfg)
	}
	s, err := serve.New(cfg, models, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	return srv.URL
}

func client(url string) model.Spec {
	return model.Spec{
		Backend: "openai", Model: "scene", Revision: "1", Endpoint: url, TotalTimeout: 20 * time.Second,
		Options: map[string]string{"deterministic": "yes"},
	}
}

// The project's own client finds in the server all that the contracts promise.
func TestConformance(t *testing.T) {
	url := start(t, scene(t), nil)
	t.Run("Chat", func(t *testing.T) {
		modeltest.RunChat(t, func(t *testing.T) model.Chat {
			m, err := model.OpenChat(t.Context(), client(url))
			if err != nil {
				t.Fatal(err)
			}
			return m
		}, modeltest.ChatCaps{Seeds: true, Varied: true, Vision: true, PictureSize: 32, Decodes: true, Limits: true})
	})
	spec := client(url)
	spec.Options = map[string]string{"deterministic": "yes"}
	t.Run("Images", func(t *testing.T) {
		modeltest.RunImages(t, func(t *testing.T) model.Images {
			m, err := model.OpenImages(t.Context(), spec)
			if err != nil {
				t.Fatal(err)
			}
			return m
		}, modeltest.ImageCaps{Width: 64, Height: 32, Steps: 2, Seeds: true})
	})
}

// post sends body and returns status, header and answer.
func post(t testing.TB, url, body string, header ...string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for _, h := range header {
		k, v, _ := strings.Cut(h, ": ")
		req.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(b)
}

// A double keeps the last request and answers as it is told.
type double struct {
	chat   model.ChatRequest
	images []model.ImageRequest
	answer model.ChatResponse
	drawn  []byte
	err    error
	// hold, if not nil, is received from before each answer; entered gets a value as one begins.
	hold, entered chan struct{}
}

func (d *double) Info() model.Info { return model.Info{Name: "double", Weights: "double-1"} }

func (d *double) Chat(ctx context.Context, req model.ChatRequest) (model.ChatResponse, error) {
	if d.hold != nil {
		d.entered <- struct{}{}
		select {
		case <-d.hold:
		case <-ctx.Done():
			return model.ChatResponse{}, ctx.Err()
		}
	} else {
		d.chat = req
	}
	return d.answer, d.err
}

type doubleImages struct{ *double }

func (d doubleImages) Draw(_ context.Context, req model.ImageRequest) (model.ImageResponse, error) {
	d.images = append(d.images, req)
	return model.ImageResponse{Data: d.drawn, Flagged: true}, d.err
}

func (d *double) models() serve.Models {
	return serve.Models{Chat: d, ChatName: "m", Images: doubleImages{d}, ImagesName: "m"}
}

func picture(t testing.TB, w, h int) []byte {
	t.Helper()
	data, err := modeltest.Picture(t, w, h, 100).Bytes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func dataURL(data []byte) string {
	return "data:image/png;base64," + base64.StdEncoding.EncodeToString(data)
}

func get(t testing.TB, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// BenchmarkChat is a judge's request with two pictures of 512 x 512, three answers, over HTTP and without.
func BenchmarkChat(b *testing.B) {
	models := scene(b)
	draw, err := models.Images.Draw(b.Context(), model.ImageRequest{Prompt: "a red fox", Width: 512, Height: 512})
	if err != nil {
		b.Fatal(err)
	}
	one, two := modeltest.PictureOf(draw.Data), modeltest.Picture(b, 512, 512, 90)
	req := model.ChatRequest{N: 3, Sampling: model.Sampling{Temperature: 1}, Messages: []model.Message{{Role: "user", Parts: []model.Part{
		{Text: "Image 1:"}, {Picture: &one}, {Text: "Image 2:"}, {Picture: &two}, {Text: "How beautiful are they?"},
	}}}}
	remote, err := model.OpenChat(b.Context(), client(start(b, models, nil)))
	if err != nil {
		b.Fatal(err)
	}
	for name, m := range map[string]model.Chat{"http": remote, "direct": models.Chat} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := m.Chat(b.Context(), req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
