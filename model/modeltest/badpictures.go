package modeltest

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/png"
	"slices"
	"testing"
)

// BadPictures are bytes, by what is wrong with them, that are no picture to this system: model.Inspect
// refuses each with ErrBadPicture, and so must whatever takes pictures.
func BadPictures(tb testing.TB) map[string][]byte {
	tb.Helper()
	encode := func(img image.Image) []byte {
		var b bytes.Buffer
		if err := png.Encode(&b, img); err != nil {
			tb.Fatal(err)
		}
		return b.Bytes()
	}
	good := encode(image.NewNRGBA(image.Rect(0, 0, 32, 32)))
	return map[string][]byte{
		"no bytes":        {},
		"HTML":            []byte("<html>not found</html>"),
		"an animated GIF": append([]byte("GIF89a\x01\x00\x01\x00\x00\x00\x00"), "!\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00;"...),
		"a cut PNG":       good[:len(good)-20],
		"40000 x 40000":   header(good, 40000, 40000),
		"an animated PNG": animate(good),
		"a CMYK JPEG":     cmyk,
		"16-bit RGB":      encode(opaque{image.NewNRGBA64(image.Rect(0, 0, 32, 32))}),
		"16-bit RGBA":     encode(image.NewNRGBA64(image.Rect(0, 0, 32, 32))),
		"16-bit grey":     encode(image.NewGray16(image.Rect(0, 0, 32, 32))),
	}
}

// opaque makes the encoder leave the alpha channel out.
type opaque struct{ image.Image }

func (opaque) Opaque() bool { return true }

// headerEnd is where a PNG's first chunk ends: signature, length, name, 13 bytes, checksum.
const headerEnd = 8 + 4 + 4 + 13 + 4

// header makes a PNG claim another size, with a right checksum.
func header(data []byte, w, h uint32) []byte {
	data = bytes.Clone(data)
	binary.BigEndian.PutUint32(data[16:], w)
	binary.BigEndian.PutUint32(data[20:], h)
	binary.BigEndian.PutUint32(data[headerEnd-4:], crc32.ChecksumIEEE(data[12:headerEnd-4]))
	return data
}

// animate puts the chunks of an animation of one frame before a PNG's pixels.
func animate(data []byte) []byte {
	chunk := func(name string, content ...byte) []byte {
		b := binary.BigEndian.AppendUint32(nil, uint32(len(content)))
		b = append(append(b, name...), content...)
		return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[4:]))
	}
	frame := make([]byte, 26)
	copy(frame[4:], data[16:24]) // width and height
	return slices.Concat(data[:headerEnd], chunk("acTL", 0, 0, 0, 1, 0, 0, 0, 0), chunk("fcTL", frame...), data[headerEnd:])
}

// cmyk is a whole baseline JPEG of 8 x 8 pixels in four components, with Adobe's mark: one table of ones, one code for a
// difference of 0 and one for the end of a block, and a block of them for each component.
var cmyk = slices.Concat(
	[]byte("\xff\xd8"),
	[]byte("\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"),
	[]byte("\xff\xdb\x00\x43\x00"), bytes.Repeat([]byte{1}, 64),
	[]byte("\xff\xc0\x00\x14\x08\x00\x08\x00\x08\x04\x01\x11\x00\x02\x11\x00\x03\x11\x00\x04\x11\x00"),
	[]byte("\xff\xc4\x00\x14\x00\x01"), make([]byte, 15), []byte{0},
	[]byte("\xff\xc4\x00\x14\x10\x01"), make([]byte, 15), []byte{0},
	[]byte("\xff\xda\x00\x0e\x04\x01\x00\x02\x00\x03\x00\x04\x00\x00\x3f\x00"),
	[]byte("\x00\xff\xd9"),
)
