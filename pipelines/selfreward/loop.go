// Package selfreward is the loop of self-rewarding training (paper 3.2 to 3.4): a policy rewrites, its
// pictures are judged, the pairs train the next policy.
//
//	prompts   heldout -> original   sft-data -> sft = policy 0 -> measure-0
//	   |                                              |
//	   `-> pairs-1 ------> judgments-1 ----------> dpo-1 = policy 1 -> measure-1
//	          first K survivors of rewrite, draw, judge, prefer; judged by policy 0
//	   `-> pairs-2 -> ...
//	                                                      `-> report
//
// A measure step draws and scores the policy's texts about the held-out prompts, and asks the policy, as the judge, about
// facts that nothing was trained on: how often it agrees with them, and how often it finds its right answers better
// than irrelevant ones. Only a judge of judgments that is better than the gate wants gets pairs of its own answers into
// the next training.
//
// # Design
//
// Each arrow's end is a step, and each step is a committed run of a data set whose id is a hash of the recipe
// and of what the step reads: doing it again finds it done. The State in the store says only which steps are
// over and what they made, so that a process that was killed anywhere is followed by one that goes on at the
// step it was in. What a loop trains on lies in its folder; the rounds behind that, measurements, the answers of models and
// the trainings themselves are kept by what they are of, so that loops side by side, which differ in their judge or
// their learning rate, share what they have in common and pay for it once.
//
// A new policy is the recipe's models.policy with another model: the checkpoint's location.
package selfreward

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/promptmill/promptmill/recipe"
	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/transforms/snapshot"
)

// A Loop is one loop and what it stands on.
type Loop struct {
	// Recipe is bound. LogicalDate is the day of its runs; "" takes that of the loop, or today.
	Recipe      *recipe.Recipe
	LogicalDate string
	Store       store.Store
	// Cache is the URL of the response log.
	Cache string
	// Header is what a manifest says of a run before it starts; Ensure returns the manifest of the committed run,
	// which it builds and runs if need be.
	Header func(set, runID string) snapshot.Header
	Ensure func(ctx context.Context, h snapshot.Header, stage string, total int64, graph func(beam.Scope)) (snapshot.Manifest, error)
	// Prompts, Heldout and Supervised return the sets that the loop reads: prompts by rank, the held-out ones, and
	// the chat rows of the first training.
	Prompts, Heldout, Supervised func(context.Context) (snapshot.Manifest, error)
	// Say tells people what is going on.
	Say func(format string, args ...any)

	digest string
	*journal
}

// Steps are the names of the steps of a recipe's loop, in order.
func Steps(r *recipe.Recipe) []string {
	names := []string{"prompts"}
	if r.SelfReward.Start == recipe.StartSFT {
		names = append(names, "sft-data", "sft")
	}
	measured := len(r.Metrics.Prompts.Inputs) > 0
	if measured {
		names = append(names, "heldout", "original", "measure-0")
	}
	for t := range r.SelfReward.Iterations {
		names = append(names, fmt.Sprintf("pairs-%d", t+1), fmt.Sprintf("judgments-%d", t+1), fmt.Sprintf("dpo-%d", t+1))
		if measured {
			names = append(names, fmt.Sprintf("measure-%d", t+1))
		}
	}
	return append(names, "report")
}

// ErrNoStep says: the recipe's loop has no step of that name.
var ErrNoStep = errors.New("no such step")

func noStep(name string, names []string) error {
	return fmt.Errorf("%w as %q; there are %s", ErrNoStep, name, strings.Join(names, ", "))
}

// Run does the steps of the loop that are not over, up to and with the step until ("" for all). Before that,
// from, if it is not "", makes the present recipe the loop's from that step on: the steps before it are taken as
// they are, what did not change after it is found in the store and not done again. It returns the state, after an
// error too.
func (l *Loop) Run(ctx context.Context, from, until string) (State, error) {
	names := Steps(l.Recipe)
	if until != "" && !slices.Contains(names, until) {
		return State{}, fmt.Errorf("selfreward: --until: %w", noStep(until, names))
	}
	if err := l.fits(ctx); err != nil {
		return State{}, err
	}
	l.digest = digest(l.Recipe.DecidesLoop())
	unlock, err := l.lock(ctx)
	if err != nil {
		return State{}, err
	}
	defer unlock()
	if l.journal, err = l.open(ctx, from); err != nil {
		return State{}, err
	}
	l.LogicalDate = l.State.LogicalDate
	for i := range l.Steps {
		if !l.Steps[i].over() {
			if err := l.do(ctx, &l.Steps[i]); err != nil {
				return l.State, err
			}
		}
		if l.Steps[i].Name == until {
			break
		}
	}
	l.release(-1)
	return l.State, nil
}

