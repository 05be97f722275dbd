package txt2img_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/modeltest"
	"github.com/promptmill/promptmill/model/modeltest/fakeserver"
	_ "github.com/promptmill/promptmill/model/txt2img"
)

func openImages(t testing.TB, spec model.Spec) model.Images {
	t.Helper()
	m, err := model.OpenImages(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func spec(url string, options map[string]string) model.Spec {
	return model.Spec{Backend: "txt2img", Model: "sd15", Revision: "1", Endpoint: url, TotalTimeout: 2 * time.Second, Options: options}
}

func TestConformance(t *testing.T) {
	for _, tt := range []struct {
		name    string
		server  fakeserver.Config
		options map[string]string
	}{
		{"automatic1111", fakeserver.Config{}, map[string]string{"deterministic": "yes"}},
		{"sd-server", fakeserver.Config{EmptyInfo: true}, nil},
		{"faults", fakeserver.Config{FaultRate: 0.3, Seed: 2, Faults: []fakeserver.Fault{
			fakeserver.Status503, fakeserver.Status500, fakeserver.Cut, fakeserver.Garbage, fakeserver.Empty, fakeserver.Damaged, fakeserver.Bomb,
		}}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := fakeserver.New(t, tt.server)
			sp := spec(s.URL, tt.options)
			sp.TotalTimeout = 10 * time.Second
			modeltest.RunImages(t, func(t *testing.T) model.Images { return openImages(t, sp) },
				modeltest.ImageCaps{Width: 64, Height: 48, Steps: 2, Scheduler: "euler_a", Seeds: true})
		})
	}
}

// catcher answers with body and keeps what it was sent.
func catcher(t *testing.T, status int, body string) (url string, sent *map[string]any) {
	sent = new(map[string]any)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := json.NewDecoder(r.Body).Decode(sent); err != nil {
			t.Error(err)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(s.Close)
	return s.URL, sent
}

// A picture of 64 x 64 pixels, where the recorder cut them out.
func picture(t *testing.T) string {
	p := modeltest.Picture(t, 64, 64, 9)
	b, err := p.Bytes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(b)
}

// TestRecorded replays the exchanges with sd-server: what was sent must be what the backend sends.
func TestRecorded(t *testing.T) {
	files, err := filepath.Glob("testdata/recorded/a1111_*.json")
	if err != nil || len(files) != 3 {
		t.Fatalf("%v, %v", files, err)
	}
	cut := regexp.MustCompile(`iVBOR[^"]*chars\)`)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var rec struct {
				Request map[string]any
				Status  int
				Body    string
			}
			if err := json.Unmarshal(b, &rec); err != nil {
				t.Fatal(err)
			}
			url, sent := catcher(t, rec.Status, cut.ReplaceAllString(rec.Body, picture(t)))
			req := model.ImageRequest{
				Prompt: rec.Request["prompt"].(string), Width: 64, Height: 64, Steps: int(rec.Request["steps"].(float64)),
				Guidance: rec.Request["cfg_scale"].(float64), Seed: int64(rec.Request["seed"].(float64)),
				Scheduler: map[any]string{"Euler a": "euler_a", "Euler": "euler"}[rec.Request["sampler_name"]],
			}
			req.NegativePrompt, _ = rec.Request["negative_prompt"].(string)
			resp, err := openImages(t, spec(url, nil)).Draw(t.Context(), req)
			if err != nil || !bytes.HasPrefix(resp.Data, []byte("\x89PNG")) {
				t.Fatalf("%d bytes, %v; want a PNG", len(resp.Data), err)
			}
			for _, field := range []string{"prompt", "seed", "sampler_name", "steps", "cfg_scale", "width", "height"} {
				if got, want := (*sent)[field], rec.Request[field]; got != want {
					t.Errorf("%s: sent %v, recorded %v", field, got, want)
				}
			}
			if (*sent)["batch_size"] != 1.0 {
				t.Errorf("batch_size %v", (*sent)["batch_size"])
			}
		})
	}
}

func TestWire(t *testing.T) {
	url, sent := catcher(t, http.StatusOK, `{"images":["`+picture(t)+`"],"info":"{\"seed\":3,\"all_seeds\":[3]}"}`)
	m := openImages(t, spec(url, map[string]string{"checkpoint": "v1-5.safetensors", "extra": `{"clip_skip":2}`}))
	req := model.ImageRequest{Prompt: "a (red) [cat]", NegativePrompt: "((ugly))", Width: 64, Height: 64, Steps: 20, Guidance: 7.5, Scheduler: "pndm", Seed: 3}
	if _, err := m.Draw(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"prompt": `a \(red\) \[cat\]`, "negative_prompt": `\(\(ugly\)\)`, "seed": 3.0, "sampler_name": "PLMS", "steps": 20.0, "cfg_scale": 7.5,
		"width": 64.0, "height": 64.0, "batch_size": 1.0, "n_iter": 1.0, "clip_skip": 2.0,
		"override_settings": map[string]any{"sd_model_checkpoint": "v1-5.safetensors"},
	}
	if diff := cmp.Diff(want, *sent); diff != "" {
		t.Errorf("-want +sent:\n%s", diff)
	}
}

