package scheduler

import "math"

// spaced are the timesteps of a number of steps, from noise to picture, before any rounding that a class does to
// those of spacing "linspace".
func spaced(c Config, steps int) []float64 {
	out := make([]float64, steps)
	last := float64(c.TrainTimesteps - 1)
	for i := range out {
		switch c.Spacing {
		case Leading:
			out[i] = float64((steps-1-i)*(c.TrainTimesteps/steps) + c.StepsOffset)
		case Trailing:
			out[i] = math.RoundToEven(float64(c.TrainTimesteps)-float64(i)*(float64(c.TrainTimesteps)/float64(steps))) - 1
		case Linspace:
			out[i] = evenly(0, last, steps, steps-1-i)
		}
	}
	return out
}

// evenly is element i of numpy.linspace(from, to, n).
func evenly(from, to float64, n, i int) float64 {
	switch {
	case n == 1:
		return from
	case i == n-1:
		return to
	}
	return float64(i)*((to-from)/float64(n-1)) + from
}

func rounded(values []float64) []float64 {
	for i, v := range values {
		values[i] = math.RoundToEven(v)
	}
	return values
}
