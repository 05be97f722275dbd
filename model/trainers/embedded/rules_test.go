package embedded_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/promptmill/promptmill/model/onnx"
	"github.com/promptmill/promptmill/model/onnx/build"
	"github.com/promptmill/promptmill/model/onnx/onnxfile"
	"github.com/promptmill/promptmill/model/trainers/embedded"
)

// needLibrary fails a test where ONNX Runtime is not installed.
func needLibrary(t testing.TB) {
	t.Helper()
	if _, err := onnx.Find(); err != nil {
		t.Fatal(err)
	}
}

// tensor panics on a shape that does not fit: a fault of the test.
func tensor[E onnx.Element](data []E, shape ...int64) *onnx.Tensor {
	t, err := onnx.NewTensor(data, shape...)
	if err != nil {
		panic(err)
	}
	return t
}

// an operator under test: y = op(p, q, ...), each input a parameter of a shape.
type operator struct {
	name   string
	shapes [][]int64
	op     func(b *build.Builder, in []string) string
	// positive parameters are at least .5.
	positive bool
}

func dims(d ...int64) []int64 { return d }

// plain is an operator without attributes.
func plain(op string, s ...[]int64) operator {
	return operator{name: op, shapes: s, op: func(b *build.Builder, in []string) string { return b.Op(op, in) }}
}

func positive(o operator) operator { o.positive = true; return o }

func with(op string, attributes []*onnxfile.Attribute, s ...[]int64) operator {
	return operator{name: fmt.Sprint(op, describe(attributes)), shapes: s, op: func(b *build.Builder, in []string) string { return b.Op(op, in, attributes...) }}
}

func describe(attributes []*onnxfile.Attribute) string {
	var s []string
	for _, a := range attributes {
		s = append(s, fmt.Sprintf(" %s=%v%s", a.Name, append(a.Ints, a.Int), a.String))
	}
	return strings.Join(s, "")
}

// then is an operator that is not one node.
func then(name string, op func(b *build.Builder, in []string) string, s ...[]int64) operator {
	return operator{name: name, shapes: s, op: op}
}

func attributes(a ...*onnxfile.Attribute) []*onnxfile.Attribute { return a }

