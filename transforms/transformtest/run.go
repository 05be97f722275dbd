package transformtest

import (
	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/ledger"
)

// Rows are what came out of a transform, each kind in the order of Collect; counts of one kind are added up.
type Rows[O any] struct {
	Rows     []O
	Rejected []schemas.Rejected
	Counts   []schemas.Count
}

// Fates are the counts without what was spent: of two equal requests, who asks and who finds the answer in the log
// is open.
func (r Rows[O]) Fates() (fates []schemas.Count) {
	for _, c := range r.Counts {
		if c.Outcome != schemas.Used {
			fates = append(fates, c)
		}
	}
	return fates
}

// A Transform with a Config C has three results; rejected is the zero PCollection if there are no dead letters.
type Transform[C any] func(s beam.Scope, cfg C, in beam.PCollection) (rows, rejected, counts beam.PCollection)

// NoneDead makes a Transform of one without dead letters.
func NoneDead[C any](transform func(s beam.Scope, cfg C, in beam.PCollection) (rows, counts beam.PCollection)) Transform[C] {
	return func(s beam.Scope, cfg C, in beam.PCollection) (rows, rejected, counts beam.PCollection) {
		rows, counts = transform(s, cfg, in)
		return rows, rejected, counts
	}
}

// Run runs transform on in, in a pipeline of its own, and returns what came out of it. O is one of the row types of
// Collect.
func Run[O, C, I any](transform Transform[C], cfg C, in []I) (Rows[O], error) {
	p, s := beam.NewPipelineWithRoot()
	rows, rejected, counts := transform(s, cfg, beam.Reshuffle(s, beam.CreateList(s, in)))
	gotRows, gotRejected := Collect[O](s, rows), func() []schemas.Rejected { return nil }
	if rejected.IsValid() {
		gotRejected = Collect[schemas.Rejected](s, rejected)
	}
	gotCounts := Collect[schemas.Count](s, counts)
	if err := ptest.Run(p); err != nil {
		return Rows[O]{}, err
	}
	return Rows[O]{gotRows(), gotRejected(), ledger.Sum(gotCounts())}, nil
}
