package train

import (
	"math"
	"strconv"

	"github.com/promptmill/promptmill/model/onnx/build"
	"github.com/promptmill/promptmill/model/onnx/onnxfile"
	"github.com/promptmill/promptmill/model/scene"
)

// The text-to-image model: a transformer over the 16 positions of the latents that sees the text in every block.
const (
	textWidth     = 128
	textHeads     = 4
	textBlocks    = 2
	pictureWidth  = 128
	pictureHeads  = 4
	pictureBlocks = 4
	// textPools is how many weighted means of the text join the time.
	textPools = 4
	// frequencies of the time's sines and cosines.
	frequencies = 32
	modulations = 6
)

// timesteps is how many steps there are between picture and noise.
const timesteps = 1000

// signal is the share of the picture's variance that is left at each timestep: Stable Diffusion's noise schedule,
// whose betas are the squares of a line from .00085 to .012 under the root.
var signal = func() (a [timesteps]float64) {
	left := 1.0
	for t := range a {
		low, high := math.Sqrt(.00085), math.Sqrt(.012)
		beta := low + (high-low)*float64(t)/(timesteps-1)
		left *= 1 - beta*beta
		a[t] = left
	}
	return a
}()

// textEncoder turns ids [b,48] into [b,48,128].
func (n *network) textEncoder(ids string) string {
	x := n.Op("Gather", []string{n.normal("text.token", .3, Vocabulary, textWidth), ids})
	x = n.add(x, n.normal("text.position", .05, TextLength, textWidth))
	for i := range textBlocks {
		name := "text.block" + strconv.Itoa(i)
		x = n.add(x, n.selfAttention(name+".attention", n.norm(name+".norm1", x), TextLength, textWidth, textHeads))
		x = n.add(x, n.feedForward(name+".mlp", n.norm(name+".norm2", x), textWidth))
	}
	return n.norm("text.norm", x)
}

// first is the text's first vector, that of <bos>: [b,128].
func (n *network) first(text string) string {
	return n.Op("Gather", []string{text, n.Index(0)}, build.Int("axis", 1))
}

// told is the loss of a layer that says from the first vector what the renderer was told: the cross-entropy of the
// category and the mean square error of the other numbers, where known is 1. Text encoders of published models come from
// pictures with captions, hundreds of millions of them; this one gets its start from here, and no file has the layer.
func (n *network) told(text, category, numbers, known string) string {
	said := n.Ops("Split", 2, []string{n.linear("told", n.first(text), textWidth, scene.Categories+toldNumbers), n.Ints(scene.Categories, toldNumbers)}, build.Int("axis", -1))
	kind := n.Op("SoftmaxCrossEntropyLoss", []string{said[0], category}, build.Int("ignore_index", unknown), build.String("reduction", "mean"))
	off := n.mul(n.Op("Sub", []string{said[1], numbers}), known)
	rest := n.Op("ReduceMean", []string{n.mul(off, off)}, build.Int("keepdims", 0))
	return n.reshape(n.add(kind, rest), 1)
}

// denoiser predicts v = sqrt(a) noise - sqrt(1-a) picture (Salimans and Ho 2022) from latents [b,48,4,4], timesteps and
// texts. There may be one timestep for all and, in training, several samples for a text: times says how many; sample i
// is of text i modulo their number.
func (n *network) denoiser(sample, timestep, text string, times int) string {
	const d = pictureWidth
	h := n.transpose(n.reshape(sample, 0, channels, positions), 0, 2, 1)
	h = n.add(n.linear("unet.in", h, channels, d), n.normal("unet.position", .1, positions, d))

	hidden := n.silu(n.add(n.time(timestep), n.repeat(n.pooled(text), times)))
	m := n.add(n.matMul(hidden, n.normal("unet.modulation.weight", .02, d, modulations*d)), n.filled("unet.modulation.bias", 0, modulations*d))
	m = n.reshape(m, 0, modulations, d)
	for i := range pictureBlocks {
		h = n.pictureBlock("unet.block"+strconv.Itoa(i), h, m, text, times)
	}
	last := n.Ops("Split", 2, []string{n.reshape(n.linear("unet.last", hidden, d, 2*d), 0, 2, d), n.Ints(1, 1)}, build.Int("axis", 1))
	h = n.modulate(n.plainNorm(h, d), last[0], last[1])
	h = n.add(n.matMul(h, n.filled("unet.out.weight", 0, d, channels)), n.filled("unet.out.bias", 0, channels))
	return n.reshape(n.transpose(h, 0, 2, 1), 0, channels, grid, grid)
}

