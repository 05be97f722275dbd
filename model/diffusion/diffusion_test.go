package diffusion_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/diffusion"
	"github.com/promptmill/promptmill/model/modeltest"
	"github.com/promptmill/promptmill/model/onnx"
)

const folder = "testdata/tiny_sd"

// The prompts and the seed of the reference pictures.
const (
	first    = "a photo of a cat, highly detailed"
	negative = "nsfw, ((ugly)), (duplicate)"
	seed     = 7
)

func open(t testing.TB, folder string, o diffusion.Options) *diffusion.Pipeline {
	t.Helper()
	p, err := diffusion.Open(folder, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func request() model.ImageRequest {
	return model.ImageRequest{Prompt: first, Width: 64, Height: 64, Steps: 20, Guidance: 7.5, Seed: seed}
}

func draw(t testing.TB, p model.Images, req model.ImageRequest) []byte {
	t.Helper()
	resp, err := p.Draw(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Data
}

// distance is the mean absolute difference of two PNGs, in levels of 255.
func distance(t *testing.T, a, b []byte) float64 {
	t.Helper()
	x, err := png.Decode(bytes.NewReader(a))
	if err != nil {
		t.Fatal(err)
	}
	y, err := png.Decode(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if x.Bounds() != y.Bounds() {
		t.Fatalf("%v beside %v", x.Bounds(), y.Bounds())
	}
	var sum float64
	n := 0
	for row := range x.Bounds().Dy() {
		for col := range x.Bounds().Dx() {
			r, g, b, _ := x.At(col, row).RGBA()
			u, v, w, _ := y.At(col, row).RGBA()
			for _, d := range []float64{float64(r>>8) - float64(u>>8), float64(g>>8) - float64(v>>8), float64(b>>8) - float64(w>>8)} {
				sum += math.Abs(d)
				n++
			}
		}
	}
	return sum / float64(n)
}

// The pictures are those that diffusers draws from the same seed.
func TestReferencePictures(t *testing.T) {
	p := open(t, folder, diffusion.Options{})
	for name, change := range map[string]func(*model.ImageRequest){
		"neg":   func(r *model.ImageRequest) { r.NegativePrompt = negative },
		"noneg": func(*model.ImageRequest) {},
		"nocfg": func(r *model.ImageRequest) { r.Guidance = 1 },
	} {
		req := request()
		change(&req)
		want, err := os.ReadFile("testdata/image0_pndm_" + name + ".png")
		if err != nil {
			t.Fatal(err)
		}
		if d := distance(t, draw(t, p, req), want); d >= 0.05 {
			t.Errorf("%s: mean absolute difference of %.3f levels to the reference", name, d)
		}
	}
}

// The other schedulers, whose references are latents.
func TestReferenceLatents(t *testing.T) {
	decoder, err := onnx.Open(filepath.Join(folder, "vae_decoder", "model.onnx"), onnx.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer decoder.Close()
	base := `"num_train_timesteps":1000,"beta_start":0.00085,"beta_end":0.012,"beta_schedule":"scaled_linear"`
	for name, config := range map[string]string{
		"ddim":          `{"_class_name":"DDIMScheduler",` + base + `,"clip_sample":false,"set_alpha_to_one":false,"steps_offset":1}`,
		"euler":         `{"_class_name":"EulerDiscreteScheduler",` + base + `}`,
		"dpmsolver++2m": `{"_class_name":"DPMSolverMultistepScheduler",` + base + `,"algorithm_type":"dpmsolver++","solver_order":2}`,
	} {
		dir := filepath.Join(t.TempDir(), "sd")
		if err := os.CopyFS(dir, os.DirFS(folder)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "scheduler", "scheduler_config.json"), []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := png.Decode(bytes.NewReader(draw(t, open(t, dir, diffusion.Options{}), request())))
		if err != nil {
			t.Fatal(err)
		}
		latents := floats(t, "testdata/final_latents_"+name+"_noneg.bin")[:256]
		for i := range latents {
			latents[i] /= 0.18215
		}
		in, err := onnx.NewTensor(latents, 1, 4, 8, 8)
		if err != nil {
			t.Fatal(err)
		}
		out, err := decoder.Run(t.Context(), []*onnx.Tensor{in})
		if err != nil {
			t.Fatal(err)
		}
		planes := onnx.Data[float32](out[0])
		var sum float64
		for i := range 64 * 64 {
			r, g, b, _ := got.At(i%64, i/64).RGBA()
			for c, v := range []uint32{r, g, b} {
				want := min(max(float64(planes[c*64*64+i])/2+.5, 0), 1) * 255
				sum += math.Abs(float64(v>>8) - want)
			}
		}
		if mean := sum / (3 * 64 * 64); mean >= .5 { // a quarter of a level is rounding
			t.Errorf("%s: mean absolute difference of %.3f levels to the reference", name, mean)
		}
	}
}

func floats(t *testing.T, path string) []float32 {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	out := make([]float32, len(data)/4)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
	}
	return out
}

func TestConformance(t *testing.T) {
	p := open(t, folder, diffusion.Options{})
	modeltest.RunImages(t, func(*testing.T) model.Images { return p }, modeltest.ImageCaps{Width: 32, Height: 32, Steps: 3, Scheduler: "ddim", Seeds: true})
}

// A picture is the same bits alone and in any batch, whatever its neighbours ask for.
func TestBatchmates(t *testing.T) {
	alone := open(t, folder, diffusion.Options{MaxBatch: 1})
	together := open(t, folder, diffusion.Options{MaxBatch: 16})
	for _, name := range []string{"pndm", "ddim", "euler", "euler_a", "dpmpp_2m"} {
		reqs := make([]model.ImageRequest, 11)
		for i := range reqs {
			reqs[i] = model.ImageRequest{
				Prompt: strings.Repeat("castle ", i), NegativePrompt: []string{"", "ugly"}[i%2], Width: 32, Height: 64,
				Steps: 4, Guidance: 2 + float64(i), Scheduler: name, Seed: int64(i),
			}
		}
		got := make([][]byte, len(reqs))
		var wg sync.WaitGroup
		for i, r := range reqs {
			wg.Go(func() {
				resp, err := together.Draw(t.Context(), r)
				if err != nil {
					t.Error(err)
				}
				got[i] = resp.Data
			})
		}
		wg.Wait()
		for i, r := range reqs {
			if !bytes.Equal(got[i], draw(t, alone, r)) {
				t.Errorf("%s: picture %d depends on its batch", name, i)
			}
		}
	}
}

func TestRejected(t *testing.T) {
	p := open(t, folder, diffusion.Options{MaxPixels: 64 * 64})
	for name, change := range map[string]func(*model.ImageRequest){
		"60x64":        func(r *model.ImageRequest) { r.Width = 60 },
		"0x64":         func(r *model.ImageRequest) { r.Width = 0 },
		"128x64":       func(r *model.ImageRequest) { r.Width = 128 },
		"0 steps":      func(r *model.ImageRequest) { r.Steps = 0 },
		"2000 steps":   func(r *model.ImageRequest) { r.Steps = 2000 },
		`"heun"`:       func(r *model.ImageRequest) { r.Scheduler = "heun" },
		"1000000000x8": func(r *model.ImageRequest) { r.Width, r.Height = 1000000000, 8 },
	} {
		req := request()
		change(&req)
		_, err := p.Draw(t.Context(), req)
		if !errors.Is(err, model.ErrRejected) || !strings.Contains(fmt.Sprint(err), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A folder with a fault is an error that names the file.
func TestBadFolder(t *testing.T) {
	for _, c := range []struct {
		want  string
		spoil func(dir string) error
	}{
		{"unet/model.onnx", func(dir string) error { return os.Truncate(filepath.Join(dir, "unet/model.onnx"), 100000) }},
		{"text_encoder/model.onnx: has the inputs", func(dir string) error {
			return os.Rename(filepath.Join(dir, "unet/model.onnx"), filepath.Join(dir, "text_encoder/model.onnx"))
		}},
		{"vae_decoder/model.onnx", func(dir string) error { return os.Remove(filepath.Join(dir, "vae_decoder/model.onnx")) }},
		{"vae_decoder/config.json", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "vae_decoder/config.json"), []byte("{"), 0o600)
		}},
		{"scheduler/scheduler_config.json", func(dir string) error { return os.Remove(filepath.Join(dir, "scheduler/scheduler_config.json")) }},
		{"tokenizer", func(dir string) error { return os.Remove(filepath.Join(dir, "tokenizer/vocab.json")) }},
	} {
		dir := filepath.Join(t.TempDir(), "sd")
		if err := os.CopyFS(dir, os.DirFS(folder)); err != nil {
			t.Fatal(err)
		}
		if err := c.spoil(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := diffusion.Open(dir, diffusion.Options{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.want, err)
		}
	}
}
