// Package scheduler walks a picture's latents from noise to picture: the samplers of diffusers, read from a model
// folder's scheduler_config.json and equal to diffusers step by step.
//
// # Design
//
// A Schedule is what a configuration and a number of steps fix: timesteps, noise levels, coefficients. It is shared
// and never changes. Start makes the state of one picture, so that pictures of a batch are independent. The
// arithmetic is float32 in diffusers' order of operations, because a few tenths of its steps cancel; coefficients
// that diffusers takes from NumPy in float64 are float64 here too.
//
// # Sources
//
// The formulas and their order are those of diffusers 0.42, src/diffusers/schedulers: scheduling_pndm.py,
// scheduling_ddim.py, scheduling_euler_discrete.py, scheduling_euler_ancestral_discrete.py and
// scheduling_dpmsolver_multistep.py. The papers: PNDM (Liu et al. 2022, arXiv:2202.09778), DDIM (Song et al. 2021,
// arXiv:2010.02502), Euler and the noise levels of Karras (Karras et al. 2022, arXiv:2206.00364), DPM-Solver++
// (Lu et al. 2022, arXiv:2211.01095), spacings of timesteps (Lin et al. 2024, arXiv:2305.08891, table 2).
package scheduler

import (
	"fmt"
	"slices"
)

// A Scheduler is the walk of one picture. It works in place on flat slices of any layout and length, the same length
// at each step. It is not safe for concurrent use; schedulers of different pictures are independent.
type Scheduler interface {
	// Timesteps are what the model is called with, one call each, in this order. Their number may differ from the
	// number of steps asked for: PNDM calls the model once more. The caller must not change them.
	Timesteps() []float64
	// InitNoiseSigma multiplies standard normal noise to give the first sample.
	InitNoiseSigma() float32
	// ScaleInput turns a copy of the sample into the model's input for a step.
	ScaleInput(sample []float32, step int)
	// Step replaces the sample by that of the next step, given what the model said of the scaled input. Steps are
	// taken in order from 0. noise gives standard normal numbers, as many as the sample has; only schedulers with
	// Noisy schedules call it, once a step, and it may be nil for others. modelOutput is not kept or changed.
	// Step panics if steps are skipped or repeated, or lengths differ.
	Step(modelOutput []float32, step int, sample []float32, noise func() []float32)
}

// A Schedule is a configuration at a number of steps. It is immutable and safe for concurrent use.
type Schedule struct {
	timesteps []float64
	sigmas    []float32
	initSigma float32
	noisy     bool
	start     func(walk) Scheduler
}

// New plans a walk of the given number of steps, as diffusers' set_timesteps does. A configuration that Validate
// refuses, or a number of steps that it has no timesteps for, is an error.
func New(c Config, steps int) (*Schedule, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	most := c.TrainTimesteps
	if c.Class == DPMSolver && c.Spacing == Leading {
		most-- // It divides the timesteps by steps + 1.
	}
	if steps < 1 || steps > most {
		return nil, fmt.Errorf("scheduler: %d steps: %s trained with %d timesteps takes 1..%d", steps, c.Class, c.TrainTimesteps, most)
	}
	var s *Schedule
	switch c.Class {
	case PNDM:
		s = newPNDM(c, steps)
	case DDIM:
		s = newDDIM(c, steps)
	case Euler, EulerAncestral:
		s = newEuler(c, steps)
	case DPMSolver:
		s = newDPM(c, steps)
	}
	for _, t := range s.timesteps {
		if t < 0 || t > float64(c.TrainTimesteps-1) {
			return nil, fmt.Errorf("scheduler: %d steps give timestep %g, which is not in 0..%d: lower steps_offset or the number of steps",
				steps, t, c.TrainTimesteps-1)
		}
	}
	return s, nil
}

// Start begins the walk of one picture.
func (s *Schedule) Start() Scheduler { return s.start(walk{Schedule: s}) }

// Timesteps are those of every Scheduler of this schedule. The caller must not change them.
func (s *Schedule) Timesteps() []float64 { return s.timesteps }

// InitNoiseSigma is that of every Scheduler of this schedule.
func (s *Schedule) InitNoiseSigma() float32 { return s.initSigma }

// Sigmas are the noise levels, one more than there are timesteps and the last one 0; nil for PNDM and DDIM, which
// have none. The slice is the caller's own.
func (s *Schedule) Sigmas() []float32 { return slices.Clone(s.sigmas) }

// Noisy says that Step draws noise: Euler ancestral does.
func (s *Schedule) Noisy() bool { return s.noisy }

// walk is what the schedulers share: the schedule, and which step is next.
type walk struct {
	*Schedule
	next int
}

// ScaleInput is for the schedulers that keep their samples at unit variance.
func (w *walk) ScaleInput(_ []float32, _ int) {}

// take checks that a step is the next one and counts it.
func (w *walk) take(step int, output, sample []float32) {
	if step != w.next || step >= len(w.timesteps) {
		panic(fmt.Sprintf("scheduler: step %d taken where %d of %d was due", step, w.next, len(w.timesteps)))
	}
	if len(output) != len(sample) {
		panic(fmt.Sprintf("scheduler: %d numbers from the model for a sample of %d", len(output), len(sample)))
	}
	w.next++
}