func operators() []operator {
	list := []operator{
		plain("Add", dims(2, 3), dims(2, 3)), plain("Add", dims(4, 2, 3), dims(2, 1)), plain("Add", dims(1, 3), dims(2, 1)),
		plain("Sub", dims(2, 3), dims(3)), plain("Mul", dims(2, 3), dims(2, 3)), plain("Mul", dims(3), dims(4, 2, 3)),
		positive(plain("Div", dims(2, 3), dims(2, 3))), positive(plain("Div", dims(3, 1), dims(1, 2))),
		plain("Max", dims(2, 3), dims(3)), plain("Min", dims(2, 3), dims(2, 1)),
		then("Mul by itself", func(b *build.Builder, in []string) string { return b.Op("Mul", []string{in[0], in[0]}) }, dims(5)),
		then("SiLU", func(b *build.Builder, in []string) string {
			return b.Op("Mul", []string{in[0], b.Op("Sigmoid", in)})
		}, dims(3, 3)),
		then("SiLU, sigmoid first", func(b *build.Builder, in []string) string {
			return b.Op("Mul", []string{b.Op("Sigmoid", in), in[0]})
		}, dims(3, 3)),
		then("SiLU, sigmoid used twice", func(b *build.Builder, in []string) string {
			s := b.Op("Sigmoid", in)
			return b.Op("Add", []string{b.Op("Mul", []string{in[0], s}), s})
		}, dims(3, 3)),
		then("GELU", func(b *build.Builder, in []string) string {
			e := b.Op("Erf", []string{b.Op("Div", []string{in[0], b.Scalar(math.Sqrt2)})})
			return b.Op("Mul", []string{b.Op("Mul", []string{in[0], b.Op("Add", []string{e, b.Scalar(1)})}), b.Scalar(.5)})
		}, dims(3, 3)),
		then("square", func(b *build.Builder, in []string) string { return b.Op("Pow", []string{in[0], b.Scalar(2)}) }, dims(5)),
		positive(then("Pow 1.5", func(b *build.Builder, in []string) string { return b.Op("Pow", []string{in[0], b.Scalar(1.5)}) }, dims(5))),
		then("Pow broadcast", func(b *build.Builder, in []string) string { return b.Op("Pow", []string{in[0], b.Floats(2, 3)}) }, dims(3, 1)),
		then("Where", func(b *build.Builder, in []string) string {
			c := b.Constant(onnxfile.NewBool("", []int64{3}, []bool{true, false, true}))
			return b.Op("Where", []string{c, in[0], in[1]})
		}, dims(2, 3), dims(3)),
		then("Clip", func(b *build.Builder, in []string) string {
			return b.Op("Clip", []string{in[0], b.Scalar(-.61), b.Scalar(.61)})
		}, dims(9)),
		then("Clip below", func(b *build.Builder, in []string) string { return b.Op("Clip", []string{in[0], b.Scalar(-.61)}) }, dims(9)),
		then("log-sigmoid", func(b *build.Builder, in []string) string {
			return b.Op("Neg", []string{b.Op("Softplus", []string{b.Op("Neg", []string{b.Op("Sub", in)})})})
		}, dims(4), dims(4)),
		positive(plain("Sqrt", dims(5))), positive(plain("Log", dims(5))), positive(plain("Reciprocal", dims(5))),

		plain("MatMul", dims(3, 4), dims(4, 2)), plain("MatMul", dims(2, 3, 4), dims(4, 2)), plain("MatMul", dims(2, 2, 3, 4), dims(4, 2)),
		plain("MatMul", dims(2, 3, 4), dims(2, 4, 2)), plain("MatMul", dims(2, 1, 3, 4), dims(2, 4, 2)), plain("MatMul", dims(3, 4), dims(2, 4, 2)),
		plain("MatMul", dims(1, 3, 4), dims(2, 4, 2)),
		with("Gemm", attributes(build.Float("alpha", 1.5), build.Float("beta", .5)), dims(3, 4), dims(4, 5), dims(5)),
		with("Gemm", attributes(build.Int("transB", 1)), dims(3, 4), dims(5, 4), dims(3, 1)),
		with("Gemm", attributes(build.Int("transA", 1)), dims(4, 3), dims(4, 5)),
		with("Gemm", attributes(build.Int("transA", 1), build.Int("transB", 1)), dims(4, 3), dims(5, 4), dims(1)),

		with("Transpose", attributes(build.Ints("perm", 2, 0, 1)), dims(2, 3, 4)), plain("Transpose", dims(2, 3, 4)),
		plain("Identity", dims(3)), plain("Flatten", dims(2, 3, 4)),
		then("Reshape", func(b *build.Builder, in []string) string { return b.Op("Reshape", []string{in[0], b.Ints(0, -1)}) }, dims(2, 3, 4)),
		then("Squeeze", func(b *build.Builder, in []string) string { return b.Op("Squeeze", []string{in[0], b.Ints(1)}) }, dims(2, 1, 4)),
		then("Unsqueeze", func(b *build.Builder, in []string) string { return b.Op("Unsqueeze", []string{in[0], b.Ints(0, 2)}) }, dims(2, 4)),
		with("Concat", attributes(build.Int("axis", -1)), dims(2, 3), dims(2, 1), dims(2, 2)),
		then("Split", func(b *build.Builder, in []string) string {
			parts := b.Ops("Split", 3, []string{in[0], b.Ints(1, 2, 1)}, build.Int("axis", 1))
			return b.Op("Concat", []string{parts[2], parts[0]}, build.Int("axis", 1)) // parts[1] has no gradient
		}, dims(2, 4)),
		then("Slice", func(b *build.Builder, in []string) string {
			return b.Op("Slice", []string{in[0], b.Ints(1, -3), b.Ints(math.MaxInt64, -1), b.Ints(2, 1)})
		}, dims(2, 4, 3)),
		then("Slice of the first axes", func(b *build.Builder, in []string) string {
			return b.Op("Slice", []string{in[0], b.Ints(0, 1), b.Ints(1, 9)})
		}, dims(2, 4, 2)),
		then("Slice at a computed place", func(b *build.Builder, in []string) string {
			end := b.Op("Slice", []string{b.Op("Shape", []string{in[0]}), b.Ints(0), b.Ints(1)})
			return b.Op("Slice", []string{in[0], b.Op("Sub", []string{end, b.Ints(1)}), end, b.Ints(0), b.Ints(1)})
		}, dims(3, 2)),
		then("Expand", func(b *build.Builder, in []string) string { return b.Op("Expand", []string{in[0], b.Ints(2, 3, 4)}) }, dims(3, 1)),
		then("Expand to less", func(b *build.Builder, in []string) string { return b.Op("Expand", []string{in[0], b.Ints(1, 4)}) }, dims(2, 3, 1)),
		then("Tile", func(b *build.Builder, in []string) string { return b.Op("Tile", []string{in[0], b.Ints(2, 3, 1)}) }, dims(2, 1, 3)),

		then("Gather of one", func(b *build.Builder, in []string) string {
			return b.Op("Gather", []string{in[0], b.Index(-2)}, build.Int("axis", 1))
		}, dims(2, 3, 4)),
		then("Gather twice", func(b *build.Builder, in []string) string {
			i := b.Op("Reshape", []string{b.Ints(1, 0, 1, 1), b.Ints(2, 2)})
			return b.Op("Add", []string{b.Op("Gather", []string{in[0], i}), b.Op("Gather", []string{in[0], b.Ints(0)})})
		}, dims(2, 3)),
		then("GatherElements", func(b *build.Builder, in []string) string {
			i := b.Op("Reshape", []string{b.Ints(0, 0, 2, 1), b.Ints(2, 2)})
			return b.Op("GatherElements", []string{in[0], i}, build.Int("axis", 1))
		}, dims(2, 3)),

		with("Softmax", attributes(build.Int("axis", 1)), dims(2, 3, 4)), plain("Softmax", dims(2, 3)),
		with("LogSoftmax", attributes(build.Int("axis", 0)), dims(3, 2)), plain("LogSoftmax", dims(2, 3)),
		plain("LayerNormalization", dims(2, 3, 4), dims(4), dims(4)), plain("LayerNormalization", dims(3, 5), dims(5)),
		with("LayerNormalization", attributes(build.Int("axis", 1)), dims(2, 3, 4), dims(3, 4), dims(3, 4)),
		then("LayerNormalization of constant scale", func(b *build.Builder, in []string) string {
			return b.Op("LayerNormalization", []string{in[0], b.Floats(1, 1, 1, 1)})
		}, dims(2, 3, 4)),
		then("LayerNormalization of constant scale and bias", func(b *build.Builder, in []string) string {
			return b.Op("LayerNormalization", []string{in[0], b.Floats(1, 2, 1, 1), b.Floats(0, 0, 0, 1)})
		}, dims(2, 3, 4)),
		then("no gradient through a comparison", func(b *build.Builder, in []string) string {
			m := b.Op("Cast", []string{b.Op("Greater", []string{in[0], b.Scalar(0)})}, build.Int("to", int64(onnxfile.Float)))
			return b.Op("Mul", []string{in[0], m})
		}, dims(6)),
	}
	for _, op := range []string{"Neg", "Abs", "Exp", "Sin", "Cos", "Tanh", "Sigmoid", "Softplus", "Erf", "Relu"} {
		list = append(list, plain(op, dims(2, 5)))
	}
	for _, a := range []int64{0, 1, 2, -1} {
		list = append(list, then(fmt.Sprint("Gather along ", a), func(b *build.Builder, in []string) string {
			return b.Op("Gather", []string{in[0], b.Ints(1, -1, 1, 0)}, build.Int("axis", a))
		}, dims(3, 4, 5)))
	}
	for _, keep := range []int64{0, 1} {
		list = append(
			list,
			then(fmt.Sprint("ReduceSum ", keep), func(b *build.Builder, in []string) string {
				return b.Op("ReduceSum", []string{in[0], b.Ints(0, -1)}, build.Int("keepdims", keep))
			}, dims(2, 3, 4)),
			with("ReduceSum", attributes(build.Int("keepdims", keep)), dims(2, 3)),
			with("ReduceMean", attributes(build.Int("keepdims", keep), build.Ints("axes", 1)), dims(2, 3, 4)),
			with("ReduceMax", attributes(build.Int("keepdims", keep), build.Ints("axes", -1)), dims(2, 3, 4)),
			with("ReduceMin", attributes(build.Int("keepdims", keep)), dims(2, 3)),
		)
	}
	for _, reduction := range []string{"mean", "sum", "none"} {
		for _, ignore := range []bool{true, false} {
			list = append(list, then(fmt.Sprint("SoftmaxCrossEntropyLoss ", reduction, ignore), func(b *build.Builder, in []string) string {
				a := attributes(build.String("reduction", reduction))
				labels := b.Ints(1, 3, 4, 0, 2, 1)
				if ignore {
					a, labels = append(a, build.Int("ignore_index", -100)), b.Ints(1, -100, 4, 0, -100, 1)
				}
				return b.Op("SoftmaxCrossEntropyLoss", []string{in[0], labels}, a...)
			}, dims(6, 5)))
		}
	}
	return list
}

