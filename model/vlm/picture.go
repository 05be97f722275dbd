package vlm

import (
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"math"
)

// pictureConfig is preprocessor_config.json: how a picture becomes the encoder's input. The names and what they mean
// are those of transformers' CLIP, SigLIP and ViT image processors.
type pictureConfig struct {
	DoResize     *bool     `json:"do_resize"`
	Size         sizeField `json:"size"`
	Resample     *int      `json:"resample"`
	DoCenterCrop bool      `json:"do_center_crop"`
	CropSize     sizeField `json:"crop_size"`
	DoRescale    *bool     `json:"do_rescale"`
	Factor       float64   `json:"rescale_factor"`
	DoNormalize  *bool     `json:"do_normalize"`
	Mean         []float64 `json:"image_mean"`
	Std          []float64 `json:"image_std"`
	// MaxSize is the tile of the Idefics3 family; a picture that is not cut into tiles gets its size.
	MaxSize sizeField `json:"max_image_size"`
	// Places is how many image tokens a picture takes.
	Places int `json:"image_seq_length"`
}

// sizeField is 224, or {"shortest_edge": 224}, or {"longest_edge": 512}, or {"height": 224, "width": 224}.
type sizeField struct {
	Edge     int `json:"-"`
	Shortest int `json:"shortest_edge"`
	Longest  int `json:"longest_edge"`
	Height   int `json:"height"`
	Width    int `json:"width"`
}

func (s *sizeField) UnmarshalJSON(b []byte) error {
	if json.Unmarshal(b, &s.Edge) == nil {
		return nil
	}
	type plain sizeField
	return json.Unmarshal(b, (*plain)(s))
}

// The most pixels that a side may have: a file could ask for any number.
const largestSide = 4096

func unset(b *bool) bool { return b == nil || *b }

func (c *pictureConfig) check() error {
	var errs []error
	if c.Factor == 0 {
		c.Factor = 1. / 255
	}
	if c.Resample == nil {
		c.Resample = new(int)
		*c.Resample = bicubic
	}
	if filters[*c.Resample].weight == nil && *c.Resample != nearest {
		errs = append(errs, fmt.Errorf("resample: %d is not supported: 0 nearest, 1 Lanczos, 2 bilinear and 3 bicubic are", *c.Resample))
	}
	if unset(c.DoNormalize) {
		for _, l := range []struct {
			name   string
			values *[]float64
		}{{"image_mean", &c.Mean}, {"image_std", &c.Std}} {
			if len(*l.values) != 3 {
				errs = append(errs, fmt.Errorf("%s: %d numbers, want 3", l.name, len(*l.values)))
			}
		}
		for _, s := range c.Std {
			if s == 0 {
				errs = append(errs, errors.New("image_std: 0 cannot be divided by"))
			}
		}
	}
	if w, h := c.size(); w < 1 || h < 1 || w > largestSide || h > largestSide {
		errs = append(errs, fmt.Errorf("size: pictures of %d x %d; every picture must get one size of 1 to %d: set size to a height and a width, or crop_size", w, h, largestSide))
	}
	if s := c.Size.Shortest; s < 0 || s > largestSide {
		errs = append(errs, fmt.Errorf("size.shortest_edge: %d is not in 1..%d", s, largestSide))
	}
	return errors.Join(errs...)
}

// size is what every picture has in the end; 0 if that differs from picture to picture.
func (c *pictureConfig) size() (width, height int) {
	switch {
	case c.DoCenterCrop:
		return c.CropSize.square()
	case c.MaxSize != sizeField{}:
		if c.MaxSize.Longest > 0 {
			return c.MaxSize.Longest, c.MaxSize.Longest
		}
		return c.MaxSize.square()
	}
	return c.Size.square()
}

func (s sizeField) square() (width, height int) {
	if s.Edge > 0 {
		return s.Edge, s.Edge
	}
	return s.Width, s.Height
}

// resized is the size that a picture is scaled to before it is cropped.
func (c *pictureConfig) resized(width, height int) (int, int) {
	short := c.Size.Shortest
	if c.DoCenterCrop && short == 0 {
		short = c.Size.Edge
	}
	if short == 0 || !c.DoCenterCrop {
		if w, h := c.Size.square(); c.DoCenterCrop && w > 0 {
			return w, h
		}
		return c.size()
	}
	if width <= height {
		return short, bounded(short, height, width)
	}
	return bounded(short, width, height), short
}

// bounded is the longer side after scaling, cut off as transformers does. A strip is not scaled to any length.
func bounded(short, long, by int) int {
	return min(int(float64(short)*float64(long)/float64(by)), 64*largestSide)
}

// prepare returns [3, height, width].
func (c *pictureConfig) prepare(img image.Image) []float32 {
	p := toRGB(img)
	if unset(c.DoResize) {
		w, h := c.resized(p.width, p.height)
		p = p.resize(w, h, *c.Resample)
	}
	width, height := c.size()
	left, top := floorHalf(p.width-width), floorHalf(p.height-height)
	out := make([]float32, 3*width*height)
	for channel := range 3 {
		mean, by := 0., 1.
		if unset(c.DoNormalize) {
			mean, by = c.Mean[channel], c.Std[channel]
		}
		factor := c.Factor
		if !unset(c.DoRescale) {
			factor = 1
		}
		for y := range height {
			for x := range width {
				out[(channel*height+y)*width+x] = float32((float64(p.at(x+left, y+top, channel))*factor - mean) / by)
			}
		}
	}
	return out
}

func floorHalf(n int) int { return int(math.Floor(float64(n) / 2)) }

// pixels are 8-bit RGB, row by row.
type pixels struct {
	width, height int
	data          []uint8
}

// at is black outside the picture, as a crop that is larger than the picture shows it.
func (p pixels) at(x, y, channel int) uint8 {
	if x < 0 || y < 0 || x >= p.width || y >= p.height {
		return 0
	}
	return p.data[(y*p.width+x)*3+channel]
}

// toRGB leaves transparency out, as Pillow's convert("RGB") does.
func toRGB(img image.Image) pixels {
	b := img.Bounds()
	p := pixels{width: b.Dx(), height: b.Dy(), data: make([]uint8, 0, 3*b.Dx()*b.Dy())}
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			var c color.NRGBA
			switch img := img.(type) {
			case *image.NRGBA:
				c = img.NRGBAAt(x, y)
			case *image.RGBA:
				o := img.RGBAAt(x, y)
				c = color.NRGBA{o.R, o.G, o.B, 0xff}
				if o.A != 0xff {
					c = color.NRGBAModel.Convert(o).(color.NRGBA)
				}
			default:
				c = color.NRGBAModel.Convert(img.At(x, y)).(color.NRGBA)
			}
			p.data = append(p.data, c.R, c.G, c.B)
		}
	}
	return p
}
