package train

import (
	"math"
	"math/rand/v2"

	"github.com/promptmill/promptmill/model/onnx/build"
)

// A network is a graph that grows by layers. Parameters begin at random numbers of its generator, so that the order of
// the layers is part of what a seed means.
type network struct {
	*build.Builder
	rng *rand.Rand
}

func newNetwork(seed uint64) *network {
	return &network{build.New(), rand.New(rand.NewPCG(seed, 0x6e6574))} // "net"
}

func elements(dims []int64) int64 {
	n := int64(1)
	for _, d := range dims {
		n *= d
	}
	return n
}

// normal is a parameter of normal numbers.
func (n *network) normal(name string, std float64, dims ...int64) string {
	data := make([]float32, elements(dims))
	for i := range data {
		data[i] = float32(std * n.rng.NormFloat64())
	}
	return n.Param(name, dims, data)
}

// uniform is a parameter of numbers in -bound..bound.
func (n *network) uniform(name string, bound float64, dims ...int64) string {
	data := make([]float32, elements(dims))
	for i := range data {
		data[i] = float32(bound * (2*n.rng.Float64() - 1))
	}
	return n.Param(name, dims, data)
}

// filled is a parameter of equal numbers.
func (n *network) filled(name string, value float32, dims ...int64) string {
	data := make([]float32, elements(dims))
	for i := range data {
		data[i] = value
	}
	return n.Param(name, dims, data)
}

func (n *network) add(x, y string) string { return n.Op("Add", []string{x, y}) }
func (n *network) mul(x, y string) string { return n.Op("Mul", []string{x, y}) }

func (n *network) matMul(x, y string) string { return n.Op("MatMul", []string{x, y}) }

// reshape takes 0 for a dimension as it is and -1 for what is left.
func (n *network) reshape(x string, dims ...int64) string {
	return n.Op("Reshape", []string{x, n.Ints(dims...)})
}

func (n *network) transpose(x string, perm ...int64) string {
	return n.Op("Transpose", []string{x}, build.Ints("perm", perm...))
}

// matrix multiplies the last dimension of x, of size in, by a parameter. It begins as PyTorch's layers do.
func (n *network) matrix(name, x string, in, out int64) string {
	return n.matMul(x, n.uniform(name+".weight", 1/math.Sqrt(float64(in)), in, out))
}

// linear is matrix and a bias.
func (n *network) linear(name, x string, in, out int64) string {
	return n.add(n.matrix(name, x, in, out), n.uniform(name+".bias", 1/math.Sqrt(float64(in)), out))
}

func (n *network) silu(x string) string { return n.mul(x, n.Op("Sigmoid", []string{x})) }

const normEpsilon = 1e-5

// norm is a layer normalization of the last dimension, of the width of the text, with scale and bias.
func (n *network) norm(name, x string) string {
	scale, bias := n.filled(name+".weight", 1, textWidth), n.filled(name+".bias", 0, textWidth)
	return n.Op("LayerNormalization", []string{x, scale, bias}, build.Int("axis", -1), build.Float("epsilon", normEpsilon))
}

// plainNorm is norm without parameters.
func (n *network) plainNorm(x string, d int64) string {
	ones := make([]float32, d)
	for i := range ones {
		ones[i] = 1
	}
	return n.Op("LayerNormalization", []string{x, n.Floats(ones...)}, build.Int("axis", -1), build.Float("epsilon", normEpsilon))
}

// feedForward is two layers with four times the width between.
func (n *network) feedForward(name, x string, d int64) string {
	return n.linear(name+".out", n.silu(n.linear(name+".in", x, d, 4*d)), 4*d, d)
}

// heads turns [b,length,d] into [b,heads,length,d/heads].
func (n *network) heads(x string, length, d, heads int64) string {
	return n.transpose(n.reshape(x, 0, length, heads, d/heads), 0, 2, 1, 3)
}

// attend is attention without a mask: q is [b,heads,length,d/heads], k and v have lengths of their own. It gives
// [b,length,d].
func (n *network) attend(q, k, v string, length, d, heads int64) string {
	scale := n.Scalar(float32(1 / math.Sqrt(float64(d/heads))))
	scores := n.matMul(n.mul(q, scale), n.transpose(k, 0, 1, 3, 2))
	mixed := n.matMul(n.Op("Softmax", []string{scores}, build.Int("axis", -1)), v)
	return n.reshape(n.transpose(mixed, 0, 2, 1, 3), 0, length, d)
}

// selfAttention is attention of x, [b,length,d], to itself.
func (n *network) selfAttention(name, x string, length, d, heads int64) string {
	qkv := n.Ops("Split", 3, []string{n.linear(name+".qkv", x, d, 3*d), n.Ints(d, d, d)}, build.Int("axis", -1))
	for i := range qkv {
		qkv[i] = n.heads(qkv[i], length, d, heads)
	}
	return n.linear(name+".out", n.attend(qkv[0], qkv[1], qkv[2], length, d, heads), d, d)
}
