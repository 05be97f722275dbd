package vlm

import (
	"context"
	"fmt"
	"strconv"

	"github.com/promptmill/promptmill/model"
)

func init() {
	model.Register("vlm", model.Backend{Chat: openChat})
}

// openChat opens the folder that the spec's model names. A folder or option that cannot be used is
// model.ErrConfig.
func openChat(ctx context.Context, spec model.Spec) (model.Chat, error) {
	if spec.Model == "" {
		return nil, fmt.Errorf("%w: vlm: set model to the folder of a model", model.ErrConfig)
	}
	o, err := ParseOptions(spec.Options)
	if err != nil {
		return nil, err
	}
	m, err := Open(ctx, spec.Model, o)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", model.ErrConfig, err)
	}
	return m, nil
}

// ParseOptions reads the options of a Spec, which are those of Options. Its errors wrap model.ErrConfig.
func ParseOptions(given map[string]string) (o Options, err error) {
	readers := o.Readers()
	for name, to := range map[string]*int{"max_batch": &o.MaxBatch, "parallel": &o.Parallel, "beams": &o.Beams} {
		readers[name] = model.Positive(to)
	}
	readers["variant"] = func(value string) error { o.Variant = value; return nil }
	readers["cache_bytes"] = func(value string) (err error) { o.CacheBytes, err = strconv.ParseInt(value, 10, 64); return err }
	readers["length_penalty"] = func(value string) (err error) { o.LengthPenalty, err = strconv.ParseFloat(value, 64); return err }
	if err := model.ReadOptions(given, readers); err != nil {
		return o, err
	}
	if err := o.Validate(); err != nil {
		return o, fmt.Errorf("%w: option %w", model.ErrConfig, err)
	}
	return o, nil
}
