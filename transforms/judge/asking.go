package judge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/async"
	"github.com/promptmill/promptmill/transforms/ledger"
)

// Asking is what the settings of all steps that ask a model about two pictures have in common.
type Asking struct {
	// Model is who is asked; Cache is the URL of the response log, whose store has the pictures.
	Model model.Spec
	Cache string

	Temperature, TopP float64
	// MaxTokens bounds an answer in the model's tokens.
	MaxTokens int
	// Retries is how often an answer of no use is asked for again, at most MostRetries.
	Retries, MostRetries int
	// InFlight bounds the elements at work in one bundle.
	InFlight int
}

// Validate joins all faults of a, whose settings stand in that section of a recipe.
func (a Asking) Validate(section string) error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(section+"."+format, args...))
		}
	}
	check(a.Model.Backend != "", "model.backend: empty; name one of the backends")
	check(a.Cache != "", "cache: empty; name the folder that keeps the answers and the pictures")
	check(a.Temperature >= 0 && a.Temperature <= 2, "temperature: %v is not in 0..2", a.Temperature)
	check(a.TopP > 0 && a.TopP <= 1, "top_p: %v is not above 0 and at most 1", a.TopP)
	check(a.MaxTokens >= 1, "max_tokens: %d is not at least 1", a.MaxTokens)
	check(a.Retries >= 0 && a.Retries <= a.MostRetries, "retries: %d is not in 0..%d", a.Retries, a.MostRetries)
	check(a.InFlight >= 1 && a.InFlight <= 4096, "in_flight: %d is not in 1..4096", a.InFlight)
	return errors.Join(errs...)
}

// ValidateChance refuses to ask again where the same answer would come again.
func (a Asking) ValidateChance(section string) error {
	if a.Temperature == 0 && a.Retries > 0 {
		return fmt.Errorf("%s.temperature: 0 gives the same answer %d times more; raise it, or set retries to 0", section, a.Retries)
	}
	return nil
}

// ValidateAspects joins the faults of a list of aspects, and those that of has of each that is known.
func ValidateAspects(section string, aspects []string, of func(aspect string) error) error {
	if len(aspects) == 0 {
		return fmt.Errorf("%s.aspects: none; there are %s", section, strings.Join(Aspects(), ", "))
	}
	var errs []error
	for i, a := range aspects {
		switch {
		case !slices.Contains(Aspects(), a):
			errs = append(errs, fmt.Errorf("%s.aspects[%d]: there is no %q; there are %s", section, i, a, strings.Join(Aspects(), ", ")))
		case slices.Contains(aspects[:i], a):
			errs = append(errs, fmt.Errorf("%s.aspects[%d]: %q stands there twice", section, i, a))
		default:
			errs = append(errs, of(a))
		}
	}
	return errors.Join(errs...)
}

// A Desk is what the DoFns have in common that put single questions about each element: who is asked, the
// elements at work, and what is counted. Embed it in a DoFn as an unexported field; it belongs to one bundle at a
// time.
type Desk[I, O any] struct {
	// Asker is there after Open.
	Asker *Asker
	Tally ledger.Tally

	bundle async.Bundle[I, O]
}

// Open opens who is asked: call it in Setup.
func (d *Desk[I, O]) Open(ctx context.Context, a Asking) (err error) {
	d.Asker, err = OpenAsker(ctx, a.Model, a.Cache, model.Sampling{Temperature: a.Temperature, TopP: a.TopP, MaxTokens: a.MaxTokens})
	return err
}

// Start begins a bundle in which call is made for each element, for at most inFlight at once.
func (d *Desk[I, O]) Start(ctx context.Context, inFlight int, call func(context.Context, I) (O, error)) {
	d.Tally.Reset()
	d.bundle.Start(ctx, inFlight, call)
}

// Submit is that of async.Bundle.
func (d *Desk[I, O]) Submit(t beam.EventTime, in I, take func(beam.EventTime, O)) error {
	return d.bundle.Submit(t, in, take)
}

// Finish waits for what is at work and emits what was counted: call it in FinishBundle.
func (d *Desk[I, O]) Finish(take func(beam.EventTime, O), counts func(schemas.Count)) error {
	if err := d.bundle.Finish(take); err != nil {
		return err
	}
	d.Tally.Flush(counts)
	return nil
}
