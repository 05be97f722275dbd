package embedded

import (
	"math"
	"sync"
)

// AdamW is Adam with decoupled weight decay (Loshchilov and Hutter 2019) as PyTorch computes it. The zero value of a
// field switches off what it names, but Epsilon is then 1e-8.
type AdamW struct {
	// Beta1 and Beta2 are the decays of the moments, below 1.
	Beta1, Beta2 float64
	Epsilon      float64
	// WeightDecay shrinks weights by rate x WeightDecay a step: those of two dimensions and more, or with DecayAll every
	// one, as PyTorch does.
	WeightDecay float64
	DecayAll    bool
	// ClipNorm is the largest norm of all gradients together; larger ones are scaled down to it.
	ClipNorm float64
	// EMADecay keeps a moving average of the weights: d times itself and 1-d times the weight, where d is the least of
	// EMADecay and (t+1)/(t+20) in step t, from 0.
	EMADecay float64
}

// Schedule is a learning rate that rises to Peak in Warmup steps and falls as half a cosine to Floor x Peak at Steps.
type Schedule struct {
	Peak, Floor   float64
	Warmup, Steps int64
}

// Rate is the rate for a step, from 0.
func (s Schedule) Rate(step int64) float64 {
	rate := s.Peak
	if s.Warmup > 0 {
		rate *= min(1, float64(step+1)/float64(s.Warmup))
	}
	if s.Steps > 0 {
		done := min(1, float64(step)/float64(s.Steps))
		rate *= s.Floor + (1-s.Floor)*(1+math.Cos(math.Pi*done))/2
	}
	return rate
}

// Step updates the weights with the mean of the gradients of all runs since the last Step and begins a new sum. A weight
// that none of the graphs has stays as it is, without decay. Step returns the norm of the mean gradients before clipping;
// if that is not finite, no weight changes and the step does not count.
func (p *Params) Step(o AdamW, rate float64) float64 {
	if o.Epsilon == 0 {
		o.Epsilon = 1e-8
	}
	runs := float64(max(1, p.runs))
	norm := math.Sqrt(p.squares()) / runs
	p.runs = 0
	finite := !math.IsNaN(norm) && !math.IsInf(norm, 0)
	if finite {
		scale := 1 / runs
		if o.ClipNorm > 0 {
			scale *= min(1, o.ClipNorm/(norm+1e-6))
		}
		p.update(o, rate, scale)
		p.steps++
	}
	for _, q := range p.list {
		q.reached = false
	}
	return norm
}

// update divides every weight in two parts, one for each of two goroutines: elements do not depend on each other.
func (p *Params) update(o AdamW, rate, scale float64) {
	for _, q := range p.list {
		if o.EMADecay > 0 && q.average == nil {
			q.average = append([]float32(nil), q.weight...)
		}
	}
	average := min(o.EMADecay, float64(p.steps+1)/float64(p.steps+20))
	halves(func(half int) {
		for _, q := range p.list {
			from, to := part(len(q.weight), half)
			if q.reached {
				f := q.factors(o, rate, scale)
				f.apply(q.weight[from:to], q.gradient[from:to], q.first[from:to], q.second[from:to])
			}
			if o.EMADecay > 0 {
				follow(q.average[from:to], q.weight[from:to], float32(average))
			}
		}
	})
	for _, q := range p.list {
		if q.reached {
			q.steps++
		}
	}
}

// factors are what is the same for all elements of a weight in a step.
type factors struct {
	scale, keep, step, beta1, beta2, root, epsilon float32
}

func (q *param) factors(o AdamW, rate, scale float64) factors {
	t := float64(q.steps + 1)
	f := factors{
		scale: float32(scale), keep: 1,
		step:  float32(rate / (1 - math.Pow(o.Beta1, t))),
		beta1: float32(1 - o.Beta1), beta2: float32(1 - o.Beta2),
		root:    float32(1 / math.Sqrt(1-math.Pow(o.Beta2, t))),
		epsilon: float32(o.Epsilon),
	}
	if o.DecayAll || len(q.dims) >= 2 {
		f.keep = float32(1 - rate*o.WeightDecay)
	}
	return f
}

// apply is the update itself. The reslicing lets the compiler drop its bounds checks.
func (f factors) apply(weight, gradient, first, second []float32) {
	n := len(weight)
	gradient, first, second = gradient[:n], first[:n], second[:n]
	for i, w := range weight {
		g := gradient[i] * f.scale
		m := first[i] + (g-first[i])*f.beta1
		v := second[i] + (g*g-second[i])*f.beta2
		first[i], second[i] = m, v
		weight[i] = w*f.keep - f.step*m/(float32(math.Sqrt(float64(v)))*f.root+f.epsilon)
	}
}

func follow(average, weight []float32, decay float32) {
	weight = weight[:len(average)]
	for i, a := range average {
		average[i] = a*decay + weight[i]*(1-decay)
	}
}

// squares is the sum of the squares of all gradients. Each half of each weight is summed for itself and the sums are
// added in order, so that the result does not depend on who was faster.
func (p *Params) squares() float64 {
	sums := make([][2]float64, len(p.list))
	halves(func(half int) {
		for i, q := range p.list {
			if q.reached {
				from, to := part(len(q.gradient), half)
				sums[i][half] = sumSquares(q.gradient[from:to])
			}
		}
	})
	total := 0.0
	for _, s := range sums {
		total += s[0] + s[1]
	}
	return total
}

// sumSquares keeps four sums, because each addition waits for the one before.
func sumSquares(v []float32) float64 {
	var a, b, c, d float64
	for ; len(v) >= 4; v = v[4:] {
		w, x, y, z := float64(v[0]), float64(v[1]), float64(v[2]), float64(v[3])
		a, b, c, d = a+w*w, b+x*x, c+y*y, d+z*z
	}
	for _, x := range v {
		a += float64(x) * float64(x)
	}
	return (a + b) + (c + d)
}

// part is where a half of n elements lies.
func part(n, half int) (from, to int) { return n / 2 * half, n/2 + (n-n/2)*half }

// halves runs f for 0 and 1 beside each other.
func halves(f func(half int)) {
	var w sync.WaitGroup
	w.Go(func() { f(1) })
	f(0)
	w.Wait()
}
