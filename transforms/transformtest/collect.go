// Package transformtest is what the tests of transforms share: Collect looks at all rows of a PCollection,
// where passert can only compare them with rows known beforehand, and Run at all that comes out of a transform.
// Deterministic and ExtraAttempts are the conformance suite of the steps that ask a model. Cache is a folder for a
// response log, and RoundTrip takes a Config to a worker and back.
package transformtest

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/promptmill/promptmill/schemas"
)

// Package register's generated callers would take gigabytes of the compiler's memory for these ten; reflection will do.
func init() {
	for _, t := range []reflect.Type{
		reflect.TypeFor[collectFn[schemas.Slate]](), reflect.TypeFor[collectFn[schemas.Candidate]](),
		reflect.TypeFor[collectFn[schemas.Judgment]](), reflect.TypeFor[collectFn[schemas.Reward]](),
		reflect.TypeFor[collectFn[schemas.PreferencePair]](), reflect.TypeFor[collectFn[schemas.Fact]](),
		reflect.TypeFor[collectFn[schemas.Evaluation]](), reflect.TypeFor[collectFn[schemas.JudgmentExample]](),
		reflect.TypeFor[collectFn[schemas.Rejected]](), reflect.TypeFor[collectFn[schemas.Count]](),
	} {
		beam.RegisterType(t)
	}
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
