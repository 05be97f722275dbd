// Package diffusion draws pictures with Stable Diffusion models in ONNX: a folder with text_encoder, unet,
// vae_decoder, tokenizer and scheduler, as diffusers and Optimum write it. Stable Diffusion 1 and 2, and what is
// trained in their form, run by their folder alone.
//
// # Design
//
// What a folder does not say is found in the models' inputs and outputs. Requests for pictures of one size and number of
// steps are drawn together, however many bundles they come from; each picture has its own noise, its own walk and
// its own guidance, so that it does not depend on the others in its batch.
//
// A folder's safety_checker is run if it is there: what it finds against becomes a black picture that is flagged.
//
// The seed of a request is PyTorch's: the noise is what torch.Generator("cpu").manual_seed(seed) gives diffusers.
package diffusion

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/diffusion/scheduler"
	"github.com/promptmill/promptmill/model/onnx"
)

// Options say how a folder is run. The zero value draws up to 8 pictures at a time on one thread of the CPU.
type Options struct {
	onnx.Options
	// MaxBatch bounds the pictures drawn together; 0 is 8.
	MaxBatch int
	// Parallel bounds the batches drawn at a time; 0 is 1.
	Parallel int
	// MaxPixels bounds a picture; 0 is 1024 x 1024.
	MaxPixels int
}

// A Pipeline is a Stable Diffusion folder, ready to draw. It implements model.Images.
type Pipeline struct {
	*parts
	info      model.Info
	maxPixels int
	batches   *onnx.Batcher[batchKey, model.ImageRequest, model.ImageResponse]

	mu        sync.Mutex
	negatives map[string][]float32
}

// batchKey is what requests have in common that are drawn together.
type batchKey struct {
	width, height, steps int
	scheduler            string
	guided               bool
}

// joining is how long a request waits for others: a small part of what a picture takes.
const joining = 2 * time.Millisecond

// Open loads a folder. Its errors name the file that is at fault.
func Open(folder string, o Options) (*Pipeline, error) {
	p, err := openParts(folder, o.Options)
	if err != nil {
		return nil, fmt.Errorf("diffusion model %s: %w", folder, err)
	}
	digest, err := onnx.Digest(folder)
	if err != nil {
		p.close()
		return nil, err
	}
	pipeline := &Pipeline{parts: p, maxPixels: o.MaxPixels, negatives: map[string][]float32{}}
	if pipeline.maxPixels == 0 {
		pipeline.maxPixels = 1 << 20
	}
	device := p.unet.Device()
	pipeline.info = model.Info{Name: "diffusion " + folder + " on " + device, Weights: digest, Deterministic: p.unet.OnCPU()}
	limit := o.MaxBatch
	if limit == 0 {
		limit = 8
	}
	pipeline.batches = onnx.NewBatcher(limit, o.Parallel, joining, pipeline.draw)
	return pipeline, nil
}

// Info implements model.Images. The weights are the digest of the folder's files.
func (p *Pipeline) Info() model.Info { return p.info }

// Close frees the models. Nothing may draw then.
func (p *Pipeline) Close() { p.close() }

// schedulers are the names that requests use for diffusers' classes.
var schedulers = map[string]string{
	"pndm": scheduler.PNDM, "ddim": scheduler.DDIM, "euler": scheduler.Euler, "euler_a": scheduler.EulerAncestral, "dpmpp_2m": scheduler.DPMSolver,
}

// schedule is the folder's scheduler, or the one asked for with the folder's settings.
func (p *Pipeline) schedule(name string, steps int) (*scheduler.Schedule, error) {
	c := p.scheduler
	if name != "" {
		class, ok := schedulers[name]
		if !ok {
			return nil, fmt.Errorf("scheduler %q: there are %s", name, strings.Join(slices.Sorted(maps.Keys(schedulers)), ", "))
		}
		c.Class = class
	}
	return scheduler.New(c, steps)
}

// Draw implements model.Images. A guidance of 1 or less does without classifier-free guidance, and then the negative
// prompt has no effect. Text beyond the text encoder's length is cut off.
func (p *Pipeline) Draw(ctx context.Context, req model.ImageRequest) (model.ImageResponse, error) {
	none := model.ImageResponse{}
	if err := p.takes(req.Width, req.Height); err != nil {
		return none, fmt.Errorf("%w: draw %w", model.ErrRejected, err)
	}
	if req.Width*req.Height > p.maxPixels {
		return none, fmt.Errorf("%w: draw %dx%d pixels: more than %d", model.ErrRejected, req.Width, req.Height, p.maxPixels)
	}
	if _, err := p.schedule(req.Scheduler, req.Steps); err != nil {
		return none, fmt.Errorf("%w: %w", model.ErrRejected, err)
	}
	key := batchKey{req.Width, req.Height, req.Steps, req.Scheduler, req.Guidance > 1}
	return p.batches.Do(ctx, key, req)
}
