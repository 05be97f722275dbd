package audit

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/judge"
)

// A Report is about one judge.
type Report struct {
	// Aspects are sorted by name.
	Aspects []Aspect `json:"aspects"`
}

// An Aspect is what there is to say about one of them.
type Aspect struct {
	Aspect string `json:"aspect"`
	// Read counts the answers with scores, Faults the others by kind.
	Read   int64            `json:"read"`
	Faults map[string]int64 `json:"faults"`
	// Scores is the histogram of scores, ascending.
	Scores []Bar `json:"scores"`
	// Orders is about the keys that were judged in both orders.
	Orders judge.Orders `json:"orders"`
	// Longer is about the longer of two texts, Own about the judge's own of two of which one is.
	Longer Contest `json:"longer"`
	Own    Contest `json:"own"`
	// Threshold is the difference of scores up to which the judge is taken to see a tie, chosen where there is
	// a validation part, else 0. Agreement is by part, sorted.
	Threshold float64     `json:"threshold"`
	Agreement []Agreement `json:"agreement"`
	// Correlation is Pearson's, of the difference of the judge's scores with that of the facts', over the Scored
	// observations whose facts have scores; 0 for a judge that sees no difference, whatever its agreement.
	Correlation float64 `json:"correlation,omitzero"`
	Scored      int64   `json:"scored,omitzero"`
}

// A Bar counts the scores of one value.
type Bar struct {
	Score float64 `json:"score"`
	N     int64   `json:"n"`
}

// A Contest counts how one of two things came off. Rate is Won over Won + Lost; 0 if there are none.
type Contest struct {
	Won  int64   `json:"won"`
	Lost int64   `json:"lost"`
	Tied int64   `json:"tied"`
	Rate float64 `json:"rate"`
}

// Agreement is how often the judge agrees with people in one part, a half for a tie on one side.
type Agreement struct {
	Part     string  `json:"part"`
	N        int64   `json:"n"`
	Accuracy float64 `json:"accuracy"`
}

// A lead is how far First was ahead, in thousandths, n times, where people had that preference.
type lead struct {
	part, preference string
	milli, n         int64
}

// Summarise makes a report of the counts that Count emitted; other stages' do not matter. The part named
// validation is the one on which the thresholds are chosen.
func Summarise(counts []schemas.Count, validation string) Report {
	aspects := map[string]*Aspect{}
	leads := map[string][]lead{}
	scores := map[string]map[float64]int64{}
	truths := map[string][]truth{}
	for _, c := range counts {
		parts := strings.Split(c.Reason, separator)
		if c.Stage != Stage || len(parts) < 2 {
			continue
		}
		a := aspects[parts[1]]
		if a == nil {
			a = &Aspect{Aspect: parts[1], Faults: map[string]int64{}, Scores: []Bar{}, Agreement: []Agreement{}}
			aspects[parts[1]], scores[parts[1]] = a, map[float64]int64{}
		}
		last := parts[len(parts)-1]
		switch kind := parts[0]; {
		case kind == kindRead:
			a.Read += c.N
		case kind == kindFault:
			a.Faults[last] += c.N
		case kind == kindScore:
			if x, err := strconv.ParseFloat(last, 64); err == nil {
				scores[parts[1]][x] += c.N
			}
		case kind == kindLonger:
			a.Longer.add(last, c.N)
		case kind == kindOwn:
			a.Own.add(last, c.N)
		case kind == kindOrder:
			a.Orders.Add(last, c.N)
		case kind == kindTruth && len(parts) == 4:
			said, err1 := strconv.ParseInt(parts[2], 10, 64)
			is, err2 := strconv.ParseInt(last, 10, 64)
			if err1 == nil && err2 == nil {
				truths[parts[1]] = append(truths[parts[1]], truth{float64(said), float64(is), float64(c.N)})
				a.Scored += c.N
			}
		case kind == kindLead && len(parts) == 5:
			if milli, err := strconv.ParseInt(last, 10, 64); err == nil {
				leads[parts[1]] = append(leads[parts[1]], lead{parts[2], parts[3], milli, c.N})
			}
		}
	}
	r := Report{Aspects: []Aspect{}}
	for _, name := range slices.Sorted(maps.Keys(aspects)) {
		a := aspects[name]
		for _, x := range slices.Sorted(maps.Keys(scores[name])) {
			a.Scores = append(a.Scores, Bar{x, scores[name][x]})
		}
		threshold := chooseThreshold(leads[name], validation)
		a.Threshold = float64(threshold) / 1000
		a.Agreement = agreement(leads[name], threshold)
		a.Correlation = correlation(truths[name])
		r.Aspects = append(r.Aspects, *a)
	}
	return r
}

func (c *Contest) add(outcome string, n int64) {
	switch outcome {
	case won:
		c.Won += n
	case lost:
		c.Lost += n
	case tied:
		c.Tied += n
	}
	if decided := c.Won + c.Lost; decided > 0 {
		c.Rate = float64(c.Won) / float64(decided)
	}
}

// halves is what a lead earns, in halves: PickScore's rule.
func (l lead) halves(threshold int64) int64 {
	said := schemas.Tie
	switch {
	case l.milli > threshold:
		said = schemas.First
	case l.milli < -threshold:
		said = schemas.Second
	}
	switch {
	case said == l.preference:
		return 2
	case said == schemas.Tie || l.preference == schemas.Tie:
		return 1
	}
	return 0
}

// chooseThreshold is the smallest of the thresholds, 0 or a lead that occurs, with the best agreement in the
// validation part.
func chooseThreshold(leads []lead, validation string) (best int64) {
	leads = slices.DeleteFunc(slices.Clone(leads), func(l lead) bool { return l.part != validation })
	candidates := []int64{0}
	for _, l := range leads {
		candidates = append(candidates, max(l.milli, -l.milli))
	}
	slices.Sort(candidates)
	most := int64(-1)
	for _, t := range slices.Compact(candidates) {
		var sum int64
		for _, l := range leads {
			sum += l.n * l.halves(t)
		}
		if sum > most {
			best, most = t, sum
		}
	}
	return best
}

func agreement(leads []lead, threshold int64) []Agreement {
	parts, earned := map[string]int64{}, map[string]int64{}
	for _, l := range leads {
		parts[l.part] += l.n
		earned[l.part] += l.n * l.halves(threshold)
	}
	out := []Agreement{}
	for part, n := range parts {
		out = append(out, Agreement{part, n, float64(earned[part]) / 2 / float64(n)})
	}
	slices.SortFunc(out, func(a, b Agreement) int { return cmp.Compare(a.Part, b.Part) })
	return out
}

// A truth is what the judge's scores differed by, and those of the facts, n times.
type truth struct{ said, is, n float64 }

// correlation is Pearson's, 0 where one side does not vary.
func correlation(truths []truth) float64 {
	var n, x, y float64
	// In one order: sums of floats depend on it.
	slices.SortFunc(truths, func(a, b truth) int { return cmp.Or(cmp.Compare(a.said, b.said), cmp.Compare(a.is, b.is)) })
	for _, t := range truths {
		n, x, y = n+t.n, x+t.n*t.said, y+t.n*t.is
	}
	if n == 0 {
		return 0
	}
	x, y = x/n, y/n
	var xx, yy, xy float64
	for _, t := range truths {
		xx, yy, xy = xx+t.n*(t.said-x)*(t.said-x), yy+t.n*(t.is-y)*(t.is-y), xy+t.n*(t.said-x)*(t.is-y)
	}
	if xx == 0 || yy == 0 {
		return 0
	}
	return xy / math.Sqrt(xx*yy)
}
