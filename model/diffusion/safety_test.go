package diffusion_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/diffusion"
	"github.com/promptmill/promptmill/model/onnx/build"
	"github.com/promptmill/promptmill/model/onnx/onnxfile"
)

// checker flags a picture whose mean brightness is over a limit, by what CLIP sees of it and by the picture itself: both
// have to be what they should.
func checker(b *build.Builder, limit float32) {
	seen := b.Input("clip_input", onnxfile.Float, "batch", "channels", "height", "width")
	shown := b.Input("images", onnxfile.Float, "batch", "height", "width", "channels")
	mean := func(x string, axes ...int64) string {
		return b.Op("ReduceMean", []string{x}, build.Ints("axes", axes...), build.Int("keepdims", 0))
	}
	// Back from CLIP's normalisation, a channel at a time.
	channels := mean(seen, 2, 3)
	channels = b.Op("Add", []string{
		b.Op("Mul", []string{channels, b.Floats(0.26862954, 0.26130258, 0.27577711)}), b.Floats(0.48145466, 0.4578275, 0.40821073),
	})
	byClip := b.Op("Greater", []string{mean(channels, 1), b.Scalar(limit)})
	itself := b.Op("Greater", []string{mean(shown, 1, 2, 3), b.Scalar(limit)})
	b.Output("out_images", b.Op("Identity", []string{shown}), onnxfile.Float, "batch", "height", "width", "channels")
	b.Output("has_nsfw_concepts", b.Op("And", []string{byClip, itself}), onnxfile.Bool, "batch")
}

// checked is the tiny folder with a safety checker.
func checked(t *testing.T, graph []byte) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "sd")
	if err := os.CopyFS(dir, os.DirFS(folder)); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "safety_checker"), 0o700); err != nil {
		t.Fatal(err)
	}
	if graph != nil {
		if err := os.WriteFile(filepath.Join(dir, "safety_checker", "model.onnx"), graph, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// What the folder's safety checker finds against becomes a black picture that is flagged; another one is left alone.
func TestSafetyChecker(t *testing.T) {
	plain := open(t, folder, diffusion.Options{})
	req := request()
	want := draw(t, plain, req)
	// Around the mean of the picture, which is grey with noise.
	for _, c := range []struct {
		limit   float32
		flagged bool
	}{{.3, true}, {.7, false}} {
		b := build.New()
		checker(b, c.limit)
		p := open(t, checked(t, b.Model().Marshal()), diffusion.Options{})
		got, err := p.Draw(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		info, err := model.Inspect(got.Data, model.PictureLimits{})
		if err != nil || info.Width != req.Width || info.Height != req.Height {
			t.Fatalf("a picture of %dx%d, %v", info.Width, info.Height, err)
		}
		if got.Flagged != c.flagged || info.Black != c.flagged {
			t.Errorf("over %v: flagged %v, black %v; want both %v", c.limit, got.Flagged, info.Black, c.flagged)
		}
		if !c.flagged && !bytes.Equal(got.Data, want) {
			t.Error("a checker that finds nothing changes the picture")
		}
		if p.Info().Weights == plain.Info().Weights {
			t.Error("with a checker the model has the identity of one without")
		}
	}
}

// A checker that cannot be run is no reason to go on without it.
func TestBadSafetyChecker(t *testing.T) {
	other := build.New()
	other.Output("has_nsfw_concepts", other.Op("Identity", []string{other.Input("images", onnxfile.Float, "b", "h", "w", 3)}), onnxfile.Float, "b", "h", "w", 3)
	silent := build.New()
	silent.Output("out", silent.Op("Identity", []string{silent.Input("clip_input", onnxfile.Float, "b", 3, 224, 224)}), onnxfile.Float, "b", 3, 224, 224)
	for want, graph := range map[string][]byte{
		"safety_checker/model.onnx":                   nil,
		"want clip_input and images":                  other.Model().Marshal(),
		"has no output has_nsfw_concepts; there are ": silent.Model().Marshal(),
	} {
		if _, err := diffusion.Open(checked(t, graph), diffusion.Options{}); !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
	b := build.New()
	checker(b, .5)
	dir := checked(t, b.Model().Marshal())
	if err := os.Mkdir(filepath.Join(dir, "feature_extractor"), 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "feature_extractor", "preprocessor_config.json")
	if err := os.WriteFile(path, []byte(`{"crop_size": 336}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := diffusion.Open(dir, diffusion.Options{}); !strings.Contains(fmt.Sprint(err), path) {
		t.Errorf("with another crop: %v; want %s", err, path)
	}
}
