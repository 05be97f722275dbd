package train

import (
	"errors"
	"math"
	"math/rand/v2"

	"github.com/promptmill/promptmill/model/onnx"
)

// A batch is the memory of one step's inputs, by name.
type batch struct {
	feeds map[string]*onnx.Tensor
	err   error
}

// input adds an input and returns its memory.
func input[E onnx.Element](b *batch, name string, dims ...int64) []E {
	data := make([]E, elements(dims))
	t, err := onnx.NewTensor(data, dims...)
	b.feeds[name], b.err = t, errors.Join(b.err, err)
	return data
}

func (b *batch) close() {
	for _, t := range b.feeds {
		t.Close()
	}
}

// textBatch are captions, and what the renderer is told of them.
type textBatch struct {
	batch
	ids, category  []int64
	numbers, known []float32
}

func newTextBatch(texts int) (*textBatch, error) {
	n := int64(texts)
	b := &textBatch{batch: batch{feeds: map[string]*onnx.Tensor{}}}
	b.ids, b.category = input[int64](&b.batch, "input_ids", n, TextLength), input[int64](&b.batch, "category", n)
	b.numbers, b.known = input[float32](&b.batch, "numbers", n, toldNumbers), input[float32](&b.batch, "known", n, toldNumbers)
	if b.err != nil {
		b.close()
		return nil, b.err
	}
	return b, nil
}

// put makes a caption text i; nil is no text.
func (b *textBatch) put(i int, g *gallery, e *example) {
	ids := g.empty
	if e != nil {
		ids = e.ids
	}
	for j, id := range ids {
		b.ids[i*TextLength+j] = int64(id)
	}
	numbers, known := b.numbers[i*int(toldNumbers):][:toldNumbers], b.known[i*int(toldNumbers):][:toldNumbers]
	if e == nil {
		b.category[i] = unknown
		clear(known)
		return
	}
	b.category[i] = e.category
	for j := range numbers {
		numbers[j], known[j] = (e.told[j]-g.mean[j])/g.deviation[j], 1
	}
	if !e.hue {
		known[0], known[1] = 0, 0
	}
}

// draw makes the inputs of a step: a function of the seed and the step alone, so that a run can go on in its middle.
func (b *textBatch) draw(c T2IConfig, g *gallery, step int64) {
	rng := rand.New(rand.NewPCG(c.Seed, 2<<32+uint64(step)))
	for i := range c.TextBatch {
		b.put(i, g, g.text(rng.IntN(c.Pictures)))
	}
}

// pictureBatch are captions and their pictures with noise.
type pictureBatch struct {
	textBatch
	timestep               []int64
	sample, target, weight []float32
}

func newPictureBatch(c T2IConfig) (*pictureBatch, error) {
	texts, err := newTextBatch(c.Texts)
	if err != nil {
		return nil, err
	}
	n := int64(c.Texts * c.Times)
	b := &pictureBatch{textBatch: *texts}
	b.timestep, b.weight = input[int64](&b.batch, "timestep", n), input[float32](&b.batch, "weight", n, 1, 1, 1)
	b.sample = input[float32](&b.batch, "sample", n, channels, grid, grid)
	b.target = input[float32](&b.batch, "target", n, channels, grid, grid)
	if b.err != nil {
		b.close()
		return nil, b.err
	}
	return b, nil
}

// draw is as that of textBatch.
func (b *pictureBatch) draw(c T2IConfig, g *gallery, step int64) {
	rng := rand.New(rand.NewPCG(c.Seed, 1<<32+uint64(step)))
	for i := range c.Texts {
		e := g.picture(rng.IntN(c.Pictures))
		if rng.Float64() < c.Dropped {
			b.put(i, g, nil)
		} else {
			b.put(i, g, e)
		}
		for k := range c.Times {
			n := k*c.Texts + i // copies of the texts lie one after the other
			t := rng.IntN(timesteps)
			if rng.Float64() >= c.Uniform {
				t = c.Noisy + rng.IntN(timesteps-c.Noisy)
			}
			b.timestep[n] = int64(t)
			b.weight[n] = float32(math.Pow(1-signal[t], c.Emphasis))
			kept, noise := float32(math.Sqrt(signal[t])), float32(math.Sqrt(1-signal[t]))
			x, v := b.sample[n*latentSize:][:latentSize], b.target[n*latentSize:][:latentSize]
			for j, z := range e.latents {
				r := float32(rng.NormFloat64())
				x[j] = kept*z + noise*r
				v[j] = kept*r - noise*z
			}
		}
	}
}
