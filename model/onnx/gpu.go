package onnx

import (
	"errors"
	"strconv"
)

// A GPU says which one a model runs on and what of its memory it may take. The zero value is the first one, with all
// of its memory.
//
// Each session has an arena of its own on the GPU, so a limit holds for one model file: a pipeline of three files may
// take three times as much. Requests of all bundles of a process share a model's sessions: a Batcher joins them, and
// runs no more batches side by side than the model's option parallel says.
type GPU struct {
	// ID is the number of the device, from 0.
	ID int
	// MemLimit is how many bytes a session's arena may take; 0 is no limit.
	MemLimit int64
	// Arena is how the arena grows: kNextPowerOfTwo (which "" is), or kSameAsRequested, which takes less and asks more
	// often.
	Arena string
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
