package scheduler

import "math"

// cumulativeAlphas is the share of the picture's variance that is left at each timestep of training, in (0, 1) and
// falling. torch computes it in float32, but accumulates the product in float64, and so does this.
func cumulativeAlphas(c Config) []float32 {
	out := make([]float32, c.TrainTimesteps)
	product := 1.0
	for i, beta := range betas(c) {
		product *= float64(1 - beta)
		out[i] = float32(product)
	}
	return out
}

// betas are the variances of the noise that training adds at each timestep.
func betas(c Config) []float32 {
	n := c.TrainTimesteps
	switch c.BetaSchedule {
	case Linear:
		return linspace32(float32(c.BetaStart), float32(c.BetaEnd), n)
	case ScaledLinear:
		out := linspace32(float32(math.Sqrt(c.BetaStart)), float32(math.Sqrt(c.BetaEnd)), n)
		for i, v := range out {
			out[i] = v * v
		}
		return out
	}
	// Nichol and Dhariwal 2021, arXiv:2102.09672, equation 17; the cap keeps the last alphas above 0.
	bar := func(t float64) float64 {
		v := math.Cos((t + 0.008) / 1.008 * math.Pi / 2)
		return v * v
	}
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(min(1-bar(float64(i+1)/float64(n))/bar(float64(i)/float64(n)), 0.999))
	}
	return out
}

// linspace32 is torch.linspace in float32, which works from both ends towards the middle.
func linspace32(from, to float32, n int) []float32 {
	step := (to - from) / float32(n-1)
	out := make([]float32, n)
	for i := range out {
		if i < n/2 {
			out[i] = from + float32(step*float32(i))
		} else {
			out[i] = to - float32(step*float32(n-1-i))
		}
	}
	return out
}

// noiseLevels are the standard deviations of the noise at each timestep of training beside a picture of variance 1.
func noiseLevels(alphas []float32) []float32 {
	out := make([]float32, len(alphas))
	for i, a := range alphas {
		out[i] = sqrt32((1 - a) / a)
	}
	return out
}

// levelAt interpolates noise levels between timesteps of training, as numpy.interp does.
func levelAt(levels []float32, t float64) float64 {
	low := int(t)
	if low >= len(levels)-1 {
		return float64(levels[len(levels)-1])
	}
	from, to := float64(levels[low]), float64(levels[low+1])
	return (to-from)*(t-float64(low)) + from
}

func sqrt32(v float32) float32 { return float32(math.Sqrt(float64(v))) }
func log32(v float32) float32  { return float32(math.Log(float64(v))) }
func exp32(v float32) float32  { return float32(math.Exp(float64(v))) }
