package prompts

import (
	"reflect"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/ledger"
)

func init() {
	beam.RegisterDoFn(reflect.TypeFor[partFn]())
	register.Emitter1[schemas.Prompt]()
	register.Emitter1[schemas.Count]()
}

// Parts of a set of prompts. Which one a prompt is in follows from its text alone, so settings that were chosen on one
// never saw the other, whatever the seed.
const (
	Validation = "validation"
	Test       = "test"
)

// StagePart counts the prompts of both parts.
const StagePart = "part"

// OtherPart is why a prompt is filtered there.
const OtherPart = "other_part"

// PartOf is the part that a prompt is in.
func PartOf(p schemas.Prompt) string {
	if schemas.Permille(0, p.ID) < 500 {
		return Validation
	}
	return Test
}

// halve keeps the prompts of one part.
func halve(s beam.Scope, part string, prompts, counts beam.PCollection) (kept, all beam.PCollection) {
	kept, n := beam.ParDo2(s, &partFn{Part: part}, prompts)
	return kept, beam.Flatten(s, counts, n)
}

type partFn struct {
	Part string

	tally ledger.Tally
}

func (fn *partFn) StartBundle(func(schemas.Prompt), func(schemas.Count)) { fn.tally.Reset() }

func (fn *partFn) ProcessElement(p schemas.Prompt, emit func(schemas.Prompt), _ func(schemas.Count)) {
	fn.tally.In(StagePart, 1)
	if PartOf(p) != fn.Part {
		fn.tally.Filtered(StagePart, OtherPart, 1)
		return
	}
	fn.tally.Out(StagePart, 1)
	emit(p)
}

func (fn *partFn) FinishBundle(_ func(schemas.Prompt), counts func(schemas.Count)) {
	fn.tally.Flush(counts)
}
