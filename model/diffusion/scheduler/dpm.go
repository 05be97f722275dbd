package scheduler

import "math"

// dpm is DPM-Solver++ 2M: the second-order multistep solver over predicted pictures (Lu et al. 2022, algorithm 2).
// The first step, which has no predecessor, and the last, which goes to noise level 0, are of first order.
type dpm struct {
	walk
	Config
	now, before []float32 // predicted pictures
}

func newDPM(c Config, steps int) *Schedule {
	levels := noiseLevels(cumulativeAlphas(c))
	times := make([]float64, steps)
	sigmas := make([]float32, steps+1)
	if c.KarrasSigmas {
		for i := range times {
			sigma := karras(float64(levels[0]), float64(levels[len(levels)-1]), steps, i)
			sigmas[i] = float32(sigma)
			if times[i] = timeOf(levels, sigma); c.BetaSchedule != SquaredCos {
				times[i] = math.RoundToEven(times[i])
			}
			times[i] = math.Trunc(times[i])
		}
	} else {
		times = dpmTimes(c, steps)
		for i, t := range times {
			sigmas[i] = float32(levelAt(levels, t))
		}
	}
	return &Schedule{timesteps: times, sigmas: sigmas, initSigma: 1, start: func(w walk) Scheduler {
		return &dpm{walk: w, Config: c}
	}}
}

// dpmTimes differs from spaced in leaving out the last of steps + 1 timesteps.
func dpmTimes(c Config, steps int) []float64 {
	if c.Spacing == Trailing {
		return spaced(c, steps)
	}
	out := make([]float64, steps)
	for i := range out {
		if c.Spacing == Leading {
			out[i] = float64((steps-i)*(c.TrainTimesteps/(steps+1)) + c.StepsOffset)
		} else {
			out[i] = evenly(0, float64(c.TrainTimesteps-1), steps+1, steps-i)
		}
	}
	return rounded(out)
}

// karras is noise level i of n between high and low.
func karras(low, high float64, n, i int) float64 {
	const rho = 7
	from, to := math.Pow(high, 1.0/rho), math.Pow(low, 1.0/rho)
	return math.Pow(from+evenly(0, 1, n, i)*(to-from), rho)
}

// timeOf finds the timestep of a noise level, linear in its logarithm between the levels of training.
func timeOf(levels []float32, sigma float64) float64 {
	l := math.Log(max(sigma, 1e-10))
	low := 0
	for low < len(levels)-2 && l >= float64(log32(levels[low+1])) {
		low++
	}
	from, to := float64(log32(levels[low])), float64(log32(levels[low+1]))
	w := min(max((from-l)/(from-to), 0), 1)
	return (1-w)*float64(low) + w*float64(low+1)
}

// Step implements Scheduler.
func (d *dpm) Step(output []float32, step int, sample []float32, _ func() []float32) {
	d.take(step, output, sample)
	if d.now == nil {
		d.now, d.before = make([]float32, len(sample)), make([]float32, len(sample))
	}
	d.now, d.before = d.before, d.now
	alphaS, sigmaS := split(d.sigmas[step])
	for i, x := range sample {
		if d.Prediction == VPrediction {
			d.now[i] = float32(alphaS*x) - float32(sigmaS*output[i])
		} else {
			d.now[i] = (x - float32(sigmaS*output[i])) / alphaS
		}
	}
	alphaT, sigmaT := split(d.sigmas[step+1])
	lambdaS := log32(alphaS) - log32(sigmaS)
	h := log32(alphaT) - log32(sigmaT) - lambdaS // Infinite in the last step.
	keep := sigmaT / sigmaS
	gain := float32(alphaT * (exp32(-h) - 1))
	second := step > 0 && step < len(d.timesteps)-1
	var r float32
	if second {
		alphaR, sigmaR := split(d.sigmas[step-1])
		r = 1 / ((lambdaS - (log32(alphaR) - log32(sigmaR))) / h)
	}
	for i, x := range sample {
		x = float32(keep*x) - float32(gain*d.now[i])
		if second {
			x -= float32(float32(0.5*gain) * float32(r*(d.now[i]-d.before[i])))
		}
		sample[i] = x
	}
}

// split turns a noise level into the shares of picture and noise at variance 1.
func split(sigma float32) (alpha, noise float32) {
	alpha = 1 / sqrt32(float32(sigma*sigma)+1)
	return alpha, sigma * alpha
}
