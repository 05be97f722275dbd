// Package transformtest is what the tests of transforms share: Collect looks at all rows of a PCollection,
// where passert can only compare them with rows known beforehand, Cache is a folder for a response log, and
// RoundTrip takes a Config to a worker and back.
package transformtest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/promptmill/promptmill/schemas"
)

func init() {
	register.DoFn1x0[schemas.Slate](&collectFn[schemas.Slate]{})
	register.DoFn1x0[schemas.Candidate](&collectFn[schemas.Candidate]{})
	register.DoFn1x0[schemas.Judgment](&collectFn[schemas.Judgment]{})
	register.DoFn1x0[schemas.Reward](&collectFn[schemas.Reward]{})
	register.DoFn1x0[schemas.PreferencePair](&collectFn[schemas.PreferencePair]{})
	register.DoFn1x0[schemas.Fact](&collectFn[schemas.Fact]{})
	register.DoFn1x0[schemas.Evaluation](&collectFn[schemas.Evaluation]{})
	register.DoFn1x0[schemas.JudgmentExample](&collectFn[schemas.JudgmentExample]{})
	register.DoFn1x0[schemas.Rejected](&collectFn[schemas.Rejected]{})
	register.DoFn1x0[schemas.Count](&collectFn[schemas.Count]{})
}

// sinks hold what was collected in this process, by the number that their DoFn carries.
var (
	mu    sync.Mutex
	sinks []*[]any
)

type collectFn[T any] struct{ Sink int }

func (fn *collectFn[T]) ProcessElement(row T) {
	mu.Lock()
	defer mu.Unlock()
	*sinks[fn.Sink] = append(*sinks[fn.Sink], row)
}

// Collect returns a function that, once the pipeline has run in this process, returns the rows of a
// PCollection<T> ordered by their JSON: equal sets of rows give equal slices. T is one of the row types.
func Collect[T any](s beam.Scope, rows beam.PCollection) func() []T {
	mu.Lock()
	defer mu.Unlock()
	sink := &[]any{}
	sinks = append(sinks, sink)
	beam.ParDo0(s.Scope("transformtest.Collect"), &collectFn[T]{Sink: len(sinks) - 1}, rows)
	return func() []T {
		mu.Lock()
		defer mu.Unlock()
		out := []T{}
		for _, row := range *sink {
			out = append(out, row.(T))
		}
		slices.SortFunc(out, func(a, b T) int { return strings.Compare(text(a), text(b)) })
		return out
	}
}

func text(row any) string {
	b, err := json.Marshal(row)
	if err != nil {
		return fmt.Sprintf("%+v", row)
	}
	return string(b)
}
