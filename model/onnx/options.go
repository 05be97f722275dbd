package onnx

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/onnx/onnxfile"
)

// Options say how a model is run. The zero value runs it on one thread of the CPU.
type Options struct {
	// Threads is how many threads one Run may use; 0 is 1. Sums, and with them the last bits of results, may depend on it.
	Threads int
	// Provider is cpu, cuda, tensorrt or auto; "" is cpu.
	Provider string
	// GPU is which device the providers other than cpu use, and how.
	GPU GPU
	// Outputs are the outputs to compute, in this order; nil computes all.
	Outputs []string
	// Limits bound what the file may ask for.
	Limits onnxfile.Limits
}

// Readers read the options that every backend of models in process has: threads, provider, and ONNX Runtime's
// device_id, gpu_mem_limit and arena_extend_strategy. They are for model.ReadOptions.
func (o *Options) Readers() map[string]func(value string) error {
	return map[string]func(string) error{
		"threads": model.Positive(&o.Threads),
		"provider": func(value string) error {
			if !slices.Contains([]string{"cpu", "cuda", "tensorrt", "auto"}, value) {
				return fmt.Errorf("%q is not one of cpu, cuda, tensorrt and auto", value)
			}
			o.Provider = value
			return nil
		},
		"device_id": func(value string) error {
			n, err := strconv.Atoi(value)
			if err != nil || n < 0 || n > 1023 {
				return fmt.Errorf("%q is not the number of a device, from 0", value)
			}
			o.GPU.ID = n
			return nil
		},
		"gpu_mem_limit": func(value string) error {
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil || n < 1<<20 {
				return fmt.Errorf("%q is not a number of bytes of a megabyte or more, as 8589934592", value)
			}
			o.GPU.MemLimit = n
			return nil
		},
		"arena_extend_strategy": func(value string) error {
			if value != "kNextPowerOfTwo" && value != "kSameAsRequested" {
				return fmt.Errorf("%q is neither kNextPowerOfTwo nor kSameAsRequested", value)
			}
			o.GPU.Arena = value
			return nil
		},
	}
}
