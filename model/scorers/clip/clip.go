// Package clip scores pictures with CLIP models in ONNX: the cosine of a text's and a picture's embedding, times the logit
// scale. PickScore is such a model too. The backend is registered as "clip"; the spec's model is a folder.
//
// It brings pictures to the form that the encoders take, bit for bit as Pillow and transformers' CLIPImageProcessor with
// the Pillow backend do: a score of another resampling is another score. (The torchvision backend, transformers 5's default,
// differs by up to two levels.)
//
// # Design
//
// Only the part that the crop keeps is resampled. PNGs are exact; a JPEG is exact from its pixels on, but
// decoders differ in those by a level or two: Go's is not libjpeg.
//
// The oracle of the procedural world, also a model.Scorer, is in model/scene.
package clip

import (
	"image"
	"image/color"
)

// Side is the width and height of what the encoders take, in pixels: ViT-L/14 and ViT-H/14 alike.
const Side = 224

// A Crop is 8-bit RGB, rows from the top.
type Crop [Side][Side][3]uint8

// An Input is what the encoders take: red, green and blue planes of rows from the top, normalised.
type Input [3][Side][Side]float32

// NewCrop resizes img so that its shorter side has Side pixels, with Pillow's bicubic filter, and keeps
// the middle. Transparency is dropped without blending, as Pillow's convert("RGB") does. It panics if img
// has no pixels; those of model.Decode do.
func NewCrop(img image.Image) *Crop {
	src := newRaster(img)
	width, height := Side, Side
	// The longer side as Python has it: a division of floats, cut.
	if src.width <= src.height {
		height = int(float64(Side*src.height) / float64(src.width))
	} else {
		width = int(float64(Side*src.width) / float64(src.height))
	}
	columns := newTaps(src.width, width, (width-Side)/2)
	rows := newTaps(src.height, height, (height-Side)/2)
	return resample(src, columns, rows)
}

// OpenAI's constants (CLIP, clip.py: Normalize), which OpenCLIP's ViT-H/14 and PickScore share.
var (
	mean = [3]float32{0.48145466, 0.4578275, 0.40821073}
	std  = [3]float32{0.26862954, 0.26130258, 0.27577711}
)

// Values are a copy of all that is in an Input, plane by plane, as a tensor of one row holds it.
func (in *Input) Values() []float32 {
	out := make([]float32, 0, 3*Side*Side)
	for c := range in {
		for y := range in[c] {
			out = append(out, in[c][y][:]...)
		}
	}
	return out
}

// levels has the normalised value of each 8-bit one, rounded where numpy rounds.
var levels = func() (t [3][256]float32) {
	for c := range t {
		for v := range t[c] {
			t[c][v] = (float32(float64(v)*(1.0/255)) - mean[c]) / std[c]
		}
	}
	return t
}()

// Preprocess returns what CLIP's image encoder takes of img: NewCrop, normalised.
func Preprocess(img image.Image) *Input {
	crop := NewCrop(img)
	var in Input
	for y := range crop {
		for x, p := range crop[y] {
			for c, v := range p {
				in[c][y][x] = levels[c][v]
			}
		}
	}
	return &in
}

// A raster is 8-bit RGB of any size.
type raster struct {
	width, height int
	pix           []uint8
}

func newRaster(img image.Image) raster {
	b := img.Bounds()
	r := raster{b.Dx(), b.Dy(), make([]uint8, 3*b.Dx()*b.Dy())}
	out := r.pix
	put := func(cr, cg, cb uint8) {
		out[0], out[1], out[2] = cr, cg, cb
		out = out[3:]
	}
	at := func(x, y int) (uint8, uint8, uint8) {
		c := color.NRGBAModel.Convert(img.At(x, y)).(color.NRGBA)
		return c.R, c.G, c.B
	}
	// What decoders return, without an interface value a pixel.
	switch img := img.(type) {
	case *image.NRGBA:
		at = func(x, y int) (uint8, uint8, uint8) {
			p := img.Pix[img.PixOffset(x, y):]
			return p[0], p[1], p[2]
		}
	case *image.Gray:
		at = func(x, y int) (uint8, uint8, uint8) {
			v := img.Pix[img.PixOffset(x, y)]
			return v, v, v
		}
	case *image.YCbCr:
		at = func(x, y int) (uint8, uint8, uint8) {
			i, j := img.YOffset(x, y), img.COffset(x, y)
			return color.YCbCrToRGB(img.Y[i], img.Cb[j], img.Cr[j])
		}
	case *image.RGBA:
		if img.Opaque() {
			at = func(x, y int) (uint8, uint8, uint8) {
				p := img.Pix[img.PixOffset(x, y):]
				return p[0], p[1], p[2]
			}
		}
	}
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			put(at(x, y))
		}
	}
	return r
}
