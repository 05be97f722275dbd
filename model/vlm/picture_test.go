package vlm

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"image"
	"image/color"
	"math"
	"os"
	"testing"
)

// madeUp is the picture that testdata/pictures.py makes.
func madeUp(w, h int) image.Image {
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			img.SetNRGBA(x, y, color.NRGBA{uint8(x*7 + y*13), uint8(x*x + 3*y), uint8(x*y*5 + 91*(x%2)), 0xff})
		}
	}
	return img
}

// The exact pixels do not come out of the package: this test is inside.
func TestPicturesEqualPillow(t *testing.T) {
	var want struct {
		Resized []struct {
			From, To [2]int
			Resample int
			SHA256   string
		}
		Prepared []struct {
			Name          string
			Config        json.RawMessage
			From          [2]int
			Shape         []int
			Sum, Weighted float64
		}
	}
	data, err := os.ReadFile("testdata/pictures.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &want); err != nil {
		t.Fatal(err)
	}
	for _, c := range want.Resized {
		got := toRGB(madeUp(c.From[0], c.From[1])).resize(c.To[0], c.To[1], c.Resample)
		if sum := sha256.Sum256(got.data); hex.EncodeToString(sum[:]) != c.SHA256 {
			t.Errorf("%v to %v, filter %d: other pixels than Pillow's", c.From, c.To, c.Resample)
		}
	}
	for _, c := range want.Prepared {
		var config pictureConfig
		if err := json.Unmarshal(c.Config, &config); err != nil {
			t.Fatal(err)
		}
		if err := config.check(); err != nil {
			t.Fatal(err)
		}
		width, height := config.size()
		sum, weighted := 0., 0.
		for i, v := range config.prepare(madeUp(c.From[0], c.From[1])) {
			sum += float64(v)
			weighted += float64(v) * float64(i%97)
		}
		if height != c.Shape[1] || width != c.Shape[2] || math.Abs(sum-c.Sum) > 1e-3 || math.Abs(weighted-c.Weighted) > 1e-2 {
			t.Errorf("%s, %v: %d x %d, sums %v and %v; want %v, %v and %v", c.Name, c.From, width, height, sum, weighted, c.Shape, c.Sum, c.Weighted)
		}
	}
}

func FuzzConfig(f *testing.F) {
	for _, s := range []string{
		`{"size": 224, "crop_size": 224, "do_center_crop": true}`, `{"size": {"height": 3, "width": 5}, "do_normalize": false}`,
		`{"size": {"shortest_edge": 9}, "crop_size": {"height": 4, "width": 4}, "do_center_crop": true, "do_normalize": false, "resample": 0}`,
		`{"max_image_size": {"longest_edge": 7}, "do_normalize": false, "resample": 1}`,
	} {
		f.Add([]byte(s), uint8(3), uint8(9))
	}
	f.Fuzz(func(t *testing.T, data []byte, w, h uint8) {
		var c pictureConfig
		if json.Unmarshal(data, &c) != nil || c.check() != nil {
			return
		}
		width, height := c.size()
		if width*height > 1<<14 || c.Size.Shortest > 1<<8 || c.Size.Edge > 1<<8 {
			return // it would only take long
		}
		if got := len(c.prepare(madeUp(1+int(w), 1+int(h)))); got != 3*width*height {
			t.Errorf("%s: %d numbers for %d x %d", data, got, width, height)
		}
	})
}
