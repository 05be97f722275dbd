package train

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"github.com/promptmill/promptmill/model/onnx/onnxfile"
	"github.com/promptmill/promptmill/model/tokenizer"
	"github.com/promptmill/promptmill/model/trainers/embedded"
)

// A Phase of a training run has losses of its own.
type Phase string

// The phases of the text-to-image model's run, in order. Their losses are those of what the renderer was told and of the
// noise.
const (
	TextPhase    Phase = "text"
	PicturePhase Phase = "pictures"
)

// Told hears of each step of a run, from 1 in each phase, and its loss.
type Told func(phase Phase, step int64, loss float64)

// T2I trains the text-to-image model on prompts of the training part and writes it to dir as a Stable Diffusion folder.
// A run that was interrupted goes on where a checkpoint of it lies in dir: it must have had the same configuration.
func T2I(ctx context.Context, dir string, prompts []Prompt, bpe *BPE, c T2IConfig, told Told) error {
	if err := c.Validate(); err != nil {
		return err
	}
	words, err := writePictureTokenizer(dir, bpe)
	if err != nil {
		return err
	}
	corpus, err := NewCorpus(prompts, Training)
	if err != nil {
		return err
	}
	g := newGallery(c, corpus, words)
	texts, whole := textTrainingGraph(c.Seed, c.TextBatch), trainingGraph(c.Seed, c.Texts, c.Times)
	params, err := embedded.NewParams(nil, texts, whole)
	if err != nil {
		return fmt.Errorf("train the text-to-image model: %w", err)
	}
	defer params.Close()
	r := &t2iRun{c, params, filepath.Join(dir, "checkpoint"), told}
	if err := params.Load(r.checkpoint); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("go on with the text-to-image model: %w; remove the file to begin again", err)
	}
	batch, err := newTextBatch(c.TextBatch)
	if err != nil {
		return err
	}
	defer batch.close()
	err = r.phase(ctx, phase{
		name: TextPhase, begin: 0, steps: c.cut(c.TextSteps), graph: texts, loss: "loss", batch: batch.batch,
		rates: embedded.Schedule{Peak: c.TextRate, Floor: .2, Warmup: 30, Steps: c.TextSteps},
		fill:  func(step int64) { batch.draw(c, g, step) },
	})
	if err != nil {
		return err
	}
	pictures, err := newPictureBatch(c)
	if err != nil {
		return err
	}
	defer pictures.close()
	err = r.phase(ctx, phase{
		name: PicturePhase, begin: c.cut(c.TextSteps), steps: c.cut(c.Steps), graph: whole, loss: "noise", batch: pictures.batch,
		rates: embedded.Schedule{Peak: c.Rate, Floor: .03, Warmup: c.Warmup, Steps: c.Steps},
		fill:  func(step int64) { pictures.draw(c, g, step) },
	})
	if err != nil {
		return err
	}
	if err := writeStableDiffusion(dir, params, g.codec); err != nil {
		return err
	}
	if err := os.Remove(r.checkpoint); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// writePictureTokenizer writes the folder's tokenizer and reads it as samplers do.
func writePictureTokenizer(dir string, bpe *BPE) (*tokenizer.Tokenizer, error) {
	data, err := bpe.JSON(ForPictures)
	if err != nil {
		return nil, err
	}
	if err := write(dir, filepath.Join("tokenizer", "tokenizer.json"), data); err != nil {
		return nil, err
	}
	return tokenizer.Open(filepath.Join(dir, "tokenizer"))
}

type t2iRun struct {
	config     T2IConfig
	params     *embedded.Params
	checkpoint string
	told       Told
}

// phase is steps of one graph. The run's steps are counted from begin on.
type phase struct {
	name         Phase
	begin, steps int64
	graph        *onnxfile.Model
	loss         string // what is told
	batch        batch
	fill         func(step int64)
	rates        embedded.Schedule
}

const saveEvery = 200 // steps

var adamW = embedded.AdamW{Beta1: .9, Beta2: .95, WeightDecay: .01, ClipNorm: 1, EMADecay: .998}

func (r *t2iRun) phase(ctx context.Context, p phase) error {
	end := p.begin + p.steps
	if r.params.Steps() >= end {
		return nil
	}
	gradient, err := embedded.Compile(p.graph, "loss", r.params, p.batch.feeds, r.config.Threads)
	if err != nil {
		return fmt.Errorf("train the text-to-image model: %w", err)
	}
	defer gradient.Close()
	for r.params.Steps() < end {
		step := r.params.Steps() - p.begin
		p.fill(step)
		values, err := gradient.Run(ctx, p.batch.feeds)
		if err != nil {
			return errors.Join(fmt.Errorf("train the text-to-image model: %s, step %d: %w", p.name, step+1, err), r.save())
		}
		if norm := r.params.Step(adamW, p.rates.Rate(step)); math.IsNaN(norm) || math.IsInf(norm, 0) {
			return fmt.Errorf("train the text-to-image model: %s, step %d: the gradients are not finite; lower the learning rate", p.name, step+1)
		}
		r.told(p.name, step+1, float64(values[p.loss]))
		if (step+1)%saveEvery == 0 {
			if err := r.save(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *t2iRun) save() error {
	if r.params.Steps() == 0 {
		return nil
	}
	return r.params.Save(r.checkpoint)
}
