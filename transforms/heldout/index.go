package heldout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/promptmill/promptmill/transforms/dedup/shingle"
	"github.com/promptmill/promptmill/transforms/source"
)

// run is how many words in a row make a text a benchmark's.
const run = 13

// An index answers whether a text is a benchmark's. It is read-only once built.
type index struct {
	cfg   Config
	exact map[string]int32 // folded text to benchmark
	runs  map[string]int32 // 13 words to benchmark
	// sets are the prompts' shingles, owner their benchmarks, by the numbers that shared lists.
	sets   [][]uint32
	owner  []int32
	shared map[uint32][]int32
}

var indexes struct {
	sync.Mutex
	byConfig map[string]*index
}

// load reads the benchmarks, once per process and configuration. A failure is not remembered: the
// runner tries again.
func load(ctx context.Context, cfg Config) (*index, error) {
	key, err := json.Marshal(cfg)
	if err != nil {
		return nil, err
	}
	indexes.Lock()
	defer indexes.Unlock()
	if x := indexes.byConfig[string(key)]; x != nil {
		return x, nil
	}
	x, err := build(ctx, cfg.withDefaults())
	if err != nil {
		return nil, err
	}
	if indexes.byConfig == nil {
		indexes.byConfig = map[string]*index{}
	}
	indexes.byConfig[string(key)] = x
	return x, nil
}

// readBenchmark returns the folded prompts of b.
func readBenchmark(ctx context.Context, b Benchmark) ([]string, error) {
	var folded []string
	for p, err := range source.Read(ctx, b.input()) {
		if err != nil {
			return nil, fmt.Errorf("benchmark %s: %w", b.Name, err)
		}
		folded = append(folded, shingle.Fold(p.Text))
	}
	if len(folded) == 0 {
		return nil, fmt.Errorf("benchmark %s: %s has no prompts: is the download complete?", b.Name, b.Path)
	}
	return folded, nil
}

func build(ctx context.Context, cfg Config) (*index, error) {
	x := &index{cfg: cfg, exact: map[string]int32{}, runs: map[string]int32{}, shared: map[uint32][]int32{}}
	var errs []error
	for i, b := range cfg.Benchmarks {
		folded, err := readBenchmark(ctx, b)
		if err != nil {
			errs = append(errs, fmt.Errorf("heldout: %w", err))
			continue
		}
		for _, text := range folded {
			if _, ok := x.exact[text]; !ok {
				x.add(text, int32(i))
			}
		}
	}
	return x, errors.Join(errs...)
}

func (x *index) add(text string, owner int32) {
	x.exact[text] = owner
	if words(text) >= run {
		for r := range shingle.Runs(text, run) {
			if _, ok := x.runs[r]; !ok {
				x.runs[r] = owner
			}
		}
	}
	n := int32(len(x.sets))
	set := shingle.Set(text, x.cfg.ShingleWords, 0)
	x.sets, x.owner = append(x.sets, set), append(x.owner, owner)
	for _, h := range set {
		x.shared[h] = append(x.shared[h], n)
	}
}

func words(folded string) int { return strings.Count(folded, " ") + 1 }

// match returns the name of the first benchmark that has text.
func (x *index) match(text string) (name string, ok bool) {
	folded := shingle.Fold(text)
	best := int32(len(x.cfg.Benchmarks))
	if owner, ok := x.exact[folded]; ok {
		best = owner
	}
	if words(folded) >= run {
		for r := range shingle.Runs(folded, run) {
			if owner, ok := x.runs[r]; ok {
				best = min(best, owner)
			}
		}
	}
	best = min(best, x.near(folded, best))
	if int(best) == len(x.cfg.Benchmarks) {
		return "", false
	}
	return x.cfg.Benchmarks[best].Name, true
}

// near returns the first benchmark before limit with a prompt over the threshold, or limit.
func (x *index) near(folded string, limit int32) int32 {
	set := shingle.Set(folded, x.cfg.ShingleWords, 0)
	hits := map[int32]int{}
	for _, h := range set {
		for _, n := range x.shared[h] {
			hits[n]++
		}
	}
	for n, both := range hits {
		all := len(set) + len(x.sets[n]) - both
		if x.owner[n] < limit && float64(both) >= x.cfg.Threshold*float64(all) {
			limit = x.owner[n]
		}
	}
	return limit
}
