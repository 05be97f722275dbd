// Package imagegen draws the pictures of a slate: of the raw prompt, and of each candidate. Slates go in,
// slates with references to pictures come out; the bytes stay in the blob store.
//
// # Design
//
// The raw prompt and all candidates of a slate are drawn from one seed, so that a judge compares texts
// and not noise. A black or flagged picture is drawn again from the next attempt's seed, which is
// again one for the whole slate: two candidates at their second attempt still share it. The others keep
// the picture they have: if a candidate needs another attempt, the raw picture's seed stays. A candidate
// that says what the raw prompt says has the same request, hence the same picture, from the log.
//
// The ledger has two stages, because their units differ: "draw_raw" counts the raw pictures of slates
// that have candidates, "draw" the candidates. Without a raw picture there is nothing to compare, so
// all candidates die with it.
package imagegen

import (
	"context"
	"fmt"
	"reflect"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/responselog"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/async"
	"github.com/promptmill/promptmill/transforms/settings"
)

func init() {
	beam.RegisterDoFn(reflect.TypeFor[drawFn]())
	register.Emitter2[beam.EventTime, schemas.Slate]()
	register.Emitter1[schemas.Rejected]()
	register.Emitter1[schemas.Count]()
}

// Stages in the ledger and in dead letters.
const (
	Stage    = "draw"
	StageRaw = "draw_raw"
)

// Reasons of these stages, beside those of package deadletter.
const (
	// RawPictureMissing: the raw prompt's picture is dead, so the candidate's compares with nothing.
	RawPictureMissing = "raw_picture_missing"
	// Black and Flagged: the last attempt showed nothing, or the safety checker replaced it.
	Black   = "black"
	Flagged = "flagged"
	// BadPicture: no PNG or JPEG, damaged, or too large.
	BadPicture = "bad_picture"
)

// Config says how pictures are drawn.
type Config struct {
	// Model draws; Cache is the URL of the response log, whose store also keeps the pictures.
	Model model.Spec `json:"model" yaml:"-"`
	Cache string     `json:"cache" yaml:"-"`
	// Width and Height are in pixels.
	Width  int `json:"width" yaml:"width"`
	Height int `json:"height" yaml:"height"`
	// Steps is the number of denoising steps, Guidance the scale of classifier-free guidance.
	Steps    int     `json:"steps" yaml:"steps"`
	Guidance float64 `json:"guidance" yaml:"guidance"`
	// Scheduler is a diffusers-style name; "" leaves it to the backend.
	Scheduler      string `json:"scheduler" yaml:"scheduler"`
	NegativePrompt string `json:"negative_prompt" yaml:"negative_prompt"`
	// Attempts is how many seeds a black or flagged picture gets in all. ExtraAttempts adds to it when
	// dead letters are run again: the attempts before come from the response log.
	Attempts      int `json:"attempts" yaml:"attempts"`
	ExtraAttempts int `json:"extra_attempts" yaml:"-"`
	// MaxPixels bounds what is decoded of a server's answer; 0 is the default of model.PictureLimits.
	MaxPixels int64 `json:"max_pixels" yaml:"max_pixels"`
	// Seed is the run's.
	Seed int64 `json:"seed" yaml:"-"`
	// InFlight bounds the slates at work in one bundle; it does not bound a server's load.
	InFlight int `json:"in_flight" yaml:"in_flight"`
}

// DefaultConfig draws as the paper does (section 4.1): Stable Diffusion v1.5 in 20 steps, with the
// size, guidance and scheduler that model is published with. Model and Cache are left to the caller.
func DefaultConfig() Config {
	return Config{Width: 512, Height: 512, Steps: 20, Guidance: 7.5, Scheduler: "pndm", Attempts: 3, InFlight: 12}
}

