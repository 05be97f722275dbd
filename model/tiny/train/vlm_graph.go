package train

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/promptmill/promptmill/model/onnx/build"
	"github.com/promptmill/promptmill/model/onnx/onnxfile"
)

// The shape of the vision-language model.
const (
	vlmWidth      = 144 // of all that flows
	vlmHeads      = 4
	vlmLayers     = 4   // of the decoder
	towerLayers   = 2   // of the vision tower
	towerHidden   = 256 // between a patch and what flows
	pictureTokens = 4   // tokens that a picture becomes
	vlmPositions  = 192 // the longest text, answer included
	vlmBucket     = 32  // prompts are filled to a multiple of it
	vlmPeriod     = 64  // positions this far apart begin alike: prompts of one bucket and of three

	towerPatches = grid * grid
	vlmReach     = vlmWidth / vlmHeads
)

// vlmWeights are the parameters of a model by name, with the values that they begin with.
type vlmWeights map[string]weight

type weight struct {
	dims   []int64
	values []float32
}

// newVLM draws the parameters.
func newVLM(seed uint64) vlmWeights {
	rng := rand.New(rand.NewPCG(seed, 0x766c6d)) // "vlm"
	w := vlmWeights{}
	w.normal(rng, "embed", .05, Vocabulary, vlmWidth)
	w.normal(rng, "position", .02, vlmPositions, vlmWidth)
	w.normal(rng, "period", .1, vlmPeriod, vlmWidth)
	w.separate(rng)

	w.linear(rng, "vision.patch", patchSize, towerHidden)
	w.linear(rng, "vision.widen", towerHidden, vlmWidth)
	w.normal(rng, "vision.position", .1, towerPatches, vlmWidth)
	w.normal(rng, "vision.register", .1, pictureTokens, vlmWidth)
	for i := range towerLayers {
		w.block(rng, fmt.Sprintf("vision.%d", i))
	}
	w.norm("vision.norm")
	w.linear(rng, "vision.project", vlmWidth, vlmWidth)
	w.linear(rng, "vision.statistics", pictureTokens*vlmWidth, Statistics)

	for i := range vlmLayers {
		w.block(rng, fmt.Sprintf("decoder.%d", i))
	}
	w.norm("decoder.norm")
	return w
}

// separate lets the places of the two pictures differ much from the beginning: or the judge gives both the same score.
func (w vlmWeights) separate(rng *rand.Rand) {
	p := w["period"].values
	for picture := range 2 {
		var common [vlmWidth]float32
		for i := range common {
			common[i] = .6 * float32(rng.NormFloat64())
		}
		for k := range pictureTokens {
			row := p[(vlmBucket-1-2*pictureTokens+picture*pictureTokens+k)*vlmWidth:][:vlmWidth]
			for i := range row {
				row[i] = common[i] + .2*float32(rng.NormFloat64())
			}
		}
	}
}

func (w vlmWeights) set(name string, value func() float32, dims ...int64) {
	n := int64(1)
	for _, d := range dims {
		n *= d
	}
	v := make([]float32, n)
	for i := range v {
		v[i] = value()
	}
	w[name] = weight{dims, v}
}

func (w vlmWeights) normal(rng *rand.Rand, name string, deviation float64, dims ...int64) {
	w.set(name, func() float32 { return float32(deviation * rng.NormFloat64()) }, dims...)
}

// linear is drawn as PyTorch draws it.
func (w vlmWeights) linear(rng *rand.Rand, name string, in, out int64) {
	most := 1 / math.Sqrt(float64(in))
	value := func() float32 { return float32(most * (2*rng.Float64() - 1)) }
	w.set(name+".weight", value, in, out)
	w.set(name+".bias", value, out)
}

func (w vlmWeights) norm(name string) {
	w.set(name+".weight", func() float32 { return 1 }, vlmWidth)
	w.set(name+".bias", func() float32 { return 0 }, vlmWidth)
}

func (w vlmWeights) block(rng *rand.Rand, name string) {
	w.norm(name + ".norm1")
	w.linear(rng, name+".qkv", vlmWidth, 3*vlmWidth)
	w.linear(rng, name+".out", vlmWidth, vlmWidth)
	w.norm(name + ".norm2")
	w.linear(rng, name+".up", vlmWidth, 4*vlmWidth)
	w.linear(rng, name+".down", 4*vlmWidth, vlmWidth)
	// What a block adds begins small.
	deviation := .02 / math.Sqrt(2*vlmLayers)
	w.normal(rng, name+".out.weight", deviation, vlmWidth, vlmWidth)
	w.normal(rng, name+".down.weight", deviation, 4*vlmWidth, vlmWidth)
}

// A net builds a graph of these parameters: those that it uses become the graph's.
type net struct {
	*build.Builder
	weights vlmWeights
	used    map[string]bool
}

