package scheduler

import "slices"

// pndm is the linear multistep method of the PNDM paper without its Runge-Kutta start (skip_prk_steps): its equation
// 9 over Adams-Bashforth averages of up to four predictions. The second step is done twice, the second time from the
// saved first sample with the mean of both predictions.
type pndm struct {
	walk
	Config
	alphas []float32
	stride int
	past   [][]float32 // the last predictions, newest last
	saved  []float32   // the first sample
}

func newPNDM(c Config, steps int) *Schedule {
	times := rounded(spaced(c, steps))
	if steps > 1 {
		times = slices.Insert(times, 1, times[1])
	}
	alphas := cumulativeAlphas(c)
	return &Schedule{timesteps: times, initSigma: 1, start: func(w walk) Scheduler {
		return &pndm{walk: w, Config: c, alphas: alphas, stride: c.TrainTimesteps / steps}
	}}
}

// Step implements Scheduler.
func (p *pndm) Step(output []float32, step int, sample []float32, _ func() []float32) {
	p.take(step, output, sample)
	t := int(p.timesteps[step])
	before := t - p.stride
	if step == 1 {
		t, before = t+p.stride, t
	} else {
		if len(p.past) == 4 {
			p.past = append(p.past[1:], p.past[0])
		} else {
			p.past = append(p.past, make([]float32, len(output)))
		}
		copy(p.past[len(p.past)-1], output)
	}
	mean := make([]float32, len(output))
	e := p.past
	for i := range mean {
		switch {
		case step == 0:
			mean[i] = output[i]
		case step == 1:
			mean[i] = (output[i] + e[0][i]) / 2
		case len(e) == 2:
			mean[i] = (float32(3*e[1][i]) - e[0][i]) / 2
		case len(e) == 3:
			mean[i] = (float32(23*e[2][i]) - float32(16*e[1][i]) + float32(5*e[0][i])) / 12
		default:
			mean[i] = float32(1.0/24) * (float32(55*e[3][i]) - float32(59*e[2][i]) + float32(37*e[1][i]) - float32(9*e[0][i]))
		}
	}
	switch step {
	case 0:
		p.saved = slices.Clone(sample)
	case 1:
		copy(sample, p.saved)
		p.saved = nil
	}
	p.move(sample, mean, alphaAt(p.alphas, t, p.SetAlphaToOne), alphaAt(p.alphas, before, p.SetAlphaToOne))
}

// move is equation 9, with a and after the cumulative alphas now and then.
func (p *pndm) move(sample, output []float32, a, after float32) {
	b := 1 - a
	keep := sqrt32(after / a)
	weight := after - a
	over := float32(a*sqrt32(1-after)) + sqrt32(a*b*after)
	for i, x := range sample {
		e := output[i]
		if p.Prediction == VPrediction {
			e = float32(sqrt32(a)*e) + float32(sqrt32(b)*x)
		}
		sample[i] = float32(keep*x) - float32(weight*e)/over
	}
}

// alphaAt is the cumulative alpha at a timestep of training; before timestep 0 it is 1 or that of timestep 0.
func alphaAt(alphas []float32, t int, one bool) float32 {
	switch {
	case t >= 0:
		return alphas[min(t, len(alphas)-1)]
	case one:
		return 1
	}
	return alphas[0]
}