// weights are spread evenly in random order, so that none lies near another or near 0: there are operators with a kink.
func weights(r *rand.Rand, n int64, index, of int, positive bool) []float32 {
	out := make([]float32, n)
	for i, at := range r.Perm(int(n)) {
		out[i] = (float32(at) + .5 + .3*float32(index)/float32(of) - float32(n)/2) * 3 / float32(n)
		if positive {
			out[i] = float32(math.Abs(float64(out[i]))) + .5
		}
	}
	return out
}

func product(d []int64) int64 {
	n := int64(1)
	for _, v := range d {
		n *= v
	}
	return n
}

// TestGradients compares every rule with central differences: the loss is the sum of y times fixed numbers.
func TestGradients(t *testing.T) {
	needLibrary(t)
	for _, o := range operators() {
		t.Run(o.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			b := build.New()
			sign := b.Input("sign", onnxfile.Float)
			var names []string
			for i, d := range o.shapes {
				names = append(names, b.Param(string(rune('p'+i)), d, weights(r, product(d), i, len(o.shapes), o.positive)))
			}
			y := b.Op("Reshape", []string{o.op(b, names), b.Ints(-1)})
			// The sum of y times 1, cos 2, ...: no direction is special.
			places := b.Op("Range", []string{b.Scalar(1), b.Op("Add", []string{b.Op("Cast", []string{b.Op("Size", []string{y})}, build.Int("to", 1)), b.Scalar(1)}), b.Scalar(1)})
			b.Output("loss", b.Op("ReduceSum", []string{b.Op("Mul", []string{b.Op("Mul", []string{y, sign}), b.Op("Cos", []string{places})})}, build.Int("keepdims", 0)), onnxfile.Float)
			compare(t, b.Model(), map[string]*onnx.Tensor{"sign": tensor([]float32{-1})}, 2e-3)
		})
	}
}

