package teacher

import (
	"cmp"
	"slices"
	"strings"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/judge"
)

// What Used counts of StageAnswers are about.
const (
	asked = "asked"
	kept  = "kept"
)

// separator joins the parts of a Used count's reason; no aspect, source or order has it.
const separator = "/"

func label(parts ...string) string { return strings.Join(parts, separator) }

// A Report is what the counts of one or more runs say about the teacher.
type Report struct {
	// Acceptance is by aspect, source and order, sorted.
	Acceptance []Acceptance `json:"acceptance"`
	// Left counts the answers that were not kept, by reason.
	Left map[string]int64 `json:"left"`
	// Bias is by aspect and source, sorted.
	Bias []Bias `json:"bias"`
}

// Acceptance is how many of the answers asked for with a cue were kept.
type Acceptance struct {
	Aspect string  `json:"aspect"`
	Source string  `json:"source"`
	Order  string  `json:"order"`
	Asked  int64   `json:"asked"`
	Kept   int64   `json:"kept"`
	Rate   float64 `json:"rate"`
}

// Bias is what facts that were asked in both orders say about the teacher's sense of place.
type Bias struct {
	Aspect string `json:"aspect"`
	Source string `json:"source"`
	judge.Orders
}

// Summarise reads the counts that Teach emitted; other stages' do not matter.
func Summarise(counts []schemas.Count) Report {
	r := Report{Acceptance: []Acceptance{}, Left: map[string]int64{}, Bias: []Bias{}}
	acceptance, bias := map[[3]string]*Acceptance{}, map[[2]string]*Bias{}
	for _, c := range counts {
		parts := strings.Split(c.Reason, separator)
		switch {
		case c.Stage == StageAnswers && c.Outcome == schemas.Filtered:
			r.Left[c.Reason] += c.N
		case c.Stage == StageAnswers && c.Outcome == schemas.Used && len(parts) == 4:
			key := [3]string(parts[1:])
			a := acceptance[key]
			if a == nil {
				a = &Acceptance{Aspect: key[0], Source: key[1], Order: key[2]}
				acceptance[key] = a
			}
			if parts[0] == asked {
				a.Asked += c.N
			} else {
				a.Kept += c.N
			}
		case c.Stage == StageBias && len(parts) == 3:
			key := [2]string(parts[1:])
			b := bias[key]
			if b == nil {
				b = &Bias{Aspect: key[0], Source: key[1]}
				bias[key] = b
			}
			b.Add(parts[0], c.N)
		}
	}
	for _, a := range acceptance {
		a.Rate = float64(a.Kept) / float64(a.Asked)
		r.Acceptance = append(r.Acceptance, *a)
	}
	slices.SortFunc(r.Acceptance, func(a, b Acceptance) int {
		return cmp.Or(cmp.Compare(a.Aspect, b.Aspect), cmp.Compare(a.Source, b.Source), cmp.Compare(a.Order, b.Order))
	})
	for _, b := range bias {
		r.Bias = append(r.Bias, *b)
	}
	slices.SortFunc(r.Bias, func(a, b Bias) int {
		return cmp.Or(cmp.Compare(a.Aspect, b.Aspect), cmp.Compare(a.Source, b.Source))
	})
	return r
}