// time is the embedding of timesteps: sines and cosines, and two layers.
func (n *network) time(timestep string) string {
	rates := make([]float32, frequencies)
	for i := range rates {
		rates[i] = float32(math.Exp(-math.Log(10000) * float64(i) / frequencies))
	}
	t := n.reshape(n.Op("Cast", []string{timestep}, build.Int("to", int64(onnxfile.Float))), -1, 1)
	t = n.mul(t, n.Floats(rates...))
	t = n.Op("Concat", []string{n.Op("Sin", []string{t}), n.Op("Cos", []string{t})}, build.Int("axis", -1))
	t = n.silu(n.linear("unet.time1", t, 2*frequencies, pictureWidth))
	return n.linear("unet.time2", t, pictureWidth, pictureWidth)
}

// pooled is the text as one vector: its first one, means by learned weights, and two layers.
func (n *network) pooled(text string) string {
	weight := n.Op("Softmax", []string{n.transpose(n.matrix("unet.pool", text, textWidth, textPools), 0, 2, 1)}, build.Int("axis", -1))
	p := n.reshape(n.matMul(weight, text), 0, textPools*textWidth)
	p = n.Op("Concat", []string{n.first(text), p}, build.Int("axis", -1))
	p = n.silu(n.linear("unet.text1", p, (1+textPools)*textWidth, pictureWidth))
	return n.linear("unet.text2", p, pictureWidth, pictureWidth)
}

// pictureBlock is attention among positions, to the text, and a feed-forward layer. The first and the last are modulated
// by m and a table of the block's own (PixArt-alpha's shared adaptive normalization, Chen et al. 2023).
func (n *network) pictureBlock(name, h, m, text string, times int) string {
	const d = pictureWidth
	table := make([]float32, modulations*d)
	for i := range d {
		table[2*d+i], table[5*d+i] = .3, .3 // the gates begin ajar
	}
	ones := n.Ints(1, 1, 1, 1, 1, 1)
	a := n.Ops("Split", modulations, []string{n.add(m, n.Param(name+".table", []int64{modulations, d}, table)), ones}, build.Int("axis", 1))

	x := n.modulate(n.plainNorm(h, d), a[0], a[1])
	h = n.add(h, n.mul(n.selfAttention(name+".attention", x, positions, d, pictureHeads), a[2]))

	q := n.heads(n.linear(name+".cross.q", n.norm(name+".cross.norm", h), d, d), positions, d, pictureHeads)
	kv := n.Ops("Split", 2, []string{n.linear(name+".cross.kv", text, textWidth, 2*d), n.Ints(d, d)}, build.Int("axis", -1))
	for i := range kv { // repeated last: they are worked out once for each text
		kv[i] = n.repeat(n.heads(kv[i], TextLength, d, pictureHeads), times)
	}
	h = n.add(h, n.linear(name+".cross.out", n.attend(q, kv[0], kv[1], positions, d, pictureHeads), d, d))

	x = n.modulate(n.plainNorm(h, d), a[3], a[4])
	return n.add(h, n.mul(n.feedForward(name+".mlp", x, d), a[5]))
}

// modulate scales by 1 + scale and shifts.
func (n *network) modulate(x, scale, shift string) string {
	return n.add(n.mul(x, n.add(scale, n.Scalar(1))), shift)
}

// repeat puts copies of x one after the other along the first dimension.
func (n *network) repeat(x string, times int) string {
	if times == 1 {
		return x
	}
	copies := make([]string, times)
	for i := range copies {
		copies[i] = x
	}
	return n.Op("Concat", copies, build.Int("axis", 0))
}

// toldNumbers is how many numbers the renderer is told beside the category: hue as sine and cosine, opacity and style.
const toldNumbers int64 = 3 + int64(len(scene.Style{}))

// toldShare is the weight of told beside the noise.
const toldShare = .02

// unknown is the category of a text that is left out of the loss.
const unknown = -1

// toldInputs adds the inputs that told takes.
func (n *network) toldInputs(texts int) (category, numbers, known string) {
	return n.Input("category", onnxfile.Int64, texts),
		n.Input("numbers", onnxfile.Float, texts, int(toldNumbers)),
		n.Input("known", onnxfile.Float, texts, int(toldNumbers))
}

