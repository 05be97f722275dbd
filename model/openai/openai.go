// Package openai speaks to servers with OpenAI's wire format: chat completions, with pictures, and
// images. It registers the backend "openai".
//
// # Design
//
// Servers that call themselves compatible differ (testdata/recorded has answers of real ones): some
// have no n, seed, usage or finish_reason, some send content as an array, some lose all but the last
// of two pictures. What a request depends on is proved once a process, when it is first needed: that n
// gives n different choices, and that both pictures of two matter. A server that fails the first is
// asked for single answers with consecutive seeds, at once; one that fails the second is refused.
//
// # Options
//
//	prefix        path below the endpoint: "/v1" unless given; "" for VILA's own server
//	n             auto (prove it first), yes (trust it) or no (ask for single answers)
//	seed          yes, or no: send none
//	extra         a JSON object of further fields for each request, such as {"top_k":50}
//	beams         a number: requests at temperature 0 are beam searches of that width (vLLM), whose best
//	              answer is taken; none unless given
//	probe         first_use (before the first request with two pictures), two_images (when the model is
//	              opened) or off
//	deterministic yes if the server is known to give equal answers to equal requests, alone and among
//	              others; no unless given
//	fields        images only: extended (send negative_prompt, num_inference_steps, guidance_scale and
//	              seed), plain (prompt and size only), or sd_cpp (stable-diffusion.cpp's server, which
//	              takes them inside the prompt)
package openai

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/guard"
)

func init() {
	model.Register("openai", model.Backend{Chat: openChat, Images: openImages})
}

// choice reads an option that has few values; the first is the default.
func choice(errs *[]error, options map[string]string, name string, values ...string) string {
	v, given := options[name]
	if !given {
		return values[0]
	}
	if !slices.Contains(values, v) {
		*errs = append(*errs, fmt.Errorf("%w: option %s: %q is not one of %s", model.ErrConfig, name, v, strings.Join(values, ", ")))
	}
	return v
}

// check finds what both kinds of model refuse of a Spec: no model, unknown options, a bad prefix.
func check(spec model.Spec, known ...string) (prefix string, errs []error) {
	if spec.Model == "" {
		errs = append(errs, fmt.Errorf("%w: model is empty; name the one that the server serves", model.ErrConfig))
	}
	prefix, err := guard.Options(spec, "/v1", known...)
	if err != nil {
		errs = append(errs, err)
	}
	return prefix, errs
}

// extraFields reads the option extra as ",name:value..." to be put at the end of an object. Fields that
// the backend sends itself are refused: with one name twice, servers differ in which they take.
func extraFields(spec model.Spec, own ...string) ([]byte, error) {
	text, given := spec.Options["extra"]
	if !given {
		return nil, nil
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &fields); err != nil || fields == nil {
		return nil, fmt.Errorf(`%w: option extra: not a JSON object such as {"top_k":50}`, model.ErrConfig)
	}
	var errs []error
	var b bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if slices.Contains(own, name) {
			errs = append(errs, fmt.Errorf("%w: option extra: %q is set by promptmill itself", model.ErrConfig, name))
			continue
		}
		b.WriteByte(',')
		b.Write(appendString(nil, name))
		b.WriteByte(':')
		if err := json.Compact(&b, fields[name]); err != nil {
			errs = append(errs, fmt.Errorf("%w: option extra: %w", model.ErrConfig, err))
		}
	}
	return b.Bytes(), errors.Join(errs...)
}

// identity is what answers: the endpoint is not part of it.
func identity(spec model.Spec, deterministic bool) model.Info {
	return model.Info{Name: "openai " + spec.Model, Weights: spec.Model + "@" + spec.Revision, Deterministic: deterministic}
}
