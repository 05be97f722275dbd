package sft

import (
	"context"
	"reflect"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/embed"
	"github.com/promptmill/promptmill/transforms/judgment"
	"github.com/promptmill/promptmill/transforms/ledger"
	"github.com/promptmill/promptmill/transforms/parquetio"
	"github.com/promptmill/promptmill/transforms/teacher"
)

func init() {
	parquetio.Register[schemas.VisionChatExample]()
	beam.RegisterDoFn(reflect.TypeFor[pairFn]())
	beam.RegisterDoFn(reflect.TypeFor[evaluationFn]())
	beam.RegisterDoFn(reflect.TypeFor[judgmentFn]())
	beam.RegisterType(reflect.TypeFor[VisionItem]())
	embed.Register[VisionItem, schemas.VisionChatExample]()
	register.Emitter1[schemas.RewritePair]()
	register.Emitter1[VisionItem]()
	register.Emitter1[schemas.Count]()
}

// StageSides counts the rows of a mixture: each is out, on one side.
const StageSides = "sides"

// pairFn hands pairs to their side.
type pairFn struct {
	Cut Cut

	tally ledger.Tally
}

func (fn *pairFn) StartBundle(context.Context, func(schemas.RewritePair), func(schemas.RewritePair), func(schemas.Count)) {
	fn.tally.Reset()
}

func (fn *pairFn) ProcessElement(_ context.Context, p Pair, train, validation func(schemas.RewritePair), _ func(schemas.Count)) {
	fn.tally.In(StageSides, 1)
	fn.tally.Out(StageSides, 1)
	if fn.Cut.validation(p.RowKey()) {
		train = validation
	}
	train(schemas.RewritePair(p))
}

func (fn *pairFn) FinishBundle(_ context.Context, _, _ func(schemas.RewritePair), counts func(schemas.Count)) {
	fn.tally.Flush(counts)
}

// A VisionItem is a schemas.VisionChatExample that names its pictures instead of holding them.
type VisionItem struct {
	ID       string
	Task     string
	Messages []schemas.Message
	Source   string
	SourceID string
	// Image1 and Image2 are in the order in which they were shown.
	Image1, Image2 schemas.ImageRef
}

// Pictures are those of the item.
func (it VisionItem) Pictures() (first, second schemas.ImageRef) { return it.Image1, it.Image2 }

// WithPictures is the row of the set.
func (it VisionItem) WithPictures(first, second schemas.Image) schemas.VisionChatExample {
	return schemas.VisionChatExample{
		ID: it.ID, Task: it.Task, Messages: it.Messages, Images: []schemas.Image{first, second}, Source: it.Source, SourceID: it.SourceID,
	}
}

// A visionFn hands items to their side.
type visionFn struct {
	Cut Cut

	tally ledger.Tally
}

func (fn *visionFn) StartBundle(context.Context, func(VisionItem), func(VisionItem), func(schemas.Count)) {
	fn.tally.Reset()
}

func (fn *visionFn) FinishBundle(_ context.Context, _, _ func(VisionItem), counts func(schemas.Count)) {
	fn.tally.Flush(counts)
}

func (fn *visionFn) hand(group string, it VisionItem, train, validation func(VisionItem)) {
	fn.tally.In(StageSides, 1)
	fn.tally.Out(StageSides, 1)
	if fn.Cut.validation(group) {
		train = validation
	}
	train(it)
}

type evaluationFn struct{ visionFn }

func (fn *evaluationFn) ProcessElement(_ context.Context, it teacher.Item, train, validation func(VisionItem), _ func(schemas.Count)) {
	fn.hand(it.Group, VisionItem{
		ID: it.ID, Task: schemas.TaskEvaluation, Messages: it.Messages, Source: it.Source, SourceID: it.FactID, Image1: it.Image1, Image2: it.Image2,
	}, train, validation)
}

type judgmentFn struct{ visionFn }

func (fn *judgmentFn) ProcessElement(_ context.Context, it judgment.Item, train, validation func(VisionItem), _ func(schemas.Count)) {
	fn.hand(it.Group, VisionItem{
		ID: it.ID, Task: schemas.TaskJudgment, Messages: it.Messages, Source: it.Source, SourceID: it.FactID, Image1: it.Image1, Image2: it.Image2,
	}, train, validation)
}
