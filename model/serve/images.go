package serve

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	mathrand "math/rand/v2"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/promptmill/promptmill/model"
)

const (
	maxSteps    = 1000 // those of the noise schedule of every model in use
	maxGuidance = 100
)

// imagesRequest is OpenAI's request for pictures, with the extensions of the package comment.
type imagesRequest struct {
	Model          string          `json:"model"`
	Prompt         *string         `json:"prompt"`
	N              *int            `json:"n"`
	Size           string          `json:"size"`
	ResponseFormat string          `json:"response_format"`
	User           json.RawMessage `json:"user"`

	Seed           *int64   `json:"seed"`
	NegativePrompt string   `json:"negative_prompt"`
	Steps          *int     `json:"num_inference_steps"`
	Guidance       *float64 `json:"guidance_scale"`
	Scheduler      *string  `json:"scheduler"`
}

type imagesAnswer struct {
	Created int64       `json:"created"`
	Data    []imageData `json:"data"`
}

type imageData struct {
	B64JSON []byte `json:"b64_json"`
	Seed    int64  `json:"seed"`
	Flagged bool   `json:"nsfw_content_detected,omitempty"`
}

// images answers POST /v1/images/generations.
func (s *Server) images(ctx context.Context, body []byte) (reply, error) {
	var q imagesRequest
	if err := strict("", body, &q); err != nil {
		return nil, err
	}
	if err := named(q.Model, s.models.ImagesName, "images"); err != nil {
		return nil, err
	}
	req, n, err := s.imageRequest(q)
	if err != nil {
		return nil, err
	}
	out := imagesAnswer{Created: time.Now().Unix(), Data: make([]imageData, n)}
	group, ctx := errgroup.WithContext(ctx)
	for i := range out.Data {
		req := req
		req.Seed += int64(i)
		group.Go(func() (err error) {
			out.Data[i], err = s.draw(ctx, req)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	s.metrics.drawn.Add(float64(n))
	return jsonReply{out}, nil
}

func (s *Server) draw(ctx context.Context, req model.ImageRequest) (imageData, error) {
	resp, err := s.models.Images.Draw(ctx, req)
	if err != nil {
		return imageData{}, err
	}
	info, err := model.Inspect(resp.Data, model.PictureLimits{MaxPixels: s.cfg.MaxPixels})
	if err != nil {
		return imageData{}, fmt.Errorf("drawn with seed %d: %w", req.Seed, err)
	}
	if info.Width != req.Width || info.Height != req.Height {
		return imageData{}, wrong("size", "this model does not draw %dx%d; the nearest that it draws is %dx%d", req.Width, req.Height, info.Width, info.Height)
	}
	return imageData{resp.Data, req.Seed, resp.Flagged}, nil
}

// imageRequest checks q and puts it in package model's terms.
func (s *Server) imageRequest(q imagesRequest) (req model.ImageRequest, n int, err error) {
	d := s.cfg.Drawing
	req = model.ImageRequest{
		NegativePrompt: q.NegativePrompt, Width: d.Width, Height: d.Height, Steps: d.Steps,
		Guidance: d.Guidance, Scheduler: d.Scheduler, Seed: mathrand.Int64N(maxSeed),
	}
	n = 1
	if q.Prompt == nil {
		return req, n, wrong("prompt", "there is none")
	}
	req.Prompt = *q.Prompt
	if f := q.ResponseFormat; f != "" && f != "b64_json" {
		return req, n, wrong("response_format", "%q is not b64_json: this server keeps no pictures to link to", f)
	}
	if v := q.N; v != nil {
		if n = *v; n < 1 || n > s.cfg.MaxPictures {
			return req, n, wrong("n", "%d is not in 1..%d", n, s.cfg.MaxPictures)
		}
	}
	if q.Size != "" && q.Size != "auto" {
		if req.Width, req.Height, err = s.size(q.Size); err != nil {
			return req, n, err
		}
	}
	if v := q.Seed; v != nil {
		if req.Seed = *v; *v < 0 || *v > math.MaxInt32-int64(n-1) {
			return req, n, wrong("seed", "%d is not in 0..%d", *v, math.MaxInt32-int64(n-1))
		}
	}
	if v := q.Steps; v != nil {
		if req.Steps = *v; *v < 1 || *v > maxSteps {
			return req, n, wrong("num_inference_steps", "%d is not in 1..%d", *v, maxSteps)
		}
	}
	if v := q.Guidance; v != nil {
		if req.Guidance = *v; *v < 0 || *v > maxGuidance {
			return req, n, wrong("guidance_scale", "%v is not in 0..%d", *v, maxGuidance)
		}
	}
	if q.Scheduler != nil {
		req.Scheduler = *q.Scheduler
	}
	return req, n, nil
}

func (s *Server) size(text string) (w, h int, err error) {
	wide, high, _ := strings.Cut(text, "x")
	w, errW := strconv.Atoi(wide)
	h, errH := strconv.Atoi(high)
	if errW != nil || errH != nil || w < 1 || h < 1 {
		return 0, 0, wrong("size", "%q is not WIDTHxHEIGHT such as 512x512", text)
	}
	if int64(w) > s.cfg.MaxPixels/int64(h) {
		return 0, 0, wrong("size", "%s is more than %d pixels", text, s.cfg.MaxPixels)
	}
	return w, h, nil
}