// lock keeps a second process off the loop, on stores that can; it ends with the process, however that ends.
// On others the process that came first notices at its next step.
func (l *Loop) lock(ctx context.Context) (unlock func(), err error) {
	a, ok := l.Store.(store.Appender)
	if !ok {
		return func() {}, nil
	}
	name := Dir(l.Recipe.SelfReward.Name) + "/lock"
	f, err := a.Append(ctx, name)
	if errors.Is(err, store.ErrConflict) {
		return nil, busy(l.Recipe.SelfReward.Name)
	}
	if err != nil {
		return nil, err
	}
	// A lock file that stays behind locks nothing.
	return func() { _ = errors.Join(l.Store.Delete(context.WithoutCancel(ctx), name), f.Close()) }, nil
}

// do does one step and keeps how it went.
func (l *Loop) do(ctx context.Context, step *Step) error {
	step.State, step.Begun, step.Attempts, step.Note = Running, time.Now().UTC(), step.Attempts+1, ""
	if err := l.write(ctx); err != nil {
		return err
	}
	l.Say("loop %s: %s", l.Name, step.Name)
	err := l.perform(ctx, step)
	switch {
	case err != nil && ctx.Err() != nil:
		return err // interrupted: the step stays running, and is gone on with
	case err != nil:
		step.State, step.Note = Stopped, err.Error()
		err = fmt.Errorf("selfreward: loop %s: step %s: %w", l.Name, step.Name, err)
	case step.State == Running:
		step.State = Done
	}
	step.Ended = time.Now().UTC()
	return errors.Join(err, l.write(ctx))
}

// perform finds what a step is by its name.
func (l *Loop) perform(ctx context.Context, step *Step) error {
	kind, number, _ := strings.Cut(step.Name, "-")
	t := 0
	if number != "" && number != "data" {
		if _, err := fmt.Sscanf(number, "%d", &t); err != nil {
			return err
		}
	}
	switch kind {
	case "prompts":
		return l.shared(ctx, step, l.Prompts)
	case "heldout":
		return l.shared(ctx, step, l.Heldout)
	case "sft":
		if number == "data" {
			return l.shared(ctx, step, l.Supervised)
		}
		return l.supervise(ctx, step)
	case "pairs":
		return l.pairs(ctx, step, t)
	case "original":
		return l.original(ctx, step)
	case "judgments":
		return l.judgments(ctx, step, t)
	case "dpo":
		return l.optimise(ctx, step, t)
	case "measure":
		return l.measure(ctx, step, t)
	case "report":
		return l.report(ctx, step)
	}
	return noStep(step.Name, Steps(l.Recipe))
}

// shared takes a set that is named by its content and belongs to no loop.
func (l *Loop) shared(ctx context.Context, step *Step, get func(context.Context) (snapshot.Manifest, error)) error {
	m, err := get(ctx)
	if err != nil {
		return err
	}
	step.made(m)
	return nil
}

func (s *Step) made(m snapshot.Manifest) {
	s.Set, s.RunID, s.Digest, s.Rows = m.Set, m.RunID, m.Digest, m.Rows
}

// manifest is what a step made.
func (l *Loop) manifest(ctx context.Context, name string) (snapshot.Manifest, error) {
	step := l.step(name)
	if step == nil || step.RunID == "" {
		return snapshot.Manifest{}, fmt.Errorf("step %s has made nothing yet", name)
	}
	return snapshot.Load(ctx, l.Store, step.Set, step.RunID)
}

// publish makes a run the newest version of its set.
func (l *Loop) publish(ctx context.Context, m snapshot.Manifest) error {
	parent, err := snapshot.Newest(ctx, l.Store, m.Set)
	if err != nil {
		return err
	}
	_, err = snapshot.Publish(ctx, l.Store, m, parent)
	return err
}
