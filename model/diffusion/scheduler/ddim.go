package scheduler

// ddim is the deterministic sampler of the DDIM paper: equation 12 with eta = 0.
type ddim struct {
	walk
	Config
	alphas []float32
	stride int
}

func newDDIM(c Config, steps int) *Schedule {
	alphas := cumulativeAlphas(c)
	return &Schedule{timesteps: rounded(spaced(c, steps)), initSigma: 1, start: func(w walk) Scheduler {
		return &ddim{walk: w, Config: c, alphas: alphas, stride: c.TrainTimesteps / steps}
	}}
}

// Step implements Scheduler.
func (d *ddim) Step(output []float32, step int, sample []float32, _ func() []float32) {
	d.take(step, output, sample)
	t := int(d.timesteps[step])
	a, after := alphaAt(d.alphas, t, d.SetAlphaToOne), alphaAt(d.alphas, t-d.stride, d.SetAlphaToOne)
	rootA, rootB := sqrt32(a), sqrt32(1-a)
	nextA, nextB := sqrt32(after), sqrt32(1-after)
	limit := float32(d.ClipRange)
	for i, x := range sample {
		e := output[i]
		var picture float32
		if d.Prediction == VPrediction {
			picture = float32(rootA*x) - float32(rootB*e)
			e = float32(rootA*e) + float32(rootB*x)
		} else {
			picture = (x - float32(rootB*e)) / rootA
		}
		if d.ClipSample {
			picture = min(max(picture, -limit), limit)
		}
		sample[i] = float32(nextA*picture) + float32(nextB*e)
	}
}
