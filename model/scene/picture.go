package scene

import (
	"bytes"
	"fmt"
	"image"
	"image/draw"
	"image/jpeg"
	"image/png"
	"sync"

	"github.com/promptmill/promptmill/model"
)

// largest is the side of the largest picture drawn, in pixels.
const largest = 4096

// encoders keeps the memory of PNG encoders: a compressor costs more than a picture.
var encoders = png.Encoder{CompressionLevel: png.BestSpeed, BufferPool: new(encoderPool)}

type encoderPool struct{ sync.Pool }

func (p *encoderPool) Get() *png.EncoderBuffer {
	b, _ := p.Pool.Get().(*png.EncoderBuffer)
	return b
}

func (p *encoderPool) Put(b *png.EncoderBuffer) { p.Pool.Put(b) }

// PNG encodes the picture at 8 bits a channel, shown enlarged: each pixel becomes a block as large as
// fits width by height, and at least one pixel.
func (img *Image) PNG(width, height int) ([]byte, error) {
	w, h := max(1, width/Side), max(1, height/Side)
	out := image.NewRGBA(image.Rect(0, 0, w*Side, h*Side))
	for y := range Side {
		row := out.Pix[y*h*out.Stride:][:out.Stride]
		for x := range Side * w {
			p := img[3*(y*Side+x/w):]
			for k := range 3 {
				row[4*x+k] = uint8(p[k]*255 + .5)
			}
			row[4*x+3] = 255
		}
		for n := 1; n < h; n++ {
			copy(out.Pix[(y*h+n)*out.Stride:][:out.Stride], row)
		}
	}
	var buf bytes.Buffer
	if err := encoders.Encode(&buf, out); err != nil {
		return nil, fmt.Errorf("encode a picture: %w", err)
	}
	return buf.Bytes(), nil
}

// Decode reads a PNG or JPEG of any origin and brings it to 32x32: each pixel is the mean of the block
// it stands for, which undoes PNG's enlargement exactly. Its errors wrap model.ErrBadPicture.
func Decode(data []byte) (*Image, error) {
	info, err := model.Measure(data, model.PictureLimits{})
	if err != nil {
		return nil, err
	}
	decode := png.Decode
	if info.Format == "jpeg" {
		decode = jpeg.Decode
	}
	src, err := decode(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%w: decode %s of %d bytes: %w", model.ErrBadPicture, info.Format, len(data), err)
	}
	flat, ok := src.(*image.RGBA)
	if !ok {
		flat = image.NewRGBA(src.Bounds())
		draw.Draw(flat, flat.Rect, src, src.Bounds().Min, draw.Src)
	}
	return reduce(flat), nil
}

func reduce(src *image.RGBA) *Image {
	w, h := src.Rect.Dx(), src.Rect.Dy()
	block := func(i, n int) (from, to int) { return i * n / Side, max((i+1)*n/Side, i*n/Side+1) }
	var img Image
	for i := range pixels {
		x0, x1 := block(i%Side, w)
		y0, y1 := block(i/Side, h)
		var sum [3]int
		for y := y0; y < y1; y++ {
			row := src.Pix[y*src.Stride:]
			for x := x0; x < x1; x++ {
				for k := range sum {
					sum[k] += int(row[4*x+k])
				}
			}
		}
		for k, s := range sum {
			img[3*i+k] = float32(float64(s) / float64(255*(x1-x0)*(y1-y0)))
		}
	}
	return &img
}
