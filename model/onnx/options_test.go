package onnx_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/onnx"
)

func TestReaders(t *testing.T) {
	var o onnx.Options
	given := map[string]string{
		"threads": "2", "provider": "cuda", "device_id": "3", "gpu_mem_limit": "8589934592", "arena_extend_strategy": "kSameAsRequested",
	}
	if err := model.ReadOptions(given, o.Readers()); err != nil {
		t.Fatal(err)
	}
	want := onnx.Options{Threads: 2, Provider: "cuda", GPU: onnx.GPU{ID: 3, MemLimit: 8 << 30, Arena: "kSameAsRequested"}}
	if diff := cmp.Diff(want, o); diff != "" {
		t.Error(diff)
	}
	for _, tt := range []struct{ name, value, want string }{
		{"threads", "0", `option threads: "0" is not a whole number of 1 or more`},
		{"threads", "two", `option threads: "two" is not`},
		{"provider", "rocm", `option provider: "rocm" is not one of cpu, cuda`},
		{"device_id", "-1", `option device_id: "-1" is not the number of a device`},
		{"device_id", "first", `"first" is not the number`},
		{"gpu_mem_limit", "8GB", `"8GB" is not a number of bytes`},
		{"gpu_mem_limit", "8", "of a megabyte or more"},
		{"arena_extend_strategy", "kBest", `"kBest" is neither`},
		{"gpu", "1", `no option "gpu"; there are arena_extend_strategy, device_id, gpu_mem_limit, provider, threads`},
	} {
		err := model.ReadOptions(map[string]string{tt.name: tt.value}, new(onnx.Options).Readers())
		if !errors.Is(err, model.ErrConfig) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s=%s: %v, want %q", tt.name, tt.value, err, tt.want)
		}
	}
}
