package embedded_test

import (
	"context"
	"math"
	"testing"

	"github.com/promptmill/promptmill/model/onnx"
	"github.com/promptmill/promptmill/model/onnx/build"
	"github.com/promptmill/promptmill/model/onnx/onnxfile"
	"github.com/promptmill/promptmill/model/trainers/embedded"
)

// given has two parameters of which the gradients are what is fed: the loss is a sum of products.
func given(t *testing.T, matrix, vector []float32) (*embedded.Params, func(matrix, vector []float32)) {
	t.Helper()
	needLibrary(t)
	b := build.New()
	product := func(name string, values []float32, dims ...any) string {
		shape := make([]int64, len(dims))
		for i, d := range dims {
			shape[i] = int64(d.(int))
		}
		x := b.Op("Mul", []string{b.Input("d"+name, onnxfile.Float, dims...), b.Param(name, shape, values)})
		return b.Op("ReduceSum", []string{x}, build.Int("keepdims", 0))
	}
	b.Output("loss", b.Op("Add", []string{product("matrix", matrix, 3, 2), product("vector", vector, 4)}), onnxfile.Float)
	feeds := func(matrix, vector []float32) map[string]*onnx.Tensor {
		return map[string]*onnx.Tensor{"dmatrix": tensor(matrix, 3, 2), "dvector": tensor(vector, 4)}
	}
	p, g := compile(t, b.Model(), feeds(matrix, vector))
	return p, func(matrix, vector []float32) {
		t.Helper()
		if _, err := g.Run(context.Background(), feeds(matrix, vector)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAdamW compares weights and norms with PyTorch's.
func TestAdamW(t *testing.T) {
	var cases []struct {
		Name         string
		Beta1, Beta2 float64
		Epsilon      float64
		WeightDecay  float64 `json:"weight_decay"`
		ClipNorm     float64 `json:"clip_norm"`
		Start        [][]float32
		Steps        []struct {
			Rate, Norm         float64
			Gradients, Weights [][]float32
		}
	}
	readJSON(t, "testdata/adamw.json", &cases)
	if len(cases) == 0 {
		t.Fatal("no cases")
	}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			p, run := given(t, c.Start[0], c.Start[1])
			o := embedded.AdamW{
				Beta1: c.Beta1, Beta2: c.Beta2, Epsilon: c.Epsilon,
				WeightDecay: c.WeightDecay, DecayAll: true, ClipNorm: c.ClipNorm,
			}
			for i, s := range c.Steps {
				run(s.Gradients[0], s.Gradients[1])
				if norm := p.Step(o, s.Rate); math.Abs(norm-s.Norm) > 1e-5 {
					t.Errorf("step %d: norm %g, want %g", i, norm, s.Norm)
				}
				for j, name := range []string{"matrix", "vector"} {
					if worst := distance(p.Weight(name), s.Weights[j]); worst > 1e-6 {
						t.Errorf("step %d: %s is off by %g", i, name, worst)
					}
				}
			}
			if p.Steps() != int64(len(c.Steps)) {
				t.Errorf("%d steps counted, want %d", p.Steps(), len(c.Steps))
			}
		})
	}
}

func TestDecayOfVectors(t *testing.T) {
	start := []float32{1, 1, 1, 1, 1, 1}
	none := make([]float32, 6)
	for _, all := range []bool{false, true} {
		p, run := given(t, start, start[:4])
		run(none, none[:4])
		p.Step(embedded.AdamW{Beta1: .9, Beta2: .99, WeightDecay: .5, DecayAll: all}, .1)
		want := float32(1)
		if all {
			want = .95
		}
		if m, v := p.Weight("matrix")[0], p.Weight("vector")[0]; m != .95 || v != want {
			t.Errorf("DecayAll %v: a matrix of 1 became %g, a vector %g", all, m, v)
		}
	}
}

func TestMovingAverage(t *testing.T) {
	start := []float32{1, 2, 3, 4, 5, 6}
	p, run := given(t, start, start[:4])
	model := func() *onnxfile.Model {
		return &onnxfile.Model{Graph: &onnxfile.Graph{Initializers: []*onnxfile.Tensor{onnxfile.NewFloat32("vector", []int64{4}, make([]float32, 4))}}}
	}
	if err := p.StoreEMA(model()); err == nil {
		t.Error("an average that was never kept was stored")
	}
	want := []float64{1, 2, 3, 4}
	for i := range 40 {
		run(start, start[:4])
		p.Step(embedded.AdamW{Beta1: .9, Beta2: .99, EMADecay: .5}, .1)
		d := min(.5, float64(i+1)/float64(i+20))
		for j, w := range p.Weight("vector") {
			want[j] = d*want[j] + (1-d)*float64(w)
		}
	}
	m := model()
	if err := p.StoreEMA(m); err != nil {
		t.Fatal(err)
	}
	got, err := m.Graph.Initializers[0].Float32s()
	if err != nil {
		t.Fatal(err)
	}
	for j := range want {
		if math.Abs(want[j]-float64(got[j])) > 1e-4 {
			t.Errorf("average %d is %g, want %g", j, got[j], want[j])
		}
	}
}

func TestNonFiniteGradientsAreSkipped(t *testing.T) {
	start := []float32{1, 2, 3, 4, 5, 6}
	p, run := given(t, start, start[:4])
	o := embedded.AdamW{Beta1: .9, Beta2: .99, ClipNorm: 1}
	run(start, []float32{0, float32(math.NaN()), 0, 0})
	if norm := p.Step(o, .1); !math.IsNaN(norm) {
		t.Errorf("norm %g", norm)
	}
	if p.Steps() != 0 || distance(p.Weight("vector"), start[:4]) != 0 {
		t.Errorf("it counted as step %d: %v", p.Steps(), p.Weight("vector"))
	}
	run(start, start[:4])
	p.Step(o, .1)
	if p.Steps() != 1 || distance(p.Weight("vector"), start[:4]) < .05 || math.IsNaN(float64(p.Weight("vector")[1])) {
		t.Errorf("the next step does not train: %v", p.Weight("vector"))
	}
}

func TestSchedule(t *testing.T) {
	s := embedded.Schedule{Peak: 2, Floor: .1, Warmup: 4, Steps: 100}
	for step, want := range map[int64]float64{0: .5, 1: 1, 50: 1.1, 100: .2, 1000: .2} {
		if got := s.Rate(step); math.Abs(got-want) > 2e-3 {
			t.Errorf("step %d: %g, want %g", step, got, want)
		}
	}
	if got := (embedded.Schedule{Peak: 2}).Rate(7); got != 2 {
		t.Errorf("a constant schedule gives %g", got)
	}
}

// BenchmarkAdamW is a step for 1.7 million parameters with everything switched on.
func BenchmarkAdamW(b *testing.B) {
	needLibrary(b)
	const n = 1_700_000
	g := build.New()
	x := g.Op("Mul", []string{g.Input("x", onnxfile.Float, 1), g.Param("w", []int64{n / 1000, 1000}, make([]float32, n))})
	g.Output("loss", g.Op("ReduceSum", []string{x}, build.Int("keepdims", 0)), onnxfile.Float)
	feeds := map[string]*onnx.Tensor{"x": tensor([]float32{1}, 1)}
	p, gradient := compile(b, g.Model(), feeds)
	o := embedded.AdamW{Beta1: .9, Beta2: .95, WeightDecay: .1, ClipNorm: 1, EMADecay: .998}
	for b.Loop() {
		b.StopTimer()
		if _, err := gradient.Run(context.Background(), feeds); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		p.Step(o, 1e-3)
	}
}