// Validate joins all faults of c, each beginning with its place in a recipe.
func (c Config) Validate() error {
	faults := settings.Of("imagegen")
	faults.Check(c.Model.Backend != "", "model.backend: empty; name one of the backends")
	faults.Check(c.Cache != "", "cache: empty; name the folder that keeps the answers and the pictures")
	faults.Check(c.Width >= 8 && c.Width <= 4096 && c.Width%8 == 0, "width: %d is not a multiple of 8 in 8..4096", c.Width)
	faults.Check(c.Height >= 8 && c.Height <= 4096 && c.Height%8 == 0, "height: %d is not a multiple of 8 in 8..4096", c.Height)
	faults.Check(c.Steps >= 1 && c.Steps <= 1000, "steps: %d is not in 1..1000", c.Steps)
	faults.Check(c.Guidance >= 0 && c.Guidance <= 50, "guidance: %v is not in 0..50", c.Guidance)
	faults.Check(c.Attempts >= 1 && c.Attempts <= 10, "attempts: %d is not in 1..10", c.Attempts)
	faults.Check(c.ExtraAttempts >= 0 && c.ExtraAttempts <= 10, "extra_attempts: %d is not in 0..10", c.ExtraAttempts)
	faults.Check(c.MaxPixels == 0 || c.MaxPixels >= int64(c.Width)*int64(c.Height), "max_pixels: %d is less than the %d x %d asked for; 0 takes the default", c.MaxPixels, c.Width, c.Height)
	faults.Check(c.InFlight >= 1 && c.InFlight <= async.MaxInFlight, "in_flight: %d is not in 1..%d", c.InFlight, async.MaxInFlight)
	return faults.Err()
}

// Draw draws the pictures of every slate of a PCollection<schemas.Slate>. It returns a
// PCollection<schemas.Slate> with the same slates, Raw and each candidate's Image set, or left zero
// where there is no picture to judge; a PCollection<schemas.Rejected>; and the PCollection<schemas.Count>
// of both stages. A slate without candidates passes through. It panics if cfg is not valid.
func Draw(s beam.Scope, cfg Config, slates beam.PCollection) (drawn, rejected, counts beam.PCollection) {
	s = s.Scope("imagegen.Draw")
	if err := cfg.Validate(); err != nil {
		panic(err)
	}
	return beam.ParDo3(s, &drawFn{Config: cfg}, slates)
}

type drawFn struct {
	Config Config

	pictures *responselog.PictureLog
	bundle   async.Counted[schemas.Slate, drawn]
}

func (fn *drawFn) Setup(ctx context.Context) error {
	log, err := responselog.Open(ctx, fn.Config.Cache)
	if err != nil {
		return fmt.Errorf("imagegen: %w", err)
	}
	images, err := model.OpenImages(ctx, fn.Config.Model)
	if err != nil {
		return fmt.Errorf("imagegen: %w", err)
	}
	fn.pictures = responselog.Pictures(images, log, model.PictureLimits{MaxPixels: fn.Config.MaxPixels})
	return nil
}

func (fn *drawFn) StartBundle(ctx context.Context, _ func(beam.EventTime, schemas.Slate), _ func(schemas.Rejected), _ func(schemas.Count)) {
	fn.bundle.Start(ctx, fn.Config.InFlight, fn.draw)
}

func (fn *drawFn) ProcessElement(_ context.Context, t beam.EventTime, slate schemas.Slate, slates func(beam.EventTime, schemas.Slate), rejected func(schemas.Rejected), _ func(schemas.Count)) error {
	return fn.bundle.Submit(t, slate, fn.take(slates, rejected))
}

func (fn *drawFn) FinishBundle(_ context.Context, slates func(beam.EventTime, schemas.Slate), rejected func(schemas.Rejected), counts func(schemas.Count)) error {
	return fn.bundle.Finish(fn.take(slates, rejected), counts)
}

// take emits and counts what was drawn for one slate; it runs on the bundle's goroutine.
func (fn *drawFn) take(slates func(beam.EventTime, schemas.Slate), rejected func(schemas.Rejected)) func(beam.EventTime, drawn) {
	return func(t beam.EventTime, d drawn) {
		if n := len(d.slate.Candidates); n > 0 {
			fn.bundle.Tally.In(StageRaw, 1)
			fn.bundle.Tally.In(Stage, n)
		}
		if d.slate.Raw.SHA256 != "" {
			fn.bundle.Tally.Out(StageRaw, 1)
		}
		for _, c := range d.slate.Candidates {
			if c.Image.SHA256 != "" {
				fn.bundle.Tally.Out(Stage, 1)
			}
		}
		for _, dead := range d.dead {
			fn.bundle.Tally.Dead(dead.Stage, dead.Reason, 1)
			rejected(dead)
		}
		fn.bundle.Tally.Spent(StageRaw, d.rawUsage)
		fn.bundle.Tally.Spent(Stage, d.usage)
		slates(t, d.slate)
	}
}