// compare checks the gradients of m's loss by every parameter.
func compare(t *testing.T, m *onnxfile.Model, feeds map[string]*onnx.Tensor, tolerance float64) {
	t.Helper()
	p, err := embedded.NewParams(nil, m)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	g, err := embedded.Compile(m, "loss", p, feeds, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	loss := func() float64 {
		values, err := g.Run(context.Background(), feeds)
		if err != nil {
			t.Fatal(err)
		}
		return float64(values["loss"])
	}
	loss()
	got := map[string][]float32{}
	for _, name := range p.Names() {
		got[name] = p.Gradient(name)
	}
	for _, name := range p.Names() {
		largest, worst := 0.0, 0.0
		w := p.Weight(name)
		for i, old := range w {
			const h = 1e-2
			w[i] = old + h
			up := loss()
			w[i] = old - h
			down := loss()
			w[i] = old
			want := (up - down) / (2 * h)
			largest = max(largest, math.Abs(want))
			worst = max(worst, math.Abs(want-float64(got[name][i]))/max(1, math.Abs(want)))
		}
		if worst > tolerance || largest < 1e-2 || math.IsNaN(worst) {
			t.Errorf("%s: gradient is off by %.2g (the largest is %.2g): %v", name, worst, largest, got[name])
		}
	}
}

// TestLaterOpset has the axes of means and extremes as inputs, as they are from operator set 18 on.
func TestLaterOpset(t *testing.T) {
	needLibrary(t)
	for _, op := range []string{"ReduceMean", "ReduceMax"} {
		b := build.New()
		x := b.Op("Mul", []string{b.Input("x", onnxfile.Float, 1), b.Param("w", dims(2, 3), weights(rand.New(rand.NewPCG(3, 4)), 6, 0, 1, false))})
		y := b.Op(op, []string{x, b.Ints(1)}, build.Int("keepdims", 0))
		b.Output("loss", b.Op("ReduceSum", []string{b.Op("Mul", []string{y, y})}, build.Int("keepdims", 0)), onnxfile.Float)
		m := b.Model()
		m.Opsets[0].Version = 18
		compare(t, m, map[string]*onnx.Tensor{"x": tensor([]float32{1}, 1)}, 2e-3)
	}
}
