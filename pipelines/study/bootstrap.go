package study

import (
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/promptmill/promptmill/pipelines/metrics"
)

// values are scores by seed, then by prompt.
type values []map[string]float64

// minus is the difference of a and b, seed by seed and prompt by prompt, on what both have.
func (a values) minus(b values) values {
	out := make(values, len(a))
	for i := range a {
		out[i] = map[string]float64{}
		for id, x := range a[i] {
			if y, ok := b[i][id]; ok {
				out[i][id] = x - y
			}
		}
	}
	return out
}

// grid is a with the prompts that all seeds have, in one order.
func (a values) grid() [][]float64 {
	var ids []string
	for _, id := range slices.Sorted(maps.Keys(a[0])) {
		if !slices.ContainsFunc(a, func(m map[string]float64) bool { _, ok := m[id]; return !ok }) {
			ids = append(ids, id)
		}
	}
	out := make([][]float64, len(a))
	for i, m := range a {
		for _, id := range ids {
			out[i] = append(out[i], m[id])
		}
	}
	return out
}

// interval is the mean of a with its 95% percentile interval from bootstrap samples of seeds and, of the same prompts for
// all seeds, of prompts (Efron 1979; resampling both, after Owen 2007, does not take few seeds for many). The second
// result is false if there is nothing to take a mean of.
func (a values) interval(resamples int, seed int64) (metrics.Interval, bool) {
	if len(a) == 0 {
		return metrics.Interval{}, false
	}
	x := a.grid()
	if len(x[0]) == 0 {
		return metrics.Interval{}, false
	}
	seeds, prompts := len(x), len(x[0])
	mean := func(row, column func(int) int) float64 {
		var sum float64
		for i := range seeds {
			for j := range prompts {
				sum += x[row(i)][column(j)]
			}
		}
		return sum / float64(seeds*prompts)
	}
	rng := rand.New(rand.NewPCG(uint64(seed), uint64(seeds*prompts)))
	means := make([]float64, resamples)
	rows, columns := make([]int, seeds), make([]int, prompts)
	for k := range means {
		for i := range rows {
			rows[i] = rng.IntN(seeds)
		}
		for j := range columns {
			columns[j] = rng.IntN(prompts)
		}
		means[k] = mean(func(i int) int { return rows[i] }, func(j int) int { return columns[j] })
	}
	same := func(i int) int { return i }
	return metrics.NewInterval(mean(same, same), means), true
}
