package vlm

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/onnx"
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
		return nil, fmt.Errorf("%w: vlm: %w", model.ErrConfig, err)
	}
	m, err := Open(ctx, spec.Model, o)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", model.ErrConfig, err)
	}
	return m, nil
}

// ParseOptions reads the options of a Spec; the error lists those that there are.
func ParseOptions(given map[string]string) (Options, error) {
	var o Options
	whole := func(to *int) func(string) error {
		return func(s string) (err error) { *to, err = strconv.Atoi(s); return err }
	}
	text := func(to *string) func(string) error {
		return func(s string) error { *to = s; return nil }
	}
	known := map[string]func(string) error{
		"threads": whole(&o.Threads), "max_batch": whole(&o.MaxBatch), "parallel": whole(&o.Parallel), "beams": whole(&o.Beams),
		"provider": text(&o.Provider), "variant": text(&o.Variant),
		"cache_bytes":    func(s string) (err error) { o.CacheBytes, err = strconv.ParseInt(s, 10, 64); return err },
		"length_penalty": func(s string) (err error) { o.LengthPenalty, err = strconv.ParseFloat(s, 64); return err },
	}
	for _, name := range onnx.GPUOptions() {
		known[name] = func(s string) error { return o.GPU.Set(name, s) }
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		set, ok := known[name]
		if !ok {
			return o, fmt.Errorf("no option %q; there are %s", name, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		}
		if err := set(given[name]); err != nil {
			return o, fmt.Errorf("%s: %w", name, err)
		}
	}
	return o, o.Validate()
}
