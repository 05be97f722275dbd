package judge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/transforms/async"
	"github.com/promptmill/promptmill/transforms/settings"
)

// Asking is what the settings of all steps that ask a model about two pictures have in common. Embed it in a Config:
// its keys are the Config's own, in recipes and in JSON.
type Asking struct {
	// Model is who is asked; Cache is the URL of the response log, whose store has the pictures.
	Model model.Spec `json:"model" yaml:"-"`
	Cache string     `json:"cache" yaml:"-"`

	Temperature float64 `json:"temperature" yaml:"temperature"`
	TopP        float64 `json:"top_p" yaml:"top_p"`
	// MaxTokens bounds an answer in the model's tokens; an answer that reaches it is not used.
	MaxTokens int `json:"max_tokens" yaml:"max_tokens"`
	// Retries is how often an answer of no use is asked for again.
	Retries int `json:"retries" yaml:"retries"`
	// Seed is the run's.
	Seed int64 `json:"seed" yaml:"-"`
	// InFlight bounds the elements at work in one bundle; it does not bound a server's load.
	InFlight int `json:"in_flight" yaml:"in_flight"`
}

// DefaultAsking samples as the paper does (section 4.1), at temperature 0.9 and top-p 0.9, with inFlight elements at work.
// Model, Cache and Seed are left to the caller.
func DefaultAsking(inFlight int) Asking {
	return Asking{Temperature: 0.9, TopP: 0.9, MaxTokens: 1024, Retries: 2, InFlight: inFlight}
}

// Attempts is how often an answer is asked for at most.
func (a Asking) Attempts() int { return 1 + a.Retries }

// Validate joins all faults of a, whose settings stand in that section of a recipe, where there are mostRetries at most.
func (a Asking) Validate(section string, mostRetries int) error {
	faults := settings.Of(section)
	faults.Check(a.Model.Backend != "", "model.backend: empty; name one of the backends")
	faults.Check(a.Cache != "", "cache: empty; name the folder that keeps the answers and the pictures")
	faults.Check(a.Temperature >= 0 && a.Temperature <= 2, "temperature: %v is not in 0..2", a.Temperature)
	faults.Check(a.TopP > 0 && a.TopP <= 1, "top_p: %v is not above 0 and at most 1", a.TopP)
	faults.Check(a.MaxTokens >= 1, "max_tokens: %d is not at least 1", a.MaxTokens)
	faults.Check(a.Retries >= 0 && a.Retries <= mostRetries, "retries: %d is not in 0..%d", a.Retries, mostRetries)
	faults.Check(a.InFlight >= 1 && a.InFlight <= async.MaxInFlight, "in_flight: %d is not in 1..%d", a.InFlight, async.MaxInFlight)
	return faults.Err()
}

// ValidateChance refuses to ask again where the same answer would come again.
func (a Asking) ValidateChance(section string) error {
	if a.Temperature == 0 && a.Retries > 0 {
		return fmt.Errorf("%s.temperature: 0 gives the same answer %d times more; raise it, or set retries to 0", section, a.Retries)
	}
	return nil
}

// Replayable is Asking by a step whose dead letters can be run again.
type Replayable struct {
	Asking `yaml:",inline"`
	// ExtraAttempts adds to Retries when dead letters are run again: the attempts before come from the response log.
	ExtraAttempts int `json:"extra_attempts" yaml:"-"`
}

// Attempts is how often an answer is asked for at most.
func (r Replayable) Attempts() int { return r.Asking.Attempts() + r.ExtraAttempts }

// Validate joins all faults of r, whose settings stand in that section of a recipe.
func (r Replayable) Validate(section string) error {
	err := r.Asking.Validate(section, 10)
	if r.ExtraAttempts < 0 || r.ExtraAttempts > 10 {
		err = errors.Join(err, fmt.Errorf("%s.extra_attempts: %d is not in 0..10", section, r.ExtraAttempts))
	}
	return err
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

// A Desk is what the DoFns have in common that ask about each element: the elements at work, what is counted, and who is
// asked. Embed it in a DoFn as an unexported field; it belongs to one bundle at a time.
type Desk[I, O any] struct {
	async.Counted[I, O]
	// Asker is there after Open.
	Asker *Asker
}

// Open opens who is asked: call it in Setup.
func (d *Desk[I, O]) Open(ctx context.Context, a Asking) (err error) {
	d.Asker, err = openAsker(ctx, a)
	return err
}
