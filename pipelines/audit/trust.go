package audit

import (
	"math"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/judgment"
	"github.com/promptmill/promptmill/transforms/ledger"
	"github.com/promptmill/promptmill/transforms/snapshot"
)

// A Share is a part of a number of trials with its 95% interval (Wilson 1927).
type Share struct {
	Value float64 `json:"value"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
	Of    int64   `json:"of"`
}

// NewShare is count of a number of trials; of none nothing is known.
func NewShare(count float64, of int64) Share {
	if of == 0 {
		return Share{High: 1}
	}
	const z = 1.959964
	n := float64(of)
	p := count / n
	middle, wide := p+z*z/(2*n), z*math.Sqrt(p*(1-p)/n+z*z/(4*n*n))
	return Share{p, (middle - wide) / (1 + z*z/n), (middle + wide) / (1 + z*z/n), of}
}

// Trust is how far one model can be trusted as a judge.
type Trust struct {
	// Judge is about pictures, by aspect; an aspect is sorted by its name.
	Judge []AspectTrust `json:"judge"`
	// Judgment is how often the judge finds its own answer that agrees with a fact better than one about other
	// pictures: half for one score, or for a verdict that does not parse. Unread is the part of those.
	Judgment Share   `json:"judgment"`
	Unread   float64 `json:"judgment_unread"`
}

// AspectTrust is a judge's on one aspect.
type AspectTrust struct {
	Aspect string `json:"aspect"`
	// Accuracy is the agreement with the facts, a half for a tie on one side; it is of facts, each asked about in both orders.
	// The parts of the facts on which the tie was chosen are not in it.
	Accuracy Share `json:"accuracy"`
	// Correlation is that of the differences of scores, where facts have scores.
	Correlation float64 `json:"correlation"`
	// Unread is the part of the answers that do not parse.
	Unread float64 `json:"unread"`
}

// Trusted reads the figures from the counts of a run.
func Trusted(m snapshot.Manifest, validation string) Trust {
	t := Trust{Judge: []AspectTrust{}}
	for _, a := range Report(m, validation).Aspects {
		var agreed float64
		var n, unread int64
		for _, g := range a.Agreement {
			if validation == "" || g.Part != validation {
				agreed, n = agreed+g.Accuracy*float64(g.N), n+g.N
			}
		}
		for _, faults := range a.Faults {
			unread += faults
		}
		t.Judge = append(t.Judge, AspectTrust{
			// Two answers about one fact are not two trials.
			Aspect: a.Aspect, Accuracy: NewShare(agreed/2, n/2), Correlation: a.Correlation,
			Unread: float64(unread) / float64(max(1, unread+a.Read)),
		})
	}
	right := ledger.Total(m.Counts, judgment.Stage, schemas.Out)
	var equal int64
	for _, c := range m.Counts {
		if c.Stage == judgment.Stage && c.Outcome == schemas.Filtered && c.Reason == judgment.Equal {
			equal += c.N
		}
	}
	unread, all := ledger.Total(m.Counts, judgment.Stage, schemas.Dead), ledger.Total(m.Counts, judgment.Stage, schemas.In)
	t.Judgment = NewShare(float64(right)+float64(equal+unread)/2, all)
	t.Unread = float64(unread) / float64(max(1, all))
	return t
}

// Aspect returns the figures of one aspect.
func (t Trust) Aspect(name string) (AspectTrust, bool) {
	for _, a := range t.Judge {
		if a.Aspect == name {
			return a, true
		}
	}
	return AspectTrust{}, false
}
