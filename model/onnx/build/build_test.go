package build_test

import (
	"context"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/promptmill/promptmill/model/onnx"
	"github.com/promptmill/promptmill/model/onnx/build"
	"github.com/promptmill/promptmill/model/onnx/onnxfile"
)

// run computes the outputs of m for a float input x.
func run(t *testing.T, m *onnxfile.Model, x []float32, shape ...int64) [][]float32 {
	t.Helper()
	if _, err := onnx.Find(); err != nil {
		t.Fatal(err)
	}
	s, err := onnx.Load(m, "test", onnx.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	in, err := onnx.NewTensor(x, shape...)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	tensors, err := s.Run(context.Background(), []*onnx.Tensor{in})
	if err != nil {
		t.Fatal(err)
	}
	var out [][]float32
	for _, tensor := range tensors {
		out = append(out, append([]float32(nil), onnx.Data[float32](tensor)...))
		tensor.Close()
	}
	return out
}

// affine is y = x w + 1 in halves: two outputs of one column each, and y again.
func affine() *onnxfile.Model {
	b := build.New()
	x := b.Input("x", onnxfile.Float, "batch", 2)
	w := b.Param("w", []int64{2, 2}, []float32{1, 2, 3, 4})
	y := b.Op("Add", []string{b.Op("MatMul", []string{x, w}), b.Scalar(1)})
	halves := b.Ops("Split", 2, []string{y, b.Ints(1, 1)}, build.Int("axis", -1))
	b.Output("left", halves[0], onnxfile.Float, "batch", 1)
	b.Output("right", b.Op("Mul", []string{halves[1], b.Scalar(1)}), onnxfile.Float, "batch", 1)
	b.Output("left again", halves[0], onnxfile.Float, "batch", 1)
	b.Output("x again", x, onnxfile.Float, "batch", 2)
	return b.Model()
}

func TestRun(t *testing.T) {
	m := affine()
	got := run(t, m, []float32{1, 1, 2, 0}, 2, 2)
	want := [][]float32{{5, 3}, {7, 5}, {5, 3}, {1, 1, 2, 0}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestConstantsAreShared(t *testing.T) {
	b := build.New()
	ints, scalar := b.Ints(1, 2), b.Scalar(1)
	if ints != b.Ints(1, 2) || scalar != b.Scalar(1) {
		t.Error("equal constants are two")
	}
	distinct := map[string]bool{b.Ints(1): true, b.Index(1): true, b.Floats(1): true, b.Scalar(1): true, b.Ints(): true}
	if len(distinct) != 5 {
		t.Errorf("constants of different type or shape are one: %v", distinct)
	}
}

func TestFrom(t *testing.T) {
	m := affine()
	before := m.Marshal()
	b := build.From(m, "more/")
	b.Output("sum", b.Op("Add", []string{"left", "right"}), onnxfile.Float, "batch", 1)
	got := run(t, b.Model(), []float32{1, 1, 2, 0}, 2, 2)
	if diff := cmp.Diff([]float32{12, 8}, got[len(got)-1]); diff != "" {
		t.Error(diff)
	}
	if string(m.Marshal()) != string(before) {
		t.Error("From changed the model it goes on with")
	}
}

func TestHalf(t *testing.T) {
	b := build.New()
	x := b.Input("x", onnxfile.Float, 1, 64)
	weights := make([]float32, 64)
	for i := range weights {
		weights[i] = 1.0 / 3
	}
	small := b.Param("small", []int64{1}, []float32{1.0 / 3})
	y := b.Op("Add", []string{b.Op("MatMul", []string{x, b.Param("w", []int64{64, 1}, weights)}), small})
	b.Output("y", y, onnxfile.Float, 1, 1)
	m := b.Model()
	half, err := build.Half(m)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := len(m.Marshal()), len(half.Marshal()); b >= a {
		t.Errorf("%d bytes, %d in halves", a, b)
	}
	ones := make([]float32, 64)
	for i := range ones {
		ones[i] = 1
	}
	exact, rounded := run(t, m, ones, 1, 64)[0][0], run(t, half, ones, 1, 64)[0][0]
	if d := math.Abs(float64(exact - rounded)); d == 0 || d > .1 {
		t.Errorf("%g, in halves %g", exact, rounded)
	}
}

func TestFaultsPanic(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		do         func(b *build.Builder)
	}{
		{"a name twice", "given twice", func(b *build.Builder) { b.Param("x", []int64{1}, []float32{1}) }},
		{"no name", "is empty", func(b *build.Builder) { b.Input("", onnxfile.Float) }},
		{"an output's name twice", "given twice", func(b *build.Builder) { b.Output("x", b.Scalar(1), onnxfile.Float) }},
		{"an unknown value", `"z" is not defined`, func(b *build.Builder) { b.Op("Neg", []string{"z"}); b.Model() }},
		{"too few elements", "takes 8 bytes", func(b *build.Builder) { b.Param("p", []int64{2}, []float32{1}); b.Model() }},
		{"not a number", "not a number", func(*build.Builder) { build.Float("alpha", float32(math.NaN())) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			defer func() {
				if got, _ := recover().(string); !strings.Contains(got, tt.want) {
					t.Errorf("panic %q, want one with %q", got, tt.want)
				}
			}()
			b := build.New()
			b.Output("y", b.Input("x", onnxfile.Float, 1), onnxfile.Float, 1)
			tt.do(b)
		})
	}
}
