package onnx

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"

	ort "github.com/yalue/onnxruntime_go"
)

// session is o as ONNX Runtime wants it, and what the model will run on. dir is where external data lies.
func (o Options) session(dir string) (*ort.SessionOptions, string, error) {
	options, err := ort.NewSessionOptions()
	if err != nil {
		return nil, "", err
	}
	device, err := o.apply(options, dir)
	if err != nil {
		_ = options.Destroy()
		return nil, "", err
	}
	return options, device, nil
}

func (o Options) apply(options *ort.SessionOptions, dir string) (string, error) {
	entries := map[string]string{
		"session.intra_op.allow_spinning": "0", // the other core has work of its own
		"session.inter_op.allow_spinning": "0",
	}
	if dir != "" {
		entries["session.model_external_initializers_file_folder_path"] = dir
	}
	for key, value := range entries {
		if err := options.AddSessionConfigEntry(key, value); err != nil {
			return "", fmt.Errorf("set %s: %w", key, err)
		}
	}
	if err := options.SetIntraOpNumThreads(max(1, o.Threads)); err != nil {
		return "", fmt.Errorf("set %d threads: %w", o.Threads, err)
	}
	if err := options.SetInterOpNumThreads(1); err != nil {
		return "", err
	}
	switch o.Provider {
	case "", "cpu":
		return "cpu", nil
	case "cuda", "tensorrt", "auto":
		device, err := o.accelerate(options)
		if why, ok := strings.CutPrefix(device, "cpu"); ok {
			saySlow.Do(func() { slog.Warn("onnx: models run on the CPU"+why, "provider", o.Provider) })
		}
		return device, err
	}
	return "", fmt.Errorf("provider %s: there are cpu, cuda, tensorrt and auto", strconv.Quote(o.Provider))
}

// saySlow says once a process, and not once a model, that there is no GPU.
var saySlow sync.Once

// accelerate appends the provider asked for. ONNX Runtime accepts settings for a provider that the library
// does not have and complains only when it is appended: auto falls back there, the others fail.
func (o Options) accelerate(options *ort.SessionOptions) (string, error) {
	if o.Provider == "tensorrt" {
		if o.GPU.MemLimit != 0 || o.GPU.Arena != "" {
			return "", errLimits
		}
		rt, err := ort.NewTensorRTProviderOptions()
		if err == nil {
			defer func() { _ = rt.Destroy() }()
			if settings := o.GPU.cuda(); len(settings) > 0 {
				err = rt.Update(settings)
			}
		}
		if err == nil {
			err = options.AppendExecutionProviderTensorRT(rt)
		}
		if err != nil {
			return "", fmt.Errorf("provider tensorrt: %w; use auto or cpu, or a library with TensorRT", err)
		}
		return fmt.Sprintf("tensorrt:%d", o.GPU.ID), nil
	}
	if missing := noProvider(); o.Provider == "auto" && missing != "" {
		return "cpu (no CUDA: " + missing + ")", nil
	}
	cuda, err := ort.NewCUDAProviderOptions()
	if err == nil {
		defer func() { _ = cuda.Destroy() }()
		if settings := o.GPU.cuda(); len(settings) > 0 {
			err = cuda.Update(settings)
		}
	}
	if err == nil {
		err = options.AppendExecutionProviderCUDA(cuda)
	}
	switch {
	case err == nil:
		return fmt.Sprintf("cuda:%d", o.GPU.ID), nil
	case o.Provider == "auto":
		return "cpu (no CUDA: " + err.Error() + ")", nil
	}
	return "", fmt.Errorf("provider cuda: %w; use auto or cpu, or a library with CUDA", err)
}

// noProvider says what is not there of the CUDA provider, "" if nothing. It is a library of its own beside ONNX Runtime's;
// asked for it without, the runtime writes to standard error before it says no.
func noProvider() string {
	path, err := Find()
	if err != nil || runtime.GOOS != "linux" {
		return ""
	}
	provider := filepath.Join(filepath.Dir(path), "libonnxruntime_providers_cuda.so")
	if _, err := os.Stat(provider); err != nil {
		return "no " + provider
	}
	return ""
}
