package fakeserver

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/png"
	"math/rand/v2"
	"net/http"
)

type imageAnswer struct {
	B64JSON []byte `json:"b64_json"`
}

// generations answers POST /v1/images/generations.
func generations(c Config, body []byte, f Fault) ([]byte, error) {
	q := struct {
		Prompt   *string `json:"prompt"`
		Negative string  `json:"negative_prompt"`
		Size     string  `json:"size"`
		N        *int    `json:"n"`
		Steps    int     `json:"num_inference_steps"`
		Guidance float64 `json:"guidance_scale"`
		Seed     *int64  `json:"seed"`
	}{Size: "512x512"}
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, err
	}
	var w, h int
	if _, err := fmt.Sscanf(q.Size, "%dx%d", &w, &h); err != nil || q.Prompt == nil {
		return nil, &refusal{http.StatusBadRequest, "prompt and a size such as 512x512 are required"}
	}
	n := 1
	if q.N != nil {
		n = *q.N
	}
	seed := int64(42)
	if q.Seed != nil && !c.NoSeed {
		seed = *q.Seed
	}
	data := make([]imageAnswer, 0, n)
	for i := range n {
		p, err := draw(c, f, w, h, "%q %q %d %g %d", *q.Prompt, q.Negative, q.Steps, q.Guidance, seed+int64(i))
		if err != nil {
			return nil, err
		}
		data = append(data, imageAnswer{p})
	}
	if f == Empty {
		data = data[:0]
	}
	return json.Marshal(map[string]any{"created": 1700000000, "data": data})
}

// txt2img answers POST /sdapi/v1/txt2img.
func txt2img(c Config, body []byte, f Fault) ([]byte, error) {
	q := struct {
		Prompt    string  `json:"prompt"`
		Negative  string  `json:"negative_prompt"`
		Seed      int64   `json:"seed"`
		Sampler   string  `json:"sampler_name"`
		Steps     int     `json:"steps"`
		CFG       float64 `json:"cfg_scale"`
		Width     int     `json:"width"`
		Height    int     `json:"height"`
		BatchSize int     `json:"batch_size"`
	}{Seed: -1, Width: 512, Height: 512, BatchSize: 1}
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, err
	}
	switch q.Sampler {
	case "", "PLMS", "DDIM", "Euler", "Euler a", "DPM++ 2M":
	default:
		return nil, &refusal{http.StatusNotFound, "Sampler not found"}
	}
	seed := q.Seed
	if c.NoSeed {
		seed = 42
	}
	images := make([][]byte, 0, q.BatchSize)
	for i := range q.BatchSize {
		p, err := draw(c, f, q.Width, q.Height, "%q %q %s %d %g %d", q.Prompt, q.Negative, q.Sampler, q.Steps, q.CFG, seed+int64(i))
		if err != nil {
			return nil, err
		}
		images = append(images, p)
	}
	if f == Empty {
		images = images[:0]
	}
	info := ""
	if !c.EmptyInfo {
		b, err := json.Marshal(map[string]any{"prompt": q.Prompt, "seed": seed, "width": q.Width, "height": q.Height, "sampler_name": q.Sampler})
		if err != nil {
			return nil, err
		}
		info = string(b)
	}
	return json.Marshal(map[string]any{"images": images, "parameters": map[string]any{}, "info": info})
}

// draw makes the PNG that what says, with coarse blocks of colour: cheap to encode, and different for
// different requests.
func draw(c Config, f Fault, w, h int, format string, what ...any) ([]byte, error) {
	if c.AnySize {
		w, h = 64, 64
	}
	if w < 1 || h < 1 || w > 4096 || h > 4096 {
		return nil, &refusal{http.StatusBadRequest, fmt.Sprintf("size %dx%d is not supported", w, h)}
	}
	rng := rand.New(rand.NewChaCha8(sha256.Sum256(fmt.Appendf(nil, format, what...))))
	palette := make(color.Palette, 16)
	for i := range palette {
		v := rng.Uint32()
		palette[i] = color.RGBA{uint8(v) | 0x20, uint8(v>>8) | 0x20, uint8(v >> 16), 0xff}
	}
	if f == Black {
		palette = color.Palette{color.Black}
	}
	img := image.NewPaletted(image.Rect(0, 0, w, h), palette)
	block := max(w/8, 1)
	for y := 0; y < h; y++ {
		row := img.Pix[y*img.Stride : y*img.Stride+w]
		if y%block != 0 {
			copy(row, img.Pix[(y-1)*img.Stride:])
			continue
		}
		for x := 0; x < w; x += block {
			v := uint8(rng.IntN(len(palette)))
			for i := x; i < min(x+block, w); i++ {
				row[i] = v
			}
		}
	}
	var b bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestSpeed}).Encode(&b, img); err != nil {
		return nil, err
	}
	data := b.Bytes()
	switch f {
	case Damaged:
		data = data[:20]
	case Bomb:
		const header = 8 + 4 // signature, length of IHDR
		binary.BigEndian.PutUint32(data[header+4:], 40000)
		binary.BigEndian.PutUint32(data[header+8:], 40000)
		binary.BigEndian.PutUint32(data[header+17:], crc32.ChecksumIEEE(data[header:header+17]))
	}
	return data, nil
}
