package openai

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/guard"
)

// images is a text-to-image model behind an endpoint.
type images struct {
	client *guard.Client
	path   string
	name   string
	extra  []byte
	fields string
	seed   bool
	info   model.Info
}

var imageOptions = []string{"prefix", "seed", "extra", "deterministic", "fields"}

func openImages(_ context.Context, spec model.Spec) (model.Images, error) {
	prefix, errs := check(spec, imageOptions...)
	seed := choice(&errs, spec.Options, "seed", "yes", "no")
	fields := choice(&errs, spec.Options, "fields", "extended", "plain", "sd_cpp")
	deterministic := choice(&errs, spec.Options, "deterministic", "no", "yes")
	extra, err := extraFields(spec, "model", "prompt", "n", "size", "response_format", "negative_prompt", "num_inference_steps", "guidance_scale", "seed")
	errs = append(errs, err)
	client, err := guard.Open(spec)
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, err
	}
	return &images{
		client: client, path: prefix + "/images/generations", name: spec.Model, extra: extra,
		fields: fields, seed: seed == "yes", info: identity(spec, deterministic == "yes"),
	}, nil
}

// Info implements model.Images.
func (m *images) Info() model.Info { return m.info }

// Draw implements model.Images. A picture of another size than asked for is an error: some servers
// round sizes silently. The scheduler is the server's own.
func (m *images) Draw(ctx context.Context, req model.ImageRequest) (model.ImageResponse, error) {
	body, err := m.encode(req)
	if err != nil {
		return model.ImageResponse{}, err
	}
	resp := model.ImageResponse{Usage: model.Usage{Calls: 1}}
	_, err = m.client.Post(ctx, m.path, body, func(answer []byte) (err error) {
		if resp.Data, resp.Flagged, err = decodeImage(answer); err != nil {
			return err
		}
		return checkSize(resp.Data, req)
	})
	if err != nil {
		return model.ImageResponse{}, err
	}
	return resp, nil
}

func checkSize(data []byte, req model.ImageRequest) error {
	info, err := model.Measure(data, model.PictureLimits{})
	if err != nil {
		return err
	}
	if info.Width != req.Width || info.Height != req.Height {
		return fmt.Errorf("%w: asked for %d x %d pixels, got %d x %d; ask for a size that the server draws", model.ErrRejected, req.Width, req.Height, info.Width, info.Height)
	}
	return nil
}

func (m *images) encode(req model.ImageRequest) ([]byte, error) {
	prompt := req.Prompt
	if m.fields == "sd_cpp" {
		extra, err := m.insidePrompt(req)
		if err != nil {
			return nil, err
		}
		// The server takes the first such element, and prompts are anyone's.
		prompt = strings.ReplaceAll(prompt, "<sd_cpp", "< sd_cpp") + extra
	}
	b := append(make([]byte, 0, 1024), `{"model":`...)
	b = appendString(b, m.name)
	b = append(b, `,"prompt":`...)
	b = appendString(b, prompt)
	b = fmt.Appendf(b, `,"n":1,"size":"%dx%d","response_format":"b64_json"`, req.Width, req.Height)
	if m.fields == "extended" {
		if req.NegativePrompt != "" {
			b = append(b, `,"negative_prompt":`...)
			b = appendString(b, req.NegativePrompt)
		}
		if req.Steps > 0 {
			b = append(b, `,"num_inference_steps":`...)
			b = strconv.AppendInt(b, int64(req.Steps), 10)
		}
		b = append(b, `,"guidance_scale":`...)
		b = appendFloat(b, req.Guidance)
		if m.seed {
			b = append(b, `,"seed":`...)
			b = strconv.AppendInt(b, req.Seed, 10)
		}
	}
	b = append(b, m.extra...)
	return append(b, '}'), nil
}

// insidePrompt is how stable-diffusion.cpp's server takes what OpenAI's format has no field for.
func (m *images) insidePrompt(req model.ImageRequest) (string, error) {
	type sample struct {
		Steps    int `json:"sample_steps,omitempty"`
		Guidance struct {
			TxtCFG float64 `json:"txt_cfg"`
		} `json:"guidance"`
	}
	args := struct {
		Seed     *int64 `json:"seed,omitempty"`
		Negative string `json:"negative_prompt,omitempty"`
		Sample   sample `json:"sample_params"`
	}{Negative: req.NegativePrompt}
	if m.seed {
		args.Seed = &req.Seed
	}
	args.Sample.Steps, args.Sample.Guidance.TxtCFG = req.Steps, req.Guidance
	b, err := json.Marshal(args)
	if err != nil {
		return "", fmt.Errorf("%w: %w", model.ErrRejected, err) // an infinite guidance, say
	}
	return " <sd_cpp_extra_args>" + string(b) + "</sd_cpp_extra_args>", nil
}
