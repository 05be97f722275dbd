package scene

import (
	"cmp"
	_ "embed"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"github.com/promptmill/promptmill/model"
)

//go:generate go run ./mkmodifiers sd_prompts.jsonl data/modifiers.tsv

// modifierTable has, a line each, a modifier and how many real prompts of each category have it
// (mkmodifiers says of which prompts).
//
//go:embed data/modifiers.tsv
var modifierTable string

// A choice is a thing to say and how often people say it.
type choice[T any] struct {
	what   T
	weight float64
}

// lengths is how many modifiers the prompts with any have, 8 standing for more, the most frequent first.
var lengths = []choice[int]{{8, 2946}, {1, 870}, {2, 699}, {3, 552}, {4, 461}, {6, 439}, {5, 427}, {7, 382}}

// suggestions are the modifiers for each category, the most frequent first. A category's own counts
// are few, so that each modifier also gets its share, over all categories, of 50 more.
var suggestions = func() (out [Categories][]choice[string]) {
	var names []string
	var counts [][Categories]float64
	var all float64
	for line := range strings.Lines(modifierTable[strings.IndexByte(modifierTable, '\n')+1:]) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(fields) != 1+Categories {
			panic(fmt.Sprintf("modifiers.tsv: %q has %d fields", line, len(fields)))
		}
		var of [Categories]float64
		for c := range of {
			n, err := strconv.Atoi(fields[1+c])
			if err != nil {
				panic(fmt.Sprintf("modifiers.tsv: %q: %v", line, err))
			}
			of[c] = float64(n)
			all += of[c]
		}
		names, counts = append(names, fields[0]), append(counts, of)
	}
	for i, name := range names {
		var total float64
		for _, n := range counts[i] {
			total += n
		}
		for c := range out {
			out[c] = append(out[c], choice[string]{name, counts[i][c] + 50*total/all})
		}
	}
	for c := range out {
		slices.SortStableFunc(out[c], func(a, b choice[string]) int { return cmp.Compare(b.weight, a.weight) })
	}
	return out
}()

// A rewriter appends modifiers to one raw prompt.
type rewriter struct {
	raw  string
	from []choice[string]
	// Probabilities of from and of lengths, unnormalized, at the temperature asked for; those of
	// modifiers that raw has already are 0.
	of, ofLength []float64
	topP         float64
}

func newRewriter(raw string, s model.Sampling) *rewriter {
	r := &rewriter{raw: raw, topP: s.TopP}
	if s.TopP == 0 {
		r.topP = 1
	}
	temperature := s.Temperature
	if temperature == 0 { // a nucleus of one
		temperature, r.topP = 1, 0
	}
	category, _ := Subject(raw)
	r.from = suggestions[category]
	r.of, r.ofLength = heat(r.from, temperature), heat(lengths, temperature)
	taken := Segments(Normalize(raw))
	for i, c := range r.from {
		if slices.Contains(taken, c.what) {
			r.of[i] = 0
		}
	}
	return r
}

// heat returns the weights at a temperature, unnormalized: the first is 1.
func heat[T any](from []choice[T], temperature float64) []float64 {
	p := make([]float64, len(from))
	for i, c := range from {
		p[i] = math.Pow(c.weight/from[0].weight, 1/temperature)
	}
	return p
}

// answer is the raw prompt with one to eight modifiers, none of them twice.
func (r *rewriter) answer(rng *rand.Rand) string {
	p := slices.Clone(r.of)
	parts := []string{r.raw}
	for range lengths[nucleus(r.ofLength, r.topP, rng)].what {
		i := nucleus(p, r.topP, rng)
		p[i] = 0
		parts = append(parts, r.from[i].what)
	}
	return strings.Join(parts, ", ")
}

// nucleus draws an index from p, which descends but for zeros: from the fewest of the first that have
// at least topP of all probability between them.
func nucleus(p []float64, topP float64, rng *rand.Rand) int {
	var all float64
	for _, x := range p {
		all += x
	}
	var mass float64
	for _, x := range p {
		if mass += x; mass > 0 && mass >= topP*all {
			break
		}
	}
	at := rng.Float64() * mass
	last := 0
	for i, x := range p {
		if x == 0 {
			continue
		}
		last = i
		if at -= x; at < 0 {
			break
		}
	}
	return last
}
