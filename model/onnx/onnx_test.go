package onnx_test

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/promptmill/promptmill/model/onnx"
	"github.com/promptmill/promptmill/model/onnx/build"
	"github.com/promptmill/promptmill/model/onnx/onnxfile"
)

// affine gives y = x w + 1 for rows x of two numbers, and x.
func affine() *onnxfile.Model {
	b := build.New()
	x := b.Input("x", onnxfile.Float, "rows", 2)
	w := b.Param("w", []int64{2, 3}, []float32{1, 2, 3, 4, 5, 6})
	b.Output("y", b.Op("Add", []string{b.Op("MatMul", []string{x, w}), b.Floats(1)}), onnxfile.Float, "rows", 3)
	b.Output("same", b.Op("Identity", []string{x}), onnxfile.Float, "rows", 2)
	return b.Model()
}

func load(t testing.TB, m *onnxfile.Model, o onnx.Options) *onnx.Session {
	t.Helper()
	s, err := onnx.Load(m, "affine", o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func tensor[E onnx.Element](t testing.TB, data []E, shape ...int64) *onnx.Tensor {
	t.Helper()
	x, err := onnx.NewTensor(data, shape...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(x.Close)
	return x
}

func TestRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "affine.onnx")
	if err := os.WriteFile(path, affine().Marshal(), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := onnx.Open(path, onnx.Options{Outputs: []string{"y"}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	x := tensor(t, []float32{1, 0, 0, 1}, 2, 2)
	out, err := s.Run(t.Context(), []*onnx.Tensor{x})
	if err != nil {
		t.Fatal(err)
	}
	defer out[0].Close()
	want := []float32{2, 3, 4, 5, 6, 7}
	into := tensor(t, make([]float32, 6), 2, 3)
	if err := s.RunInto(t.Context(), []*onnx.Tensor{x}, []*onnx.Tensor{into}); err != nil {
		t.Fatal(err)
	}
	for i, w := range want {
		if onnx.Data[float32](out[0])[i] != w || onnx.Data[float32](into)[i] != w {
			t.Fatalf("y is %v and %v, want %v", onnx.Data[float32](out[0]), onnx.Data[float32](into), want)
		}
	}
	if got := out[0].String(); got != "float [2 3]" {
		t.Errorf("y is a %s", got)
	}
}

func TestShapes(t *testing.T) {
	b := build.New()
	x := b.Input("x", onnxfile.Int64, "n", 0+2)
	b.Output("y", b.Op("Identity", []string{x}), onnxfile.Int64, "n", 2)
	s := load(t, b.Model(), onnx.Options{})
	out, err := s.Run(t.Context(), []*onnx.Tensor{tensor(t, []int64{}, 0, 2)})
	if err != nil || len(onnx.Data[int64](out[0])) != 0 {
		t.Errorf("no rows: %v", err)
	}
	if _, err := onnx.NewTensor([]float32{1, 2, 3}, 2, 2); err == nil {
		t.Error("3 numbers make a tensor of 4")
	}
	if _, err := onnx.NewTensor([]float32{}, -1, 0); err == nil {
		t.Error("a tensor has a negative dimension")
	}
	if got := onnx.Data[bool](tensor(t, []bool{true}))[0]; !got {
		t.Error("a tensor without dimensions lost its element")
	}
}

// What a model takes is checked before the runtime sees it.
func TestWrongInputs(t *testing.T) {
	s := load(t, affine(), onnx.Options{})
	for want, in := range map[string][]*onnx.Tensor{
		"takes 1 inputs (x)":                          nil,
		"input x float [rows,2]: no tensor":           {nil},
		"input x float [rows,2]: got a tensor of int": {tensor(t, []int64{1, 2}, 1, 2)},
		"1 dimensions, want 2":                        {tensor(t, []float32{1, 2}, 2)},
		"dimension 1 is 3, want 2":                    {tensor(t, []float32{1, 2, 3}, 1, 3)},
	} {
		if _, err := s.Run(t.Context(), in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	if _, err := onnx.Load(affine(), "affine", onnx.Options{Outputs: []string{"z"}}); err == nil || !strings.Contains(err.Error(), "there are y, same") {
		t.Errorf("an output that is not there: %v", err)
	}
	if _, err := onnx.Load(affine(), "affine", onnx.Options{Provider: "gpu"}); err == nil || !strings.Contains(err.Error(), "cpu, cuda, tensorrt and auto") {
		t.Errorf("a provider that is not there: %v", err)
	}
}

// Without CUDA, auto runs on the CPU and says why; cuda is an error.
func TestFallback(t *testing.T) {
	s := load(t, affine(), onnx.Options{Provider: "auto"})
	if strings.HasPrefix(s.Device(), "cuda") {
		t.Skip("not executed: this machine has CUDA")
	}
	if !strings.HasPrefix(s.Device(), "cpu (no CUDA: ") {
		t.Errorf("device %q does not say why it is no GPU", s.Device())
	}
	if _, err := onnx.Load(affine(), "affine", onnx.Options{Provider: "cuda"}); err == nil || !strings.Contains(err.Error(), "use auto or cpu") {
		t.Errorf("cuda: %v", err)
	}
}

// Half precision at a model's border is float32 for the caller; the model itself stays.
func TestHalf(t *testing.T) {
	b := build.New()
	x := b.Input("x", onnxfile.Float16, 2)
	b.Output("y", b.Op("Add", []string{x, x}), onnxfile.Float16, 2)
	s := load(t, b.Model(), onnx.Options{})
	out, err := s.Run(t.Context(), []*onnx.Tensor{tensor(t, []float32{.5, -3}, 2)})
	if err != nil {
		t.Fatal(err)
	}
	if got := onnx.Data[float32](out[0]); got[0] != 1 || got[1] != -6 {
		t.Errorf("twice .5 and -3 is %v", got)
	}
}

func TestConcurrent(t *testing.T) {
	s := load(t, affine(), onnx.Options{})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 200 {
				v := float32(g*1000 + i)
				x, err := onnx.NewTensor([]float32{v, 0}, 1, 2)
				if err != nil {
					t.Error(err)
					return
				}
				out, err := s.Run(t.Context(), []*onnx.Tensor{x})
				if err != nil {
					t.Error(err)
					return
				}
				if got := onnx.Data[float32](out[0])[0]; math.Abs(float64(got-v-1)) > .01 {
					t.Errorf("%g gives %g", v, got)
				}
				out[0].Close()
				out[1].Close()
				x.Close()
			}
		})
	}
	wg.Wait()
}

// A graph that is sound as a file but not as a computation is an error of the runtime, with the file's name.
func TestRefused(t *testing.T) {
	m := affine()
	m.Graph.Nodes[0].Op = "NoSuchOperator"
	path := filepath.Join(t.TempDir(), "bad.onnx")
	if err := os.WriteFile(path, m.Marshal(), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := onnx.Open(path, onnx.Options{})
	if !errors.Is(err, onnxfile.ErrModel) || !strings.Contains(err.Error(), "bad.onnx") || !strings.Contains(err.Error(), "NoSuchOperator") {
		t.Errorf("an operator that nobody has: %v", err)
	}
	if _, err := onnx.Open(filepath.Join(t.TempDir(), "none.onnx"), onnx.Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}