func newNet(w vlmWeights) *net { return &net{build.New(), w, map[string]bool{}} }

func (n *net) param(name string) string {
	if !n.used[name] {
		n.used[name] = true
		w, ok := n.weights[name]
		if !ok {
			panic("train: no parameter " + name)
		}
		n.Param(name, w.dims, w.values)
	}
	return name
}

func (n *net) op(op string, inputs ...string) string { return n.Op(op, inputs) }

func (n *net) linear(x, name string) string {
	return n.op("Add", n.op("MatMul", x, n.param(name+".weight")), n.param(name+".bias"))
}

func (n *net) norm(x, name string) string {
	return n.Op("LayerNormalization", []string{x, n.param(name + ".weight"), n.param(name + ".bias")}, build.Int("axis", -1), build.Float("epsilon", 1e-5))
}

func (n *net) silu(x string) string { return n.op("Mul", x, n.op("Sigmoid", x)) }

// A cache is what attention keeps of each position: key and value, of shape [batch, heads, positions, reach].
type cache struct{ key, value string }

// block is a transformer's layer with the norm before each part. bias is added to what each position sees of each other;
// "" lets all see all. past comes before what x has; the result includes it.
func (n *net) block(x, name, bias string, past *cache) (string, cache) {
	qkv := n.Ops("Split", 3, []string{n.linear(n.norm(x, name+".norm1"), name+".qkv")}, build.Int("axis", -1))
	for i := range qkv {
		qkv[i] = n.Op("Transpose", []string{n.op("Reshape", qkv[i], n.Ints(0, 0, vlmHeads, vlmReach))}, build.Ints("perm", 0, 2, 1, 3))
	}
	query, now := qkv[0], cache{qkv[1], qkv[2]}
	if past != nil {
		now.key = n.Op("Concat", []string{past.key, now.key}, build.Int("axis", 2))
		now.value = n.Op("Concat", []string{past.value, now.value}, build.Int("axis", 2))
	}
	query = n.op("Mul", query, n.Scalar(float32(1/math.Sqrt(vlmReach))))
	seen := n.op("MatMul", query, n.Op("Transpose", []string{now.key}, build.Ints("perm", 0, 1, 3, 2)))
	if bias != "" {
		seen = n.op("Add", seen, bias)
	}
	y := n.op("MatMul", n.Op("Softmax", []string{seen}, build.Int("axis", -1)), now.value)
	y = n.op("Reshape", n.Op("Transpose", []string{y}, build.Ints("perm", 0, 2, 1, 3)), n.Ints(0, 0, vlmWidth))
	x = n.op("Add", x, n.linear(y, name+".out"))
	y = n.silu(n.linear(n.norm(x, name+".norm2"), name+".up"))
	return n.op("Add", x, n.linear(y, name+".down")), now
}

// tower turns pictures [count, 3, 32, 32], normalized to (v - .5) / .25, into [count, slots, width]: patches and registers look
// at one another, and only the registers go on. shape is a tensor of the result's shape.
func (n *net) tower(pixels, shape string) string {
	x := n.op("Reshape", pixels, n.Ints(-1, 3, grid, patchSide, grid, patchSide))
	x = n.Op("Transpose", []string{x}, build.Ints("perm", 0, 2, 4, 3, 5, 1))
	x = n.op("Reshape", x, n.Ints(-1, towerPatches, patchSize))
	x = n.linear(n.silu(n.linear(x, "vision.patch")), "vision.widen")
	x = n.Op("Concat", []string{n.op("Add", x, n.param("vision.position")), n.op("Expand", n.param("vision.register"), shape)}, build.Int("axis", 1))
	for i := range towerLayers {
		x, _ = n.block(x, fmt.Sprintf("vision.%d", i), "", nil)
	}
	x = n.op("Slice", x, n.Ints(towerPatches), n.Ints(towerPatches+pictureTokens), n.Ints(1))
	return n.norm(x, "vision.norm")
}

// project brings what the tower gives to where words are.
func (n *net) project(x string) string { return n.linear(x, "vision.project") }

// embed is the meaning of tokens.
func (n *net) embed(ids string) string { return n.op("Gather", n.param("embed"), ids) }

// head is what comes next, as logits.
func (n *net) head(x string) string {
	return n.op("MatMul", n.norm(x, "decoder.norm"), n.Op("Transpose", []string{n.param("embed")}, build.Ints("perm", 1, 0)))
}

// causal lets each of length positions see itself and those before.
func (n *net) causal(length int) string {
	v := make([]float32, length*length)
	for i := range length {
		for j := i + 1; j < length; j++ {
			v[i*length+j] = hidden
		}
	}
	return n.Constant(onnxfile.NewFloat32("", []int64{1, 1, int64(length), int64(length)}, v))
}

// hidden is what a position is seen with that must not be seen.
const hidden = -1e9
