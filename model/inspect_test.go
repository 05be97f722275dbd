package model_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"strings"
	"testing"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/modeltest"
)

func picture(t testing.TB, format string, w, h int, at func(x, y int) color.Color) []byte {
	t.Helper()
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			img.Set(x, y, at(x, y))
		}
	}
	var b bytes.Buffer
	var err error
	if format == "png" {
		err = png.Encode(&b, img)
	} else {
		err = jpeg.Encode(&b, img, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func grey(v uint8) func(int, int) color.Color {
	return func(int, int) color.Color { return color.Gray{Y: v} }
}

// claim rewrites the size in a PNG's header, with a right checksum.
func claim(data []byte, w, h uint32) []byte {
	data = bytes.Clone(data)
	binary.BigEndian.PutUint32(data[16:], w)
	binary.BigEndian.PutUint32(data[20:], h)
	binary.BigEndian.PutUint32(data[29:], crc32.ChecksumIEEE(data[12:29]))
	return data
}

func TestInspect(t *testing.T) {
	small := picture(t, "png", 8, 4, grey(200))
	for _, tt := range []struct {
		name   string
		data   []byte
		limits model.PictureLimits
		want   model.PictureInfo
		bad    bool
	}{
		{name: "png", data: small, want: model.PictureInfo{Width: 8, Height: 4, Format: "png"}},
		{name: "jpeg", data: picture(t, "jpeg", 20, 10, grey(90)), want: model.PictureInfo{Width: 20, Height: 10, Format: "jpeg"}},
		{name: "black png", data: picture(t, "png", 64, 64, grey(0)), want: model.PictureInfo{Width: 64, Height: 64, Format: "png", Black: true}},
		{name: "nearly black jpeg", data: picture(t, "jpeg", 64, 64, grey(5)), want: model.PictureInfo{Width: 64, Height: 64, Format: "jpeg", Black: true}},
		{name: "a few stray pixels are still black", data: picture(t, "png", 64, 64, func(x, y int) color.Color {
			if y == 0 && x < 4 {
				return color.White
			}
			return color.Black
		}), want: model.PictureInfo{Width: 64, Height: 64, Format: "png", Black: true}},
		{name: "a small moon is not black", data: picture(t, "png", 64, 64, func(x, y int) color.Color {
			if y > 50 && x > 50 {
				return color.White
			}
			return color.Black
		}), want: model.PictureInfo{Width: 64, Height: 64, Format: "png"}},
		{name: "at the limit", data: small, limits: model.PictureLimits{MaxPixels: 32}, want: model.PictureInfo{Width: 8, Height: 4, Format: "png"}},
		{name: "over the limit", data: small, limits: model.PictureLimits{MaxPixels: 31}, bad: true},
		{name: "bomb", data: claim(small, 40000, 40000), bad: true},
		{name: "overflow", data: claim(small, 1<<31-1, 1<<31-1), bad: true},
		{name: "cut", data: small[:len(small)-20], bad: true},
		{name: "header only", data: small[:20], bad: true},
		{name: "empty", bad: true},
		{name: "gif", data: []byte("GIF89a........."), bad: true},
		{name: "html", data: []byte("<html>not found</html>"), bad: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := model.Inspect(tt.data, tt.limits)
			if got != tt.want || errors.Is(err, model.ErrBadPicture) != tt.bad || (err != nil) != tt.bad {
				t.Errorf("Inspect = %+v, %v; want %+v, bad %v", got, err, tt.want, tt.bad)
			}
		})
	}
}

// What each of them is, is said by both the look at the header and the look at all, and neither takes
// what the other refuses but for damage further on.
func TestBadPictures(t *testing.T) {
	says := map[string]string{
		"40000 x 40000": "claims 40000 x 40000", "an animated PNG": "is animated", "a CMYK JPEG": "is in CMYK",
		"16-bit RGB": "16 bits", "16-bit RGBA": "16 bits", "16-bit grey": "16 bits",
		"no bytes": "0 bytes are neither", "HTML": "neither PNG nor JPEG", "an animated GIF": "neither PNG nor JPEG",
		"a cut PNG": "decode png",
	}
	bad := modeltest.BadPictures(t)
	for name, data := range bad {
		_, err := model.Inspect(data, model.PictureLimits{})
		if !errors.Is(err, model.ErrBadPicture) || !strings.Contains(err.Error(), says[name]) || says[name] == "" {
			t.Errorf("%s: Inspect: %v; want ErrBadPicture with %q", name, err, says[name])
		}
		if _, err := model.Decode(data, model.PictureLimits{}); !errors.Is(err, model.ErrBadPicture) {
			t.Errorf("%s: Decode: %v", name, err)
		}
		if _, err := model.Measure(data, model.PictureLimits{}); (err == nil) != (name == "a cut PNG") {
			t.Errorf("%s: Measure: %v", name, err)
		}
	}
	// The faults are those named, and not that the pictures are damaged.
	if img, err := jpeg.Decode(bytes.NewReader(bad["a CMYK JPEG"])); err != nil || img.ColorModel() != color.CMYKModel {
		t.Errorf("the CMYK picture: %v", err)
	}
	for _, name := range []string{"an animated PNG", "16-bit RGB", "16-bit RGBA", "16-bit grey"} {
		if _, err := png.Decode(bytes.NewReader(bad[name])); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMeasureAllocatesLittle(t *testing.T) {
	bomb := claim(picture(t, "png", 8, 8, grey(1)), 40000, 40000)
	r := testing.Benchmark(func(b *testing.B) {
		for b.Loop() {
			if _, err := model.Inspect(bomb, model.PictureLimits{}); err == nil {
				b.Fatal("a picture of 1.6 gigapixels was taken")
			}
		}
	})
	if r.AllocedBytesPerOp() > 1<<16 {
		t.Errorf("refusing a bomb allocates %d bytes", r.AllocedBytesPerOp())
	}
}

func FuzzInspect(f *testing.F) {
	f.Add(picture(f, "png", 8, 4, grey(200)))
	f.Add(picture(f, "jpeg", 8, 4, grey(0)))
	for _, data := range modeltest.BadPictures(f) {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		limits := model.PictureLimits{MaxPixels: 1 << 16}
		info, err := model.Inspect(data, limits)
		if err != nil {
			if !errors.Is(err, model.ErrBadPicture) {
				t.Errorf("untyped error: %v", err)
			}
			return
		}
		if head, err := model.Measure(data, limits); err != nil || head.Width != info.Width || head.Height != info.Height || info.Width*info.Height > 1<<16 {
			t.Errorf("Inspect says %+v, Measure %+v, %v", info, head, err)
		}
	})
}
