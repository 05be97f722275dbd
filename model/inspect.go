package model

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
)

// ErrBadPicture says that bytes are not a picture that the system takes: another format, damaged,
// claiming more pixels than allowed, animated, in CMYK, or of 16 bits a channel.
var ErrBadPicture = errors.New("bad picture")

// DefaultMaxPixels is the limit where PictureLimits names none: 4096 x 4096.
const DefaultMaxPixels = 1 << 24

// PictureLimits bounds what Inspect decodes. The zero value takes the defaults.
type PictureLimits struct {
	// MaxPixels bounds width times height; 0 is DefaultMaxPixels.
	MaxPixels int64
}

// PictureInfo says what encoded bytes show.
type PictureInfo struct {
	// Width and Height are in pixels.
	Width, Height int
	// Format is png or jpeg.
	Format string
	// Black says that all but a thousandth of the pixels are black or nearly so: what a safety checker
	// puts in a picture's place. Measure leaves it false.
	Black bool
}

// A codec is one of the formats taken. The registry of package image is left alone: whatever else
// is linked in would widen what outsiders can make this process decode.
type codec struct {
	format, magic string
	config        func([]byte) (image.Config, error)
	decode        func([]byte) (image.Image, error)
}

var codecs = []codec{
	{
		"png", "\x89PNG\r\n\x1a\n",
		func(b []byte) (image.Config, error) { return png.DecodeConfig(bytes.NewReader(b)) },
		func(b []byte) (image.Image, error) { return png.Decode(bytes.NewReader(b)) },
	},
	{
		"jpeg", "\xff\xd8\xff",
		func(b []byte) (image.Config, error) { return jpeg.DecodeConfig(bytes.NewReader(b)) },
		func(b []byte) (image.Image, error) { return jpeg.Decode(bytes.NewReader(b)) },
	},
}

// Measure reads only the header of a PNG or JPEG: its format and its size, which is within limits.
// It allocates little whatever the header claims. Its errors wrap ErrBadPicture.
func Measure(data []byte, limits PictureLimits) (PictureInfo, error) {
	info, _, err := measure(data, limits)
	return info, err
}

// Inspect decodes the whole of a PNG or JPEG, as Decode does, and says whether it is black. Its errors
// wrap ErrBadPicture.
func Inspect(data []byte, limits PictureLimits) (PictureInfo, error) {
	img, info, err := decode(data, limits)
	if err != nil {
		return PictureInfo{}, err
	}
	info.Black = black(img)
	return info, nil
}

// Decode returns the pixels of a PNG or JPEG, after Measure has found nothing against it. Its errors
// wrap ErrBadPicture.
func Decode(data []byte, limits PictureLimits) (image.Image, error) {
	img, _, err := decode(data, limits)
	return img, err
}

func decode(data []byte, limits PictureLimits) (image.Image, PictureInfo, error) {
	info, c, err := measure(data, limits)
	if err != nil {
		return nil, PictureInfo{}, err
	}
	img, err := c.decode(data)
	if err != nil {
		return nil, PictureInfo{}, fmt.Errorf("%w: decode %s of %d bytes: %w", ErrBadPicture, c.format, len(data), err)
	}
	return img, info, nil
}

func measure(data []byte, limits PictureLimits) (PictureInfo, codec, error) {
	maxPixels := limits.MaxPixels
	if maxPixels == 0 {
		maxPixels = DefaultMaxPixels
	}
	for _, c := range codecs {
		if !bytes.HasPrefix(data, []byte(c.magic)) {
			continue
		}
		cfg, err := c.config(data)
		if err != nil {
			return PictureInfo{}, c, fmt.Errorf("%w: header of a %s of %d bytes: %w", ErrBadPicture, c.format, len(data), err)
		}
		if cfg.Width <= 0 || cfg.Height <= 0 || int64(cfg.Width) > maxPixels/int64(cfg.Height) {
			return PictureInfo{}, c, fmt.Errorf("%w: a %s of %d bytes claims %d x %d, over %d pixels", ErrBadPicture, c.format, len(data), cfg.Width, cfg.Height, maxPixels)
		}
		if fault := foreign(c, data, cfg); fault != "" {
			return PictureInfo{}, c, fmt.Errorf("%w: a %s of %d bytes %s; convert it to one picture of 8-bit RGB", ErrBadPicture, c.format, len(data), fault)
		}
		return PictureInfo{Width: cfg.Width, Height: cfg.Height, Format: c.format}, c, nil
	}
	return PictureInfo{}, codec{}, fmt.Errorf("%w: %d bytes are neither PNG nor JPEG", ErrBadPicture, len(data))
}

// foreign says what other programs would show of a picture but not what this one would, or "". A CMYK
// picture without its colour profile, the first frame of many and 16 bits cut to 8 are each another
// picture than the one its owner scored.
func foreign(c codec, data []byte, cfg image.Config) string {
	switch cfg.ColorModel {
	case color.CMYKModel:
		return "is in CMYK"
	case color.RGBA64Model, color.NRGBA64Model, color.Gray16Model:
		return "has 16 bits a channel"
	}
	if c.format == "png" && animated(data[len(c.magic):]) {
		return "is animated"
	}
	return ""
}

// animated says whether the chunks of a PNG hold an animation control chunk, which stands before the
// pixels (PNG, third edition, section 11.3.6.1).
func animated(chunks []byte) bool {
	const around = 4 + 4 + 4 // length, name, checksum
	for len(chunks) >= around {
		switch string(chunks[4:8]) {
		case "acTL":
			return true
		case "IDAT":
			return false
		}
		next := around + int64(binary.BigEndian.Uint32(chunks))
		if next > int64(len(chunks)) {
			return false
		}
		chunks = chunks[next:]
	}
	return false
}

// black stops at the first pixels that show something, so that ordinary pictures cost next to nothing.
func black(img image.Image) bool {
	const nearly = 16 << 8 // of 65535 in a channel: JPEG does not keep black exact
	px, ok := img.(image.RGBA64Image)
	if !ok {
		return false
	}
	b := img.Bounds()
	allowed := b.Dx() * b.Dy() / 1000
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			if c := px.RGBA64At(x, y); c.R > nearly || c.G > nearly || c.B > nearly {
				if allowed--; allowed < 0 {
					return false
				}
			}
		}
	}
	return true
}
