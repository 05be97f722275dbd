package onnx_test

import (
	"strings"
	"testing"

	"github.com/promptmill/promptmill/model/onnx"
	"github.com/promptmill/promptmill/model/onnx/build"
	"github.com/promptmill/promptmill/model/onnx/onnxfile"
)

// A wish for a certain GPU is refused or falls back like one for any; what TensorRT cannot be told is said.
func TestGPUFallback(t *testing.T) {
	b := build.New()
	b.Output("y", b.Op("Identity", []string{b.Input("x", onnxfile.Float, 1)}), onnxfile.Float, 1)
	gpu := onnx.GPU{ID: 1, MemLimit: 1 << 30, Arena: "kSameAsRequested"}
	open := func(provider string) (*onnx.Session, error) {
		return onnx.Load(b.Model(), "identity", onnx.Options{Provider: provider, GPU: gpu})
	}
	if _, err := open("tensorrt"); err == nil || !strings.Contains(err.Error(), "not gpu_mem_limit") {
		t.Errorf("tensorrt: %v", err)
	}
	s, err := open("auto")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if strings.HasPrefix(s.Device(), "cuda") {
		if s.Ran() != "cuda:1" {
			t.Errorf("ran on %q, device 1 was wanted", s.Ran())
		}
		return
	}
	t.Log("on a GPU: not executed: no CUDA device")
	if s.Ran() != "cpu for want of cuda" {
		t.Errorf("ran on %q", s.Ran())
	}
	if _, err := open("cuda"); err == nil || !strings.Contains(err.Error(), "provider cuda: ") {
		t.Errorf("cuda: %v", err)
	}
	plain, err := onnx.Load(b.Model(), "identity", onnx.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if plain.Ran() != "cpu" {
		t.Errorf("ran on %q", plain.Ran())
	}
}
