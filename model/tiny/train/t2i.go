package train

import (
	"errors"
	"fmt"
)

// T2IConfig says how the text-to-image model is trained. DefaultT2I made the weights that come with promptmill.
type T2IConfig struct {
	Seed uint64 `json:"seed" yaml:"seed"`
	// Steps is how long the whole model is trained; the learning rate falls over them. Stop ends each phase after so many
	// steps at the rates of the whole run, for a look; 0 does not.
	Steps int64 `json:"steps" yaml:"steps"`
	Stop  int64 `json:"stop" yaml:"stop"`
	// Pictures is how many captions there are; each is drawn when it is first taken. The first CodecPictures of them
	// give the latents.
	Pictures      int `json:"pictures" yaml:"pictures"`
	CodecPictures int `json:"codec_pictures" yaml:"codec_pictures"`
	// TextSteps is how long the text encoder is trained alone before, on TextBatch captions a step, to tell what the renderer
	// was told.
	TextSteps int64 `json:"text_steps" yaml:"text_steps"`
	TextBatch int   `json:"text_batch" yaml:"text_batch"`
	// Texts is how many captions a step takes, Times how many samples of noise for each.
	Texts int `json:"texts" yaml:"texts"`
	Times int `json:"times" yaml:"times"`
	// Dropped is the share of texts that are emptied, which guidance needs.
	Dropped float64 `json:"dropped" yaml:"dropped"`
	// Uniform is the share of samples with any timestep; the others have one of Noisy or later, where a text counts most.
	Uniform float64 `json:"uniform" yaml:"uniform"`
	Noisy   int     `json:"noisy" yaml:"noisy"`
	// Emphasis is the power of the noise's share that a sample's loss is multiplied by: 0 weighs the errors of v alike, 1
	// those of the picture.
	Emphasis float64 `json:"emphasis" yaml:"emphasis"`
	// Mix makes the captions.
	Mix Mix `json:"mix" yaml:"mix"`
	// TextRate and Rate are the highest learning rates of the two phases, Warmup the steps to Rate.
	TextRate float64 `json:"text_rate" yaml:"text_rate"`
	Rate     float64 `json:"rate" yaml:"rate"`
	Warmup   int64   `json:"warmup" yaml:"warmup"`
	// Threads may change the last bits of the result.
	Threads int `json:"threads" yaml:"threads"`
}

// DefaultT2I is the run that the committed model comes from.
func DefaultT2I() T2IConfig {
	return T2IConfig{
		Seed: 1, Steps: 4800, Pictures: 48000, CodecPictures: 1000, TextSteps: 300, TextBatch: 160, Texts: 60, Times: 2, Dropped: .1, Uniform: .35, Noisy: 450, Emphasis: .5,
		Mix: Mix{Swapped: .4, Bare: .25, Real: .25}, TextRate: 2e-3, Rate: 1.5e-3, Warmup: 100, Threads: 1,
	}
}

// Validate says what is wrong with the configuration, all at once.
func (c T2IConfig) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(c.Steps >= 1, "t2i.steps: %d is not 1 or more", c.Steps)
	check(c.Stop >= 0, "t2i.stop: %d is negative; 0 trains to the end", c.Stop)
	check(c.CodecPictures >= 32, "t2i.codec_pictures: %d are too few for %d components; take 32 or more", c.CodecPictures, channels)
	check(c.Pictures >= c.CodecPictures, "t2i.pictures: %d are fewer than codec_pictures, %d", c.Pictures, c.CodecPictures)
	check(c.TextSteps >= 0, "t2i.text_steps: %d is negative", c.TextSteps)
	check(c.TextBatch >= 1 && c.TextBatch <= 4096, "t2i.text_batch: %d is not in 1..4096", c.TextBatch)
	check(c.Texts >= 1 && c.Texts <= 4096, "t2i.texts: %d is not in 1..4096", c.Texts)
	check(c.Times >= 1 && c.Times <= 64, "t2i.times: %d is not in 1..64", c.Times)
	check(c.Dropped >= 0 && c.Dropped < 1, "t2i.dropped: %g is not in [0, 1)", c.Dropped)
	check(c.Uniform >= 0 && c.Uniform <= 1, "t2i.uniform: %g is not in 0..1", c.Uniform)
	check(c.Noisy >= 0 && c.Noisy < timesteps, "t2i.noisy: %d is not in 0..%d", c.Noisy, timesteps-1)
	check(c.Emphasis >= 0, "t2i.emphasis: %g is negative", c.Emphasis)
	check(c.Mix.Swapped >= 0 && c.Mix.Swapped <= 1, "t2i.mix.swapped: %g is not in 0..1", c.Mix.Swapped)
	check(c.Mix.Bare >= 0 && c.Mix.Real >= 0 && c.Mix.Bare+c.Mix.Real <= 1, "t2i.mix: bare %g and real %g are not shares of 1", c.Mix.Bare, c.Mix.Real)
	check(c.TextRate > 0, "t2i.text_rate: %g is not above 0", c.TextRate)
	check(c.Rate > 0, "t2i.rate: %g is not above 0", c.Rate)
	check(c.Warmup >= 0, "t2i.warmup: %d is negative", c.Warmup)
	check(c.Threads >= 1, "t2i.threads: %d is not 1 or more", c.Threads)
	return errors.Join(errs...)
}

// cut is how many of a phase's steps are made.
func (c T2IConfig) cut(steps int64) int64 {
	if c.Stop > 0 {
		return min(steps, c.Stop)
	}
	return steps
}
