package clip_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"image"
	"image/color"
	"image/draw"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/scorers/clip"
)

// expected is what Pillow and transformers gave for one picture.
type expected struct {
	Size   [2]int
	Digest string     `json:"pillow_crop_sha256_u8"`
	Points [][2]int   `json:"points_yx"`
	Crop   [][3]uint8 `json:"pillow_crop_values"`
	Pillow struct {
		Sum    float64      `json:"sum_f32"`
		Values [][3]float32 `json:"values_chw"`
	} `json:"pil"`
}

func readExpected(t *testing.T) map[string]expected {
	t.Helper()
	b, err := os.ReadFile("testdata/expected.json")
	if err != nil {
		t.Fatal(err)
	}
	var all struct{ Images map[string]expected }
	if err := json.Unmarshal(b, &all); err != nil || len(all.Images) != 11 {
		t.Fatalf("%d pictures, %v; want 11", len(all.Images), err)
	}
	return all.Images
}

func decode(t testing.TB, name string) image.Image {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name+".png"))
	if err != nil {
		t.Fatal(err)
	}
	img, err := model.Decode(data, model.PictureLimits{})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func digest(c *clip.Crop) string {
	h := sha256.New()
	for y := range c {
		for x := range c[y] {
			h.Write(c[y][x][:])
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Every pixel of the crop is Pillow's, every normalised value transformers'.
func TestExact(t *testing.T) {
	for name, want := range readExpected(t) {
		t.Run(name, func(t *testing.T) {
			img := decode(t, name)
			if b := img.Bounds(); b.Dx() != want.Size[0] || b.Dy() != want.Size[1] {
				t.Fatalf("the picture is %v, not %v", b, want.Size)
			}
			crop, in := clip.NewCrop(img), clip.Preprocess(img)
			if got := digest(crop); got != want.Digest {
				t.Errorf("the crop has digest %s; want %s", got, want.Digest)
			}
			for i, at := range want.Points {
				y, x := at[0], at[1]
				if crop[y][x] != want.Crop[i] {
					t.Errorf("pixel %d,%d is %v; want %v", x, y, crop[y][x], want.Crop[i])
				}
				if got := [3]float32{in[0][y][x], in[1][y][x], in[2][y][x]}; got != want.Pillow.Values[i] {
					t.Errorf("input %d,%d is %v; want %v", x, y, got, want.Pillow.Values[i])
				}
			}
			var sum float64
			for c := range in {
				for y := range in[c] {
					for _, v := range in[c][y] {
						sum += float64(v)
					}
				}
			}
			if math.Abs(sum-want.Pillow.Sum) > 1e-6*math.Abs(want.Pillow.Sum) {
				t.Errorf("the values sum to %v; want %v", sum, want.Pillow.Sum)
			}
		})
	}
}

// The kinds of image that hold the same pixels give the same crop, wherever their bounds begin.
func TestKinds(t *testing.T) {
	const w, h = 50, 40
	at := func(x, y int) color.NRGBA {
		return color.NRGBA{uint8(5 * x), uint8(6 * y), uint8(x * y), 255}
	}
	fill := func(img draw.Image) image.Image {
		from := img.Bounds().Min
		for y := range h {
			for x := range w {
				img.Set(from.X+x, from.Y+y, at(x, y))
			}
		}
		return img
	}
	want := digest(clip.NewCrop(fill(image.NewNRGBA(image.Rect(0, 0, w, h)))))
	framed := image.NewNRGBA(image.Rect(0, 0, w+20, h+20)).SubImage(image.Rect(7, 3, 7+w, 3+h)).(*image.NRGBA)
	for name, img := range map[string]image.Image{
		"RGBA":          fill(image.NewRGBA(image.Rect(0, 0, w, h))),
		"elsewhere":     fill(image.NewRGBA(image.Rect(-9, 4, w-9, h+4))),
		"part of NRGBA": fill(framed),
		"any other":     fill(image.NewNRGBA64(image.Rect(0, 0, w, h))),
	} {
		if got := digest(clip.NewCrop(img)); got != want {
			t.Errorf("%s gives another crop", name)
		}
	}
	ycc := image.NewYCbCr(image.Rect(0, 0, w, h), image.YCbCrSubsampleRatio420)
	for i := range ycc.Y {
		ycc.Y[i] = 90
	}
	for i := range ycc.Cb {
		ycc.Cb[i], ycc.Cr[i] = 128, 128
	}
	if got := clip.NewCrop(ycc)[100][100]; got != [3]uint8{90, 90, 90} {
		t.Errorf("a JPEG's grey of 90 became %v", got)
	}
}

// Extreme shapes cost no more than their pixels: only the crop is resampled.
func TestShapes(t *testing.T) {
	for _, size := range [][2]int{{1, 1}, {1, 100_000}, {100_000, 1}, {2, 223}, {223, 224}, {225, 226}} {
		img := image.NewGray(image.Rect(0, 0, size[0], size[1]))
		for i := range img.Pix {
			img.Pix[i] = 77
		}
		crop := clip.NewCrop(img)
		for y := range crop {
			for x := range crop[y] {
				if crop[y][x] != [3]uint8{77, 77, 77} {
					t.Fatalf("%v: pixel %d,%d of a flat picture is %v", size, x, y, crop[y][x])
				}
			}
		}
	}
}

func BenchmarkPreprocess(b *testing.B) {
	for _, name := range []string{"noise_64x64", "grad_512x512"} {
		img := decode(b, name)
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				clip.Preprocess(img)
			}
		})
	}
}
