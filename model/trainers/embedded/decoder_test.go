package embedded_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/promptmill/promptmill/model/onnx"
	"github.com/promptmill/promptmill/model/onnx/build"
	"github.com/promptmill/promptmill/model/onnx/onnxfile"
	"github.com/promptmill/promptmill/model/trainers/embedded"
)

// decoder is the network of testdata/decoder.py.
type decoder struct{ batch, length, width, heads, layers, vocabulary int }

// build makes the graph of the loss; value gives the weights.
func (d decoder) build(value func(name string, dims ...int64) []float32) *onnxfile.Model {
	b := build.New()
	param := func(name string, dims ...int64) string { return b.Param(name, dims, value(name, dims...)) }
	op := func(op string, in ...string) string { return b.Op(op, in) }
	w, head := int64(d.width), int64(d.width/d.heads)
	linear := func(x, name string, from, to int64) string {
		return op("Add", op("MatMul", x, param(name, from, to)), param(name+".bias", to))
	}
	norm := func(x, name string) string {
		return op("LayerNormalization", x, param(name+".scale", w), param(name+".bias", w))
	}
	ids := b.Input("ids", onnxfile.Int64, d.batch, d.length)
	labels := b.Input("labels", onnxfile.Int64, d.batch*d.length)
	mask := make([]float32, d.length*d.length)
	for i := range d.length {
		for j := i + 1; j < d.length; j++ {
			mask[i*d.length+j] = -1e9
		}
	}
	causal := b.Constant(onnxfile.NewFloat32("", []int64{int64(d.length), int64(d.length)}, mask))
	embed := param("embed", int64(d.vocabulary), w)
	x := op("Add", op("Gather", embed, ids), param("position", int64(d.length), w))
	for i := range d.layers {
		name := func(s string) string { return fmt.Sprint(i, ".", s) }
		parts := b.Ops("Split", 3, []string{linear(norm(x, name("norm1")), name("qkv"), w, 3*w)}, build.Int("axis", -1))
		for j, perm := range [][]int64{{0, 2, 1, 3}, {0, 2, 3, 1}, {0, 2, 1, 3}} {
			parts[j] = b.Op("Transpose", []string{op("Reshape", parts[j], b.Ints(0, 0, int64(d.heads), head))}, build.Ints("perm", perm...))
		}
		scores := op("Mul", op("MatMul", parts[0], parts[1]), b.Scalar(float32(1/math.Sqrt(float64(head)))))
		seen := op("MatMul", b.Op("Softmax", []string{op("Add", scores, causal)}, build.Int("axis", -1)), parts[2])
		y := op("Reshape", b.Op("Transpose", []string{seen}, build.Ints("perm", 0, 2, 1, 3)), b.Ints(0, 0, w))
		x = op("Add", x, linear(y, name("out"), w, w))
		up := linear(norm(x, name("norm2")), name("up"), w, 4*w)
		x = op("Add", x, linear(op("Mul", up, op("Sigmoid", up)), name("down"), 4*w, w))
	}
	flat := op("Reshape", norm(x, "norm"), b.Ints(-1, w))
	logits := b.Op("Gemm", []string{flat, embed}, build.Int("transB", 1))
	loss := b.Op("SoftmaxCrossEntropyLoss", []string{logits, labels}, build.Int("ignore_index", -100))
	b.Output("loss", loss, onnxfile.Float)
	b.Output("largest logit", b.Op("ReduceMax", []string{logits}, build.Int("keepdims", 0)), onnxfile.Float)
	b.Output("logits", logits, onnxfile.Float, d.batch*d.length, d.vocabulary)
	return b.Model()
}

func (d decoder) feeds(ids, labels []int64) map[string]*onnx.Tensor {
	return map[string]*onnx.Tensor{
		"ids":    tensor(ids, int64(d.batch), int64(d.length)),
		"labels": tensor(labels, int64(d.batch*d.length)),
	}
}

