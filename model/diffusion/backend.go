package diffusion

import (
	"context"
	"fmt"

	"github.com/promptmill/promptmill/model"
)

func init() { model.Register("diffusion", model.Backend{Images: openSpec}) }

// openSpec opens the folder that spec.Model names, with the options of ParseOptions.
func openSpec(_ context.Context, spec model.Spec) (model.Images, error) {
	o, err := ParseOptions(spec.Options)
	if err != nil {
		return nil, err
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

// ParseOptions reads a Spec's options: max_batch, parallel, and those of onnx.Options. Its errors wrap model.ErrConfig.
func ParseOptions(given map[string]string) (o Options, err error) {
	readers := o.Readers()
	readers["max_batch"], readers["parallel"] = model.Positive(&o.MaxBatch), model.Positive(&o.Parallel)
	err = model.ReadOptions(given, readers)
	return o, err
}