func TestPlainPrompts(t *testing.T) {
	for _, tt := range []struct{ prompt, plain string }{
		{"a cat, 4k", "a cat, 4k"},
		{"((masterpiece)) [x]", `\(\(masterpiece\)\) \[x\]`},
		{"[cat:dog:0.5] (a:1.3)", `\[cat:dog:0.5\] \(a:1.3\)`},
		{`already \(escaped\)`, `already \\\(escaped\\\)`},
		{"<lora:evil:1> 1 < 2", "< lora:evil:1> 1 < 2"},
		{"<sd_cpp_extra_args>{}", "< sd_cpp_extra_args>{}"},
		{"CATS AND DOGS BREAK BRANDS", "CATS and DOGS break BRANDS"},
		{"", ""},
	} {
		for option, want := range map[string]string{"no": tt.plain, "yes": tt.prompt} {
			url, sent := catcher(t, http.StatusOK, `{"images":["`+picture(t)+`"],"info":""}`)
			m := openImages(t, spec(url, map[string]string{"emphasis": option}))
			if _, err := m.Draw(t.Context(), model.ImageRequest{Prompt: tt.prompt, Width: 64, Height: 64}); err != nil {
				t.Fatal(err)
			}
			if got := (*sent)["prompt"]; got != want {
				t.Errorf("emphasis %s: %q is sent as %q; want %q", option, tt.prompt, got, want)
			}
		}
	}
}

func TestFaults(t *testing.T) {
	ok := func(info string) string {
		b, err := json.Marshal(info)
		if err != nil {
			t.Fatal(err)
		}
		return `{"images":["` + picture(t) + `"],"info":` + string(b) + `}`
	}
	for _, tt := range []struct {
		name   string
		status int
		body   string
		width  int
		sched  string
		want   error
		says   string
	}{
		{"another size", 200, ok(""), 512, "", model.ErrRejected, "asked for 512 x 64 pixels, got 64 x 64"},
		{"another seed", 200, ok(`{"seed":42}`), 64, "", model.ErrConfig, "asked for seed 7, the server used 42"},
		{"odd info is no fault", 200, ok(`seed: 42`), 64, "", nil, ""},
		{"object info is no fault", 200, strings.Replace(ok(""), `"info":""`, `"info":{"seed":1}`, 1), 64, "", nil, ""},
		{"bad scheduler", 200, ok(""), 64, "heun", model.ErrConfig, "there are ddim, dpmpp_2m, euler, euler_a, pndm"},
		{"unknown sampler", 404, `{"detail":"Sampler not found"}`, 64, "ddim", model.ErrConfig, "404: Sampler not found"},
		{"bad JSON", 500, `{"error":"server_error","message":"[json.exception.parse_error.101]"}`, 64, "", model.ErrUnavailable, "server_error: [json.exception"},
		{"no pictures", 200, `{"images":[],"info":""}`, 64, "", model.ErrUnavailable, "no pictures"},
		{"not base64", 200, `{"images":["@@@"]}`, 64, "", model.ErrUnavailable, "not a txt2img answer"},
		{"not a picture", 200, `{"images":["aGVsbG8="]}`, 64, "", model.ErrBadPicture, "neither PNG nor JPEG"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			url, _ := catcher(t, tt.status, tt.body)
			_, err := openImages(t, spec(url, nil)).Draw(t.Context(), model.ImageRequest{Prompt: "x", Width: tt.width, Height: 64, Seed: 7, Scheduler: tt.sched})
			if !errors.Is(err, tt.want) || err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error is %v; want %v, %q", err, tt.want, tt.says)
			}
		})
	}
}

func TestOptions(t *testing.T) {
	for _, options := range []map[string]string{
		{"n": "yes"},
		{"emphasis": "maybe"},
		{"prefix": "sdapi"},
		{"extra": "[]"},
		{"extra": `{"seed":1}`},
		{"extra": `{"override_settings":{}}`, "checkpoint": "x"},
	} {
		if _, err := model.OpenImages(t.Context(), spec("http://127.0.0.1:1", options)); !errors.Is(err, model.ErrConfig) {
			t.Errorf("%v: %v; want ErrConfig", options, err)
		}
	}
	if got := openImages(t, spec("http://127.0.0.1:1", nil)).Info(); got.Weights != "sd15@1" || got.Deterministic {
		t.Errorf("Info = %+v", got)
	}
}
