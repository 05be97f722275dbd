package scene_test

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"testing"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/scene"
	"github.com/promptmill/promptmill/schemas"
)

func TestDraw(t *testing.T) {
	images, err := model.OpenImages(t.Context(), model.Spec{Backend: "scene"})
	if err != nil {
		t.Fatal(err)
	}
	draw := func(prompt string, seed int64, w, h int) []byte {
		t.Helper()
		res, err := images.Draw(t.Context(), model.ImageRequest{Prompt: prompt, Seed: seed, Width: w, Height: h})
		if err != nil {
			t.Fatal(err)
		}
		return res.Data
	}
	small := draw("a red fox, vibrant", 5, 0, 0)
	if !bytes.Equal(small, draw("a red fox, vibrant", 5, 32, 32)) {
		t.Error("the same request has two pictures")
	}
	for name, other := range map[string][]byte{"seed": draw("a red fox, vibrant", 6, 0, 0), "prompt": draw("a red fox, muted", 5, 0, 0)} {
		if bytes.Equal(small, other) {
			t.Errorf("the %s does not matter", name)
		}
	}
	want, err := scene.Decode(small)
	if err != nil {
		t.Fatal(err)
	}
	exact := scene.Draw("a red fox, vibrant", 5)
	for i := range want {
		if d := want[i] - exact[i]; d > .002 || d < -.002 {
			t.Fatalf("channel %d is %v in the PNG, %v in the picture", i, want[i], exact[i])
		}
	}
	// Enlarged pictures are the same pictures.
	for _, c := range []struct{ w, h, gotW, gotH int }{{256, 256, 256, 256}, {64, 96, 64, 96}, {100, 31, 96, 32}} {
		big := draw("a red fox, vibrant", 5, c.w, c.h)
		cfg, err := png.DecodeConfig(bytes.NewReader(big))
		if err != nil || cfg.Width != c.gotW || cfg.Height != c.gotH {
			t.Errorf("asked for %dx%d: got %dx%d, %v; want %dx%d", c.w, c.h, cfg.Width, cfg.Height, err, c.gotW, c.gotH)
		}
		got, err := scene.Decode(big)
		if err != nil {
			t.Fatal(err)
		}
		if *got != *want {
			t.Errorf("a picture of %dx%d is not that of 32x32 when reduced", c.w, c.h)
		}
	}
	for _, size := range [][2]int{{-1, 32}, {32, 5000}} {
		if _, err := images.Draw(t.Context(), model.ImageRequest{Width: size[0], Height: size[1]}); !errors.Is(err, model.ErrRejected) {
			t.Errorf("size %v: error %v", size, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := images.Draw(ctx, model.ImageRequest{Prompt: "a cat"}); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled request: error %v", err)
	}
}

// Pictures of other origins are taken too: JPEG, grey, with odd sizes and corners.
func TestDecodeForeignPictures(t *testing.T) {
	grey := image.NewGray(image.Rect(3, 5, 3+47, 5+20))
	for i := range grey.Pix {
		grey.Pix[i] = 51
	}
	colour := image.NewNRGBA(image.Rect(0, 0, 100, 100))
	for i := range 100 * 100 {
		colour.Set(i%100, i/100, color.NRGBA{51, 102, 204, 255})
	}
	var a, b bytes.Buffer
	if err := png.Encode(&a, grey); err != nil {
		t.Fatal(err)
	}
	if err := jpeg.Encode(&b, colour, nil); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		data []byte
		want [3]float32
	}{"grey PNG": {a.Bytes(), [3]float32{.2, .2, .2}}, "JPEG": {b.Bytes(), [3]float32{.2, .4, .8}}} {
		img, err := scene.Decode(c.data)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range img {
			if d := v - c.want[i%3]; d > .02 || d < -.02 {
				t.Fatalf("%s: channel %d is %v", name, i, v)
			}
		}
	}
}

func TestScorer(t *testing.T) {
	a, b := drawn(t, "a cat", 1), drawn(t, "a cat, vibrant, centered, sharp focus, high contrast", 1)
	reqs := []model.ScoreRequest{{Text: "a cat", Picture: *a}, {Text: "a cat", Picture: *b}, {Text: "a castle", Picture: *b}}
	score := func(options map[string]string) []float64 {
		t.Helper()
		s, err := model.OpenScorer(t.Context(), model.Spec{Backend: "scene", Options: options})
		if err != nil {
			t.Fatal(err)
		}
		out, err := s.Score(t.Context(), reqs)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	total := score(nil)
	if total[1] <= total[0] || total[2] >= total[1] {
		t.Errorf("totals %v: want the good picture of a cat above the plain one, and above itself as a castle", total)
	}
	sum := make([]float64, len(reqs))
	for _, aspect := range []string{schemas.Aesthetic, schemas.Pick, schemas.Alignment} {
		for i, v := range score(map[string]string{"aspect": aspect}) {
			if v < 0 || v > 5 {
				t.Errorf("%s %d is %v", aspect, i, v)
			}
			sum[i] += v
		}
	}
	for i := range sum {
		if d := sum[i] - total[i]; d > 1e-9 || d < -1e-9 {
			t.Errorf("aspects of %d add up to %v, the total is %v", i, sum[i], total[i])
		}
	}
}

func TestOpenRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, spec := range []model.Spec{
		{Backend: "scene", Options: map[string]string{"aspect": "sharpness"}},
		{Backend: "scene", Options: map[string]string{"noise": "0"}},
		{Backend: "scene", Model: "vila-13b"},
	} {
		if _, err := model.OpenScorer(t.Context(), spec); !errors.Is(err, model.ErrConfig) {
			t.Errorf("scorer %+v: error %v", spec, err)
		}
	}
	if _, err := model.OpenChat(t.Context(), model.Spec{Backend: "scene", Options: map[string]string{"aspect": "pick"}}); !errors.Is(err, model.ErrConfig) {
		t.Errorf("a chat with a scorer's option: error %v", err)
	}
}
