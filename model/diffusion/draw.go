package diffusion

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/draw"
	"image/png"
	"math"
	"sync"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/diffusion/scheduler"
	"github.com/promptmill/promptmill/model/onnx"
	"github.com/promptmill/promptmill/model/onnx/onnxfile"
)

// draw draws the pictures of a batch.
func (p *Pipeline) draw(ctx context.Context, key batchKey, reqs []model.ImageRequest) ([]model.ImageResponse, error) {
	texts := make([]string, len(reqs))
	for i, r := range reqs {
		texts[i] = r.Prompt
	}
	states, err := p.encode(ctx, texts)
	if err != nil {
		return nil, err
	}
	if key.guided {
		negative, err := p.negative(ctx, reqs)
		if err != nil {
			return nil, err
		}
		states = append(negative, states...)
	}
	latents, err := p.denoise(ctx, key, reqs, states)
	if err != nil {
		return nil, err
	}
	out := make([]model.ImageResponse, len(reqs))
	size := len(latents) / len(reqs)
	for i := range reqs {
		// One at a time: a large picture's decoder needs more memory than its denoiser.
		if out[i], err = p.decode(ctx, key, latents[i*size:(i+1)*size]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// encode gives the hidden states of each text, one after the other.
func (p *Pipeline) encode(ctx context.Context, texts []string) ([]float32, error) {
	ids := make([]int64, 0, len(texts)*p.tokens)
	for _, text := range texts {
		window, _ := p.tokenizer.Window(text, p.tokens)
		for _, id := range window {
			ids = append(ids, int64(id))
		}
	}
	in, err := onnx.Integers(p.text.Inputs()[0].Type, ids, int64(len(texts)), int64(p.tokens))
	if err != nil {
		return nil, err
	}
	defer in.Close()
	out, err := p.text.Run(ctx, []*onnx.Tensor{in})
	if err != nil {
		return nil, err
	}
	defer onnx.CloseAll(out)
	states := onnx.Data[float32](out[p.states])
	return append(make([]float32, 0, len(states)), states...), nil
}

// kept bounds the negative prompts that are remembered; a run has one or two.
const kept = 16

// negative gives the hidden states of each request's negative prompt, one after the other.
func (p *Pipeline) negative(ctx context.Context, reqs []model.ImageRequest) ([]float32, error) {
	var all []float32
	for _, r := range reqs {
		p.mu.Lock()
		states := p.negatives[r.NegativePrompt]
		p.mu.Unlock()
		if states == nil {
			var err error
			if states, err = p.encode(ctx, []string{r.NegativePrompt}); err != nil {
				return nil, err
			}
			p.mu.Lock()
			if len(p.negatives) == kept {
				clear(p.negatives)
			}
			p.negatives[r.NegativePrompt] = states
			p.mu.Unlock()
		}
		all = append(all, states...)
	}
	return all, nil
}

// denoise walks each picture's noise to its latents. With guidance, states holds the negative prompts' first.
func (p *Pipeline) denoise(ctx context.Context, key batchKey, reqs []model.ImageRequest, states []float32) ([]float32, error) {
	schedule, err := p.schedule(key.scheduler, key.steps)
	if err != nil {
		return nil, err
	}
	h, w := int64(key.height/p.side), int64(key.width/p.side)
	size := int(p.channels * h * w)
	n := len(reqs)
	latents := make([]float32, n*size)
	walks, sources := make([]scheduler.Scheduler, n), make([]*source, n)
	for i, r := range reqs {
		walks[i], sources[i] = schedule.Start(), newSource(r.Seed)
		sample := latents[i*size : (i+1)*size]
		sources[i].normal(sample)
		for j := range sample {
			sample[j] *= schedule.InitNoiseSigma()
		}
	}
	rows := n
	if key.guided {
		rows = 2 * n
	}
	scaled, predicted := make([]float32, rows*size), make([]float32, rows*size)
	in := make([]*onnx.Tensor, 3)
	if in[p.sample], err = onnx.NewTensor(scaled, int64(rows), p.channels, h, w); err != nil {
		return nil, err
	}
	if in[p.embedding], err = onnx.NewTensor(states, int64(rows), int64(p.tokens), int64(len(states)/rows/p.tokens)); err != nil {
		return nil, err
	}
	result, err := onnx.NewTensor(predicted, int64(rows), p.channels, h, w)
	if err != nil {
		return nil, err
	}
	defer func() { onnx.CloseAll(in); result.Close() }()
	for step, t := range schedule.Timesteps() {
		for i, walk := range walks {
			x := scaled[(rows-n+i)*size : (rows-n+i+1)*size]
			copy(x, latents[i*size:])
			walk.ScaleInput(x, step)
			copy(scaled[i*size:], x)
		}
		in[p.timestep].Close()
		if in[p.timestep], err = p.time(t, rows); err != nil {
			return nil, err
		}
		if err := p.unet.RunInto(ctx, in, []*onnx.Tensor{result}); err != nil {
			return nil, err
		}
		for i, walk := range walks {
			noise := predicted[i*size : (i+1)*size]
			if key.guided {
				guide(noise, predicted[(n+i)*size:(n+i+1)*size], float32(reqs[i].Guidance))
			}
			walk.Step(noise, step, latents[i*size:(i+1)*size], func() []float32 {
				fresh := make([]float32, size)
				sources[i].normal(fresh)
				return fresh
			})
		}
	}
	return latents, nil
}

// guide is classifier-free guidance (Ho and Salimans 2022, arXiv:2207.12598, in diffusers' form): it moves the
// prediction without the text away from itself towards the one with it.
func guide(without, with []float32, scale float32) {
	for i, u := range without {
		without[i] = u + scale*(with[i]-u)
	}
}

// time is the timestep as the denoiser takes it: a number, or one for each row.
func (p *Pipeline) time(t float64, rows int) (*onnx.Tensor, error) {
	port := p.unet.Inputs()[p.timestep]
	var shape []int64
	if port.Shape != nil && len(port.Shape.Dims) == 1 {
		if port.Shape.Dims[0].Size == 1 {
			rows = 1
		}
		shape = []int64{int64(rows)}
	} else {
		rows = 1
	}
	if port.Type == onnxfile.Int64 {
		all := make([]int64, rows)
		for i := range all {
			all[i] = int64(t)
		}
		return onnx.NewTensor(all, shape...)
	}
	all := make([]float32, rows)
	for i := range all {
		all[i] = float32(t)
	}
	return onnx.NewTensor(all, shape...)
}

// encoder keeps its buffers, which are larger than a small picture.
var encoder = png.Encoder{BufferPool: new(buffers)}

type buffers struct{ pool sync.Pool }

func (b *buffers) Get() *png.EncoderBuffer {
	e, _ := b.pool.Get().(*png.EncoderBuffer)
	return e
}

func (b *buffers) Put(e *png.EncoderBuffer) { b.pool.Put(e) }

// decode makes a PNG of one picture's latents: a black one if the safety checker finds against it, as diffusers does.
func (p *Pipeline) decode(ctx context.Context, key batchKey, latents []float32) (model.ImageResponse, error) {
	none := model.ImageResponse{}
	scaled := make([]float32, len(latents))
	for i, v := range latents {
		scaled[i] = v/p.scale + p.shift
	}
	in, err := onnx.NewTensor(scaled, 1, p.channels, int64(key.height/p.side), int64(key.width/p.side))
	if err != nil {
		return none, err
	}
	defer in.Close()
	out, err := p.decoder.Run(ctx, []*onnx.Tensor{in})
	if err != nil {
		return none, err
	}
	defer onnx.CloseAll(out)
	pixels := onnx.Data[float32](out[0])
	if len(pixels) != 3*key.width*key.height {
		return none, fmt.Errorf("vae_decoder gave %v for a picture of %dx%d", out[0], key.width, key.height)
	}
	img := picture(pixels, key.width, key.height)
	flagged, err := p.safety.flags(ctx, img, pixels)
	if err != nil {
		return none, err
	}
	if flagged {
		draw.Draw(img, img.Bounds(), image.Black, image.Point{}, draw.Src)
	}
	var b bytes.Buffer
	if err := encoder.Encode(&b, img); err != nil {
		return none, err
	}
	return model.ImageResponse{Data: b.Bytes(), Flagged: flagged, Usage: model.Usage{Calls: 1, Device: p.unet.Ran()}}, nil
}

// picture rounds planes of -1..1 to 8 bits as diffusers' VaeImageProcessor does; what is not a number becomes black
// there too, and is found as a black picture later.
func picture(planes []float32, width, height int) *image.NRGBA {
	img := image.NewNRGBA(image.Rect(0, 0, width, height))
	plane := width * height
	for i := range plane {
		for c := range 3 {
			if v := planes[c*plane+i]; v == v {
				img.Pix[4*i+c] = uint8(math.RoundToEven(float64(min(max(v/2+.5, 0), 1) * 255)))
			}
		}
		img.Pix[4*i+3] = 255
	}
	return img
}
