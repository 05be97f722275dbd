package onnx

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// A GPU says which one a model runs on and what of its memory it may take. The zero value is the first one, with all
// of its memory.
//
// Each session has an arena of its own on the GPU, so a limit holds for one model file: a pipeline of three files may
// take three times as much. Requests of all bundles of a process share a model's sessions: a Batcher joins them, and
// runs no more batches side by side than the model's option parallel says.
type GPU struct {
	// ID is the number of the device, from 0.
	ID int `json:"device_id,omitempty" yaml:"device_id,omitempty"`
	// MemLimit is how many bytes a session's arena may take; 0 is no limit.
	MemLimit int64 `json:"gpu_mem_limit,omitempty" yaml:"gpu_mem_limit,omitempty"`
	// Arena is how the arena grows: kNextPowerOfTwo (which "" is), or kSameAsRequested, which takes less and asks more
	// often.
	Arena string `json:"arena_extend_strategy,omitempty" yaml:"arena_extend_strategy,omitempty"`
}

// GPUOptions are the names of a backend's options that Set takes, which are ONNX Runtime's.
func GPUOptions() []string { return []string{"device_id", "gpu_mem_limit", "arena_extend_strategy"} }

// Set takes a backend's option; its error does not repeat the name.
func (g *GPU) Set(name, value string) error {
	switch name {
	case "device_id":
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 || n > 1023 {
			return fmt.Errorf("%q is not the number of a device, from 0", value)
		}
		g.ID = n
	case "gpu_mem_limit":
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || n < 1<<20 {
			return fmt.Errorf("%q is not a number of bytes of a megabyte or more, as 8589934592", value)
		}
		g.MemLimit = n
	case "arena_extend_strategy":
		if value != "kNextPowerOfTwo" && value != "kSameAsRequested" {
			return fmt.Errorf("%q is neither kNextPowerOfTwo nor kSameAsRequested", value)
		}
		g.Arena = value
	default:
		return fmt.Errorf("there are %s", strings.Join(GPUOptions(), ", "))
	}
	return nil
}

// errLimits is what TensorRT has no setting for.
var errLimits = errors.New("provider tensorrt: takes device_id, not gpu_mem_limit and arena_extend_strategy; use cuda, or leave them out")

// cuda are the settings as ONNX Runtime's CUDA provider reads them; nil leaves all as it is.
func (g GPU) cuda() map[string]string {
	out := map[string]string{}
	if g.ID != 0 {
		out["device_id"] = strconv.Itoa(g.ID)
	}
	if g.MemLimit != 0 {
		out["gpu_mem_limit"] = strconv.FormatInt(g.MemLimit, 10)
	}
	if g.Arena != "" {
		out["arena_extend_strategy"] = g.Arena
	}
	return out
}
