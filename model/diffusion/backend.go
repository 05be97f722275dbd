package diffusion

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/onnx"
)

func init() { model.Register("diffusion", model.Backend{Images: openSpec}) }

// openSpec opens the folder that spec.Model names. Its options are those of Options: provider, threads, max_batch,
// parallel, and onnx.GPUOptions.
func openSpec(_ context.Context, spec model.Spec) (model.Images, error) {
	o, err := ParseOptions(spec.Options)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", model.ErrConfig, err)
	}
	if spec.Model == "" {
		return nil, fmt.Errorf("%w: diffusion needs a model: the path of a Stable Diffusion folder in ONNX", model.ErrConfig)
	}
	p, err := Open(spec.Model, o)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", model.ErrConfig, err)
	}
	return p, nil
}

// ParseOptions reads a Spec's options: provider, threads, max_batch, parallel, and those of onnx.GPUOptions.
func ParseOptions(options map[string]string) (Options, error) {
	var o Options
	for name, value := range options {
		if slices.Contains(onnx.GPUOptions(), name) {
			if err := o.GPU.Set(name, value); err != nil {
				return o, fmt.Errorf("options.%s: %w", name, err)
			}
			continue
		}
		var to *int
		switch name {
		case "provider":
			o.Provider = value
			continue
		case "threads":
			to = &o.Threads
		case "max_batch":
			to = &o.MaxBatch
		case "parallel":
			to = &o.Parallel
		default:
			return o, fmt.Errorf("options.%s: there are provider, threads, max_batch, parallel, %s", name, strings.Join(onnx.GPUOptions(), ", "))
		}
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 {
			return o, fmt.Errorf("options.%s: %q is not a number of 1 or more", name, value)
		}
		*to = n
	}
	return o, nil
}