// random are weights and a batch for tests that have no reference.
func (d decoder) random(seed uint64) (*onnxfile.Model, map[string]*onnx.Tensor) {
	r := rand.New(rand.NewPCG(seed, 0))
	m := d.build(func(_ string, dims ...int64) []float32 {
		v := make([]float32, product(dims))
		for i := range v {
			v[i] = .2 * float32(r.NormFloat64())
		}
		return v
	})
	ids, labels := make([]int64, d.batch*d.length), make([]int64, d.batch*d.length)
	for i := range ids {
		ids[i], labels[i] = r.Int64N(int64(d.vocabulary)), r.Int64N(int64(d.vocabulary))
	}
	return m, d.feeds(ids, labels)
}

func readJSON(t *testing.T, path string, into any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatal(err)
	}
}

// TestDecoder compares a whole step with PyTorch's.
func TestDecoder(t *testing.T) {
	needLibrary(t)
	var want struct {
		IDs, Labels []int64
		Loss        float64
		Weights     []struct {
			Name            string
			Dims            []int64
			Start, Gradient []float32
		}
	}
	readJSON(t, "testdata/decoder.json", &want)
	d := decoder{batch: 2, length: 5, width: 8, heads: 2, layers: 2, vocabulary: 11}
	start := map[string][]float32{}
	for _, w := range want.Weights {
		start[w.Name] = w.Start
	}
	m := d.build(func(name string, _ ...int64) []float32 { return start[name] })
	p, g := compile(t, m, d.feeds(want.IDs, want.Labels))
	values, err := g.Run(context.Background(), d.feeds(want.IDs, want.Labels))
	if err != nil {
		t.Fatal(err)
	}
	if got := float64(values["loss"]); math.Abs(got-want.Loss) > 1e-5 {
		t.Errorf("loss %g, want %g", got, want.Loss)
	}
	if len(values) != 2 || values["largest logit"] == 0 {
		t.Errorf("want the loss and the other output of one element, got %v", values)
	}
	if len(p.Names()) != len(want.Weights) {
		t.Errorf("%d weights, want %d", len(p.Names()), len(want.Weights))
	}
	for _, w := range want.Weights {
		if worst := distance(p.Gradient(w.Name), w.Gradient); worst > 2e-5 {
			t.Errorf("the gradient of %s is off by %g", w.Name, worst)
		}
	}
}

// distance is the largest difference, or infinite for unequal lengths.
func distance(a, b []float32) float64 {
	if len(a) != len(b) {
		return math.Inf(1)
	}
	worst := 0.0
	for i := range a {
		if d := math.Abs(float64(a[i]) - float64(b[i])); !(d <= worst) {
			worst = d
		}
	}
	return worst
}

// compile makes parameters and gradients of m that end with the test.
func compile(t testing.TB, m *onnxfile.Model, feeds map[string]*onnx.Tensor) (*embedded.Params, *embedded.Gradient) {
	t.Helper()
	p, err := embedded.NewParams(nil, m)
	if err != nil {
		t.Fatal(err)
	}
	g, err := embedded.Compile(m, "loss", p, feeds, 1)
	if err != nil {
		p.Close()
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close(); p.Close() })
	return p, g
}

// BenchmarkStep is a step of a decoder of the size of the tiny one; testdata/decoder.py times the same in PyTorch
// (python decoder.py time 32 80 144 4 3 2048).
func BenchmarkStep(b *testing.B) {
	needLibrary(b)
	d := decoder{batch: 32, length: 80, width: 144, heads: 4, layers: 3, vocabulary: 2048}
	m, feeds := d.random(1)
	p, g := compile(b, m, feeds)
	b.Run("all", func(b *testing.B) {
		for b.Loop() {
			if _, err := g.Run(context.Background(), feeds); err != nil {
				b.Fatal(err)
			}
			p.Step(embedded.AdamW{Beta1: .9, Beta2: .95, WeightDecay: .1, ClipNorm: 1}, 1e-4)
		}
	})
	b.Run("gradient", func(b *testing.B) {
		for b.Loop() {
			if _, err := g.Run(context.Background(), feeds); err != nil {
				b.Fatal(err)
			}
		}
	})
}
