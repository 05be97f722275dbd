package selfreward

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/promptmill/promptmill/pipelines/audit"
	"github.com/promptmill/promptmill/store"
)

// format is the version of the state's layout.
const format = 1

// States of a step.
const (
	Pending = "pending"
	Running = "running"
	Done    = "done"
	// Skipped: left out on purpose; Note says why.
	Skipped = "skipped"
	// Stopped: the last attempt ended in an error; Note says which.
	Stopped = "stopped"
)

// A State is how far a loop has come. It is one object, changed by compare-and-swap only.
type State struct {
	Format int    `json:"format"`
	Name   string `json:"name"`
	// Recipe is the digest of what decides the loop, LogicalDate the day of all of its runs: both are those of
	// the first command.
	Recipe      string    `json:"recipe_digest"`
	LogicalDate string    `json:"logical_date"`
	Begun       time.Time `json:"begun"`
	Steps       []Step    `json:"steps"`
}

// A Step is one of a loop's. What it made is in the store under Set and RunID.
type Step struct {
	Name   string `json:"name"`
	State  string `json:"state"`
	Set    string `json:"set,omitempty"`
	RunID  string `json:"run_id,omitempty"`
	Digest string `json:"digest,omitempty"`
	// Rows are by configuration. Weights and Location are a checkpoint's.
	Rows     map[string]int64 `json:"rows,omitempty"`
	Weights  string           `json:"weights,omitempty"`
	Location string           `json:"location,omitempty"`
	Note     string           `json:"note,omitempty"`
	// Trust is how far a measured policy can be trusted as a judge.
	Trust *audit.Trust `json:"trust,omitempty"`
	// Attempts counts how often the step was begun.
	Attempts int       `json:"attempts"`
	Begun    time.Time `json:"begun,omitzero"`
	Ended    time.Time `json:"ended,omitzero"`
}

func (s *Step) over() bool { return s.State == Done || s.State == Skipped }

// Dir is the folder of a loop in its store.
func Dir(name string) string { return "loop/" + name }

// ErrBusy says: another process works on the loop.
var ErrBusy = errors.New("another process works on this loop")

func busy(name string) error {
	return fmt.Errorf("selfreward: loop %s: %w: wait for it, or name another with selfreward.name", name, ErrBusy)
}

// ErrOtherRecipe says: the loop was begun with another recipe or day.
var ErrOtherRecipe = errors.New("the loop was begun with another recipe")

// Load reads the state of the loop name. The error wraps store.ErrNotExist if it was never begun.
func Load(ctx context.Context, st store.Store, name string) (State, error) {
	j := journal{st: st, name: Dir(name) + "/state.json"}
	err := j.read(ctx)
	return j.State, err
}

// Digest identifies what the steps made so far: their names and digests.
func (s State) Digest() string {
	h := sha256.New()
	for _, step := range s.Steps {
		if step.Digest != "" && step.over() {
			fmt.Fprintf(h, "%s %s\n", step.Name, step.Digest)
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Weights are those of the newest checkpoint, "" before there is one.
func (s State) Weights() string {
	for _, step := range slices.Backward(s.Steps) {
		if step.Weights != "" && step.over() {
			return step.Weights
		}
	}
	return ""
}

// Current is the name of the step that is under way or was when the loop was interrupted, "" if none is.
func (s State) Current() string {
	for _, step := range s.Steps {
		if step.State == Running {
			return step.Name
		}
	}
	return ""
}

// step returns the step of a name, nil if there is none.
func (s *State) step(name string) *Step {
	for i := range s.Steps {
		if s.Steps[i].Name == name {
			return &s.Steps[i]
		}
	}
	return nil
}

// A journal is the state with its place in the store.
type journal struct {
	State
	st      store.Store
	name    string
	version store.Version
}

func (j *journal) read(ctx context.Context) error {
	data, version, err := j.st.Read(ctx, j.name)
	if err != nil {
		return fmt.Errorf("selfreward: %w", err)
	}
	j.State = State{}
	if err := json.Unmarshal(data, &j.State); err != nil {
		return fmt.Errorf("selfreward: %s: %w: %w", j.name, store.ErrDamaged, err)
	}
	if j.Format != format {
		return fmt.Errorf("selfreward: %s: format %d, this promptmill reads format %d; use the release that wrote it", j.name, j.Format, format)
	}
	j.version = version
	return nil
}

// write replaces the state that was read.
func (j *journal) write(ctx context.Context) error {
	data, err := json.MarshalIndent(j.State, "", "  ")
	if err != nil {
		return err
	}
	version, err := j.st.CompareAndSwap(ctx, j.name, j.version, append(data, '\n'))
	if errors.Is(err, store.ErrConflict) {
		return busy(j.Name)
	}
	if err != nil {
		return fmt.Errorf("selfreward: loop %s: %w", j.Name, err)
	}
	j.version = version
	return nil
}

// open reads the state of l, or begins it, and makes it that of the present recipe: steps before from stay
// as they are, from and all after it are to be done.
func (l *Loop) open(ctx context.Context, from string) (*journal, error) {
	r := l.Recipe
	j := &journal{st: l.Store, name: Dir(r.SelfReward.Name) + "/state.json"}
	names := Steps(r)
	at := slices.Index(names, from)
	if from != "" && at < 0 {
		return nil, fmt.Errorf("selfreward: %w", noStep(from, names))
	}
	err := j.read(ctx)
	switch {
	case errors.Is(err, store.ErrNotExist) && from != "":
		return nil, fmt.Errorf("selfreward: loop %s was never begun: there is nothing before %s to go on from", r.SelfReward.Name, from)
	case errors.Is(err, store.ErrNotExist):
		if l.LogicalDate == "" {
			l.LogicalDate = time.Now().UTC().Format(time.DateOnly)
		}
		j.State = State{Format: format, Name: r.SelfReward.Name, Recipe: l.digest, LogicalDate: l.LogicalDate, Begun: time.Now().UTC()}
		for _, name := range names {
			j.Steps = append(j.Steps, Step{Name: name, State: Pending})
		}
		return j, j.write(ctx)
	case err != nil:
		return nil, err
	}
	if from == "" {
		if j.Recipe != l.digest {
			return nil, fmt.Errorf("selfreward: loop %s: %w (digest %.12s, now %.12s): give it another name with selfreward.name, or say with --from from which step on the new recipe holds",
				j.Name, ErrOtherRecipe, j.Recipe, l.digest)
		}
		if l.LogicalDate != "" && l.LogicalDate != j.LogicalDate {
			return nil, fmt.Errorf("selfreward: loop %s: %w: its day is %s, not %s", j.Name, ErrOtherRecipe, j.LogicalDate, l.LogicalDate)
		}
		return j, nil
	}
	var steps []Step
	for i, name := range names {
		step := Step{Name: name, State: Pending}
		if old := j.step(name); i < at {
			if old == nil || !old.over() {
				return nil, fmt.Errorf("selfreward: loop %s: step %s, before %s, is not done; give --from %s", j.Name, name, from, name)
			}
			step = *old
		}
		steps = append(steps, step)
	}
	j.Recipe, j.Steps = l.digest, steps
	return j, j.write(ctx)
}
