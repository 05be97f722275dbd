// Package txt2img draws pictures on servers with AUTOMATIC1111's API, POST /sdapi/v1/txt2img:
// AUTOMATIC1111 itself, its forks, and the server of stable-diffusion.cpp. It registers the backend
// "txt2img".
//
// # Design
//
// These servers read a small language in prompts (emphasis, schedules, extra networks), and prompts
// here are anyone's text: unless told otherwise, everything is escaped, so that a prompt means the same
// on every backend. Servers that silently ignore the seed or the size are found out.
//
// # Options
//
//	prefix        path below the endpoint: "/sdapi/v1" unless given
//	emphasis      no (prompts are plain text) or yes (the server's prompt language is left as it is)
//	checkpoint    the server's name of the checkpoint to use; the loaded one unless given
//	extra         a JSON object of further fields for each request, such as {"clip_skip":2}
//	deterministic yes if the server is known to give equal pictures to equal requests; no unless given
package txt2img

import (
	"context"
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
	model.Register("txt2img", model.Backend{Images: open})
}

type images struct {
	client   *guard.Client
	path     string
	emphasis bool
	extra    map[string]any
	info     model.Info
}

func open(_ context.Context, spec model.Spec) (model.Images, error) {
	prefix, err := guard.Options(spec, "/sdapi/v1", "prefix", "emphasis", "checkpoint", "extra", "deterministic")
	errs := []error{err}
	yes := func(name string) bool {
		v := spec.Options[name]
		if v != "" && v != "yes" && v != "no" {
			errs = append(errs, fmt.Errorf("%w: option %s: %q is not yes or no", model.ErrConfig, name, v))
		}
		return v == "yes"
	}
	name := spec.Model
	if name == "" {
		name = "txt2img"
	}
	m := &images{
		path: prefix + "/txt2img", emphasis: yes("emphasis"), extra: map[string]any{},
		info: model.Info{Name: "txt2img " + name, Weights: name + "@" + spec.Revision, Deterministic: yes("deterministic")},
	}
	if text, given := spec.Options["extra"]; given {
		if err := json.Unmarshal([]byte(text), &m.extra); err != nil || m.extra == nil {
			errs = append(errs, fmt.Errorf(`%w: option extra: not a JSON object such as {"clip_skip":2}`, model.ErrConfig))
		}
		for _, own := range []string{"prompt", "negative_prompt", "seed", "sampler_name", "steps", "cfg_scale", "width", "height", "batch_size", "n_iter"} {
			if _, taken := m.extra[own]; taken {
				errs = append(errs, fmt.Errorf("%w: option extra: %q is set by promptmill itself", model.ErrConfig, own))
			}
		}
	}
	if checkpoint := spec.Options["checkpoint"]; checkpoint != "" && m.extra != nil {
		if _, taken := m.extra["override_settings"]; taken {
			errs = append(errs, fmt.Errorf("%w: options checkpoint and extra both have override_settings; put sd_model_checkpoint into those of extra", model.ErrConfig))
		}
		m.extra["override_settings"] = map[string]string{"sd_model_checkpoint": checkpoint}
	}
	client, err := guard.Open(spec)
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, err
	}
	m.client = client
	return m, nil
}

// Info implements model.Images.
func (m *images) Info() model.Info { return m.info }

// samplers are AUTOMATIC1111's names of diffusers' schedulers (modules/sd_samplers_kdiffusion.py and
// sd_samplers_timesteps.py).
var samplers = map[string]string{
	"pndm": "PLMS", "ddim": "DDIM", "euler": "Euler", "euler_a": "Euler a", "dpmpp_2m": "DPM++ 2M",
}

// request is what a server is sent.
type request struct {
	Prompt   string  `json:"prompt"`
	Negative string  `json:"negative_prompt"`
	Seed     int64   `json:"seed"`
	Sampler  string  `json:"sampler_name,omitempty"`
	Steps    int     `json:"steps,omitempty"`
	CFG      float64 `json:"cfg_scale"`
	Width    int     `json:"width"`
	Height   int     `json:"height"`
	Batch    int     `json:"batch_size"`
	Iter     int     `json:"n_iter"`
}

// Draw implements model.Images.
func (m *images) Draw(ctx context.Context, req model.ImageRequest) (model.ImageResponse, error) {
	body, err := m.encode(req)
	if err != nil {
		return model.ImageResponse{}, err
	}
	var data []byte
	_, err = m.client.Post(ctx, m.path, body, func(answer []byte) (err error) {
		data, err = decode(answer, req)
		return err
	})
	if err != nil {
		return model.ImageResponse{}, err
	}
	return model.ImageResponse{Data: data, Usage: model.Usage{Calls: 1}}, nil
}

func (m *images) encode(req model.ImageRequest) ([]byte, error) {
	sampler, known := samplers[req.Scheduler]
	if req.Scheduler != "" && !known {
		return nil, fmt.Errorf("%w: no sampler for scheduler %q; there are %s", model.ErrConfig, req.Scheduler, strings.Join(slices.Sorted(maps.Keys(samplers)), ", "))
	}
	q := request{
		Prompt: req.Prompt, Negative: req.NegativePrompt, Seed: req.Seed, Sampler: sampler, Steps: req.Steps,
		CFG: req.Guidance, Width: req.Width, Height: req.Height, Batch: 1, Iter: 1,
	}
	if !m.emphasis {
		q.Prompt, q.Negative = plain(q.Prompt), plain(q.Negative)
	}
	b, err := json.Marshal(q)
	if err == nil && len(m.extra) > 0 {
		var more []byte
		if more, err = json.Marshal(m.extra); err == nil {
			b = append(append(b[:len(b)-1], ','), more[1:]...)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", model.ErrRejected, err) // an infinite guidance, say
	}
	return b, nil
}

// decode reads the picture and looks whether it is the one asked for.
func decode(answer []byte, req model.ImageRequest) ([]byte, error) {
	var w struct {
		Images [][]byte `json:"images"`
		Info   any      `json:"info"`
	}
	if err := json.Unmarshal(answer, &w); err != nil {
		return nil, fmt.Errorf("not a txt2img answer: %w: %s", err, guard.Explain(answer))
	}
	if len(w.Images) == 0 {
		return nil, fmt.Errorf("no pictures: %s", guard.Explain(answer))
	}
	info, err := model.Measure(w.Images[0], model.PictureLimits{})
	if err != nil {
		return nil, err
	}
	if info.Width != req.Width || info.Height != req.Height {
		return nil, fmt.Errorf("%w: asked for %d x %d pixels, got %d x %d; ask for a size that the server draws", model.ErrRejected, req.Width, req.Height, info.Width, info.Height)
	}
	// info is JSON inside a string; sd-server leaves it empty.
	text, _ := w.Info.(string)
	var said struct {
		Seed *int64 `json:"seed"`
	}
	if json.Unmarshal([]byte(text), &said) == nil && said.Seed != nil && *said.Seed != req.Seed {
		return nil, fmt.Errorf("%w: asked for seed %d, the server used %d; pictures of one prompt must share theirs", model.ErrConfig, req.Seed, *said.Seed)
	}
	return w.Images[0], nil
}
