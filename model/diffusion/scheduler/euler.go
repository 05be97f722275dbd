package scheduler

import "slices"

// euler is Euler's method over noise levels (Karras et al. 2022, algorithm 2 without churn), and with ancestral steps
// k-diffusion's variant, which goes further down than the next level and adds noise back.
type euler struct {
	walk
	Config
}

func newEuler(c Config, steps int) *Schedule {
	times := spaced(c, steps)
	levels := noiseLevels(cumulativeAlphas(c))
	sigmas := make([]float32, steps+1)
	for i, t := range times {
		times[i] = float64(float32(t)) // The model is called with float32 timesteps, also between those of training.
		sigmas[i] = float32(levelAt(levels, times[i]))
	}
	first := slices.Max(sigmas)
	if c.Spacing == Leading {
		first = sqrt32(float32(first*first) + 1)
	}
	return &Schedule{timesteps: times, sigmas: sigmas, initSigma: first, noisy: c.Class == EulerAncestral, start: func(w walk) Scheduler {
		return &euler{w, c}
	}}
}

// ScaleInput gives the input variance 1, as the model was trained.
func (u *euler) ScaleInput(sample []float32, step int) {
	s := u.sigmas[step]
	scale := sqrt32(float32(s*s) + 1)
	for i := range sample {
		sample[i] /= scale
	}
}

// Step implements Scheduler.
func (u *euler) Step(output []float32, step int, sample []float32, noise func() []float32) {
	u.take(step, output, sample)
	s, down := u.sigmas[step], u.sigmas[step+1]
	var up float32
	var added []float32
	if u.noisy {
		from, to := float32(s*s), float32(down*down)
		up = sqrt32(float32(to*(from-to)) / from)
		down = sqrt32(to - float32(up*up))
		added = noise()
		if len(added) != len(sample) {
			panic("scheduler: the noise has another length than the sample")
		}
	}
	square := float32(s*s) + 1
	for i, x := range sample {
		var picture float32
		if u.Prediction == VPrediction {
			picture = float32(output[i]*(-s/sqrt32(square))) + x/square
		} else {
			picture = x - float32(s*output[i])
		}
		slope := (x - picture) / s
		x += float32(slope * (down - s))
		if u.noisy {
			x += float32(added[i] * up)
		}
		sample[i] = x
	}
}