// textTrainingGraph is the text encoder alone, with the loss of what the renderer was told.
func textTrainingGraph(seed uint64, texts int) *onnxfile.Model {
	n := newNetwork(seed)
	ids := n.Input("input_ids", onnxfile.Int64, texts, TextLength)
	category, numbers, known := n.toldInputs(texts)
	n.Output("loss", n.told(n.textEncoder(ids), category, numbers, known), onnxfile.Float, 1)
	return n.Model()
}

// trainingGraph is the whole model: noise is the mean square error of v, weighted by sample, and loss adds a little of told,
// so that the text encoder does not forget.
func trainingGraph(seed uint64, texts, times int) *onnxfile.Model {
	n := newNetwork(seed)
	b := texts * times
	ids := n.Input("input_ids", onnxfile.Int64, texts, TextLength)
	category, numbers, known := n.toldInputs(texts)
	sample := n.Input("sample", onnxfile.Float, b, channels, grid, grid)
	timestep := n.Input("timestep", onnxfile.Int64, b)
	target := n.Input("target", onnxfile.Float, b, channels, grid, grid)
	weight := n.Input("weight", onnxfile.Float, b, 1, 1, 1)
	text := n.textEncoder(ids)
	off := n.Op("Sub", []string{n.denoiser(sample, timestep, text, times), target})
	noise := n.reshape(n.Op("ReduceMean", []string{n.mul(n.mul(off, off), weight)}, build.Int("keepdims", 0)), 1)
	told := n.told(text, category, numbers, known)
	n.Output("noise", noise, onnxfile.Float, 1)
	n.Output("told", told, onnxfile.Float, 1)
	n.Output("loss", n.add(noise, n.mul(told, n.Floats(toldShare))), onnxfile.Float, 1)
	return n.Model()
}

// textEncoderGraph is text_encoder/model.onnx.
func textEncoderGraph() *onnxfile.Model {
	n := newNetwork(0)
	ids := n.Input("input_ids", onnxfile.Int64, "batch", TextLength)
	n.Output("last_hidden_state", n.textEncoder(ids), onnxfile.Float, "batch", TextLength, textWidth)
	return n.Model()
}

// unetGraph is unet/model.onnx: it gives the noise, sqrt(1-a) x + sqrt(a) v, as samplers expect.
func unetGraph() *onnxfile.Model {
	n := newNetwork(0)
	sample := n.Input("sample", onnxfile.Float, "batch", channels, grid, grid)
	timestep := n.Input("timestep", onnxfile.Int64, "steps")
	text := n.Input("encoder_hidden_states", onnxfile.Float, "batch", TextLength, textWidth)
	v := n.denoiser(sample, timestep, text, 1)
	kept, noise := make([]float32, timesteps), make([]float32, timesteps)
	for t, a := range signal {
		kept[t], noise[t] = float32(math.Sqrt(a)), float32(math.Sqrt(1-a))
	}
	at := func(table []float32) string {
		return n.reshape(n.Op("Gather", []string{n.Floats(table...), timestep}), -1, 1, 1, 1)
	}
	n.Output("out_sample", n.add(n.mul(at(noise), sample), n.mul(at(kept), v)), onnxfile.Float, "batch", channels, grid, grid)
	return n.Model()
}

// decoderGraph is vae_decoder/model.onnx: latents, already divided by latentScale, to pixels in -1..1.
func decoderGraph(c *Codec) *onnxfile.Model {
	n := newNetwork(0)
	z := n.Input("latent_sample", onnxfile.Float, "batch", channels, grid, grid)
	mean, decode := make([]float32, patchSize), make([]float32, channels*patchSize)
	for i, m := range c.Mean { // 0..1 becomes -1..1
		mean[i] = 2*m - 1
	}
	for i, w := range c.Decode {
		decode[i] = 2 * w
	}
	x := n.transpose(n.reshape(z, 0, channels, positions), 0, 2, 1)
	x = n.add(n.matMul(x, n.Param("decoder.weight", []int64{channels, patchSize}, decode)), n.Param("decoder.bias", []int64{patchSize}, mean))
	x = n.transpose(n.reshape(x, 0, grid, grid, patchSide, patchSide, 3), 0, 5, 1, 3, 2, 4)
	n.Output("sample", n.reshape(x, 0, 3, 32, 32), onnxfile.Float, "batch", 3, 32, 32)
	return n.Model()
}
