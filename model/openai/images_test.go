package openai_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/modeltest"
	"github.com/promptmill/promptmill/model/modeltest/fakeserver"
)

func openImages(t testing.TB, spec model.Spec) model.Images {
	t.Helper()
	m, err := model.OpenImages(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestImagesConformance(t *testing.T) {
	for _, tt := range []struct {
		name    string
		server  fakeserver.Config
		options []string
		seeds   bool
	}{
		{"extended", fakeserver.Config{}, []string{"deterministic=yes"}, true},
		{"plain", fakeserver.Config{}, []string{"fields=plain"}, false},
		{"no seed", fakeserver.Config{NoSeed: true}, []string{"seed=no"}, false},
		{"faults", fakeserver.Config{FaultRate: 0.3, Seed: 1, Faults: []fakeserver.Fault{
			fakeserver.Status429, fakeserver.Status500, fakeserver.Cut, fakeserver.Garbage, fakeserver.Empty, fakeserver.Damaged, fakeserver.Bomb,
		}}, nil, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := fakeserver.New(t, tt.server)
			modeltest.RunImages(t, func(t *testing.T) model.Images { return openImages(t, spec(s, tt.options...)) },
				modeltest.ImageCaps{Width: 64, Height: 32, Steps: 2, Seeds: tt.seeds})
		})
	}
}

var drawing = model.ImageRequest{Prompt: "a cat", NegativePrompt: "ugly", Width: 64, Height: 48, Steps: 20, Guidance: 7.5, Scheduler: "pndm", Seed: 9}

func TestDrawFaults(t *testing.T) {
	for _, tt := range []struct {
		name   string
		server fakeserver.Config
		want   error
		calls  int
	}{
		{"another size", fakeserver.Config{AnySize: true}, model.ErrRejected, 3},
		{"always a bomb", fakeserver.Config{FaultRate: 1, Faults: []fakeserver.Fault{fakeserver.Bomb}}, model.ErrBadPicture, 10},
		{"always empty", fakeserver.Config{FaultRate: 1, Faults: []fakeserver.Fault{fakeserver.Empty}}, model.ErrUnavailable, 10},
		// The transform that asked looks at the pixels and draws again with another seed.
		{"black", fakeserver.Config{FaultRate: 1, Faults: []fakeserver.Fault{fakeserver.Black}}, nil, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := fakeserver.New(t, tt.server)
			sp := spec(s)
			sp.TotalTimeout = 2 * time.Second
			_, err := openImages(t, sp).Draw(t.Context(), drawing)
			if !errors.Is(err, tt.want) || s.Stats().Calls != tt.calls {
				t.Errorf("%d calls, %v; want %d, %v", s.Stats().Calls, err, tt.calls, tt.want)
			}
		})
	}
}

// What is sent, field by field, and answers in forms that the fake server does not know.
func TestImagesWire(t *testing.T) {
	for _, tt := range []struct {
		name, options, prompt, answer string
		want                          map[string]any
		err                           string
	}{
		{
			"extended", `{"extra":"{\"quality\":\"hd\"}"}`, "a cat", `{"data":[{"url":"http://x/y.png"}]}`,
			map[string]any{
				"model": "m", "prompt": "a cat", "n": 1.0, "size": "64x48", "response_format": "b64_json", "negative_prompt": "ugly",
				"num_inference_steps": 20.0, "guidance_scale": 7.5, "seed": 9.0, "quality": "hd",
			},
			"addresses instead of pictures",
		},
		{
			"plain", `{"fields":"plain"}`, "a cat", `{"data":[{"b64_json":"data:image/png;base64,AAAA"}]}`,
			map[string]any{"model": "m", "prompt": "a cat", "n": 1.0, "size": "64x48", "response_format": "b64_json"},
			"neither PNG nor JPEG",
		},
		{
			"sd_cpp", `{"fields":"sd_cpp"}`, `x <sd_cpp_extra_args>{"seed":1}</sd_cpp_extra_args>`, `{"error":"out of memory"}`,
			map[string]any{
				"model": "m", "n": 1.0, "size": "64x48", "response_format": "b64_json",
				"prompt": `x < sd_cpp_extra_args>{"seed":1}</sd_cpp_extra_args> <sd_cpp_extra_args>{"seed":9,"negative_prompt":"ugly","sample_params":{"sample_steps":20,"guidance":{"txt_cfg":7.5}}}</sd_cpp_extra_args>`,
			},
			"no pictures: out of memory",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got map[string]any
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if err := json.NewDecoder(r.Body).Decode(&got); err != nil || r.URL.Path != "/v1/images/generations" {
					t.Errorf("%s: %v", r.URL.Path, err)
				}
				_, _ = io.WriteString(w, tt.answer)
			}))
			t.Cleanup(server.Close)
			sp := model.Spec{Backend: "openai", Model: "m", Endpoint: server.URL, TotalTimeout: time.Second, Concurrency: 1}
			if err := json.Unmarshal([]byte(tt.options), &sp.Options); err != nil {
				t.Fatal(err)
			}
			req := drawing
			req.Prompt = tt.prompt
			_, err := openImages(t, sp).Draw(t.Context(), req)
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error is %v; want %q", err, tt.err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +sent:\n%s", diff)
			}
		})
	}
}

func TestImageOptions(t *testing.T) {
	s := fakeserver.New(t, fakeserver.Config{})
	for _, option := range []string{"n=yes", "fields=all", "seed=maybe", `extra={"prompt":"x"}`} {
		if _, err := model.OpenImages(t.Context(), spec(s, option)); !errors.Is(err, model.ErrConfig) {
			t.Errorf("%s: %v; want ErrConfig", option, err)
		}
	}
}
