package audit

import (
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/judgment"
	"github.com/promptmill/promptmill/transforms/ledger"
	"github.com/promptmill/promptmill/transforms/snapshot"
)

// Trust is how far one model can be trusted as a judge.
type Trust struct {
	// Judge is about pictures, by aspect; an aspect is sorted by its name.
	Judge []AspectTrust `json:"judge"`
	// Judgment is how often the judge finds its own answer that agrees with a fact better than one about other
	// pictures: half for one score, or for a verdict that does not parse. Unread is the part of those.
	Judgment schemas.Share `json:"judgment"`
	Unread   float64       `json:"judgment_unread"`
}

// AspectTrust is a judge's on one aspect.
type AspectTrust struct {
	Aspect string `json:"aspect"`
	// Accuracy is the agreement with the facts, a half for a tie on one side; it is of facts, each asked about in both orders.
	// The parts of the facts on which the tie was chosen are not in it.
	Accuracy schemas.Share `json:"accuracy"`
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
			Aspect: a.Aspect, Accuracy: schemas.NewShare(agreed/2, n/2), Correlation: a.Correlation,
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
	t.Judgment = schemas.NewShare(float64(right)+float64(equal+unread)/2, all)
	t.Unread = float64(unread) / float64(max(1, all))
	return t
}
