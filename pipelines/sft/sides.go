package sft

import (
	"context"
	"fmt"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/transforms/judgment"
	"github.com/promptmill/promptmill/transforms/ledger"
	"github.com/promptmill/promptmill/transforms/parquetio"
	"github.com/promptmill/promptmill/transforms/teacher"
)

func init() {
	parquetio.Register[schemas.VisionChatExample]()
	register.DoFn5x0[context.Context, Pair, func(schemas.RewritePair), func(schemas.RewritePair), func(schemas.Count)](&pairFn{})
	register.DoFn5x1[context.Context, teacher.Item, func(schemas.VisionChatExample), func(schemas.VisionChatExample), func(schemas.Count), error](&evaluationFn{})
	register.DoFn5x1[context.Context, judgment.Item, func(schemas.VisionChatExample), func(schemas.VisionChatExample), func(schemas.Count), error](&judgmentFn{})
	register.Emitter1[schemas.RewritePair]()
	register.Emitter1[schemas.VisionChatExample]()
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

// A visionFn embeds the pictures of rows and hands them to their side. What follows is the sink: rows with
// pictures cross no shuffle.
type visionFn struct {
	Cut   Cut
	Cache string

	store store.Store
	tally ledger.Tally
}

func (fn *visionFn) Setup(ctx context.Context) (err error) {
	fn.store, err = store.Open(ctx, fn.Cache)
	return err
}

func (fn *visionFn) StartBundle(context.Context, func(schemas.VisionChatExample), func(schemas.VisionChatExample), func(schemas.Count)) {
	fn.tally.Reset()
}

func (fn *visionFn) FinishBundle(_ context.Context, _, _ func(schemas.VisionChatExample), counts func(schemas.Count)) {
	fn.tally.Flush(counts)
}

func (fn *visionFn) embed(ctx context.Context, group string, row schemas.VisionChatExample, one, other schemas.ImageRef, train, validation func(schemas.VisionChatExample)) error {
	first, second, err := teacher.Pictures(ctx, fn.store, one, other)
	if err != nil {
		return fmt.Errorf("sft: %s row %s: %w", row.Task, row.ID, err)
	}
	row.Images = []schemas.Image{first, second}
	fn.tally.In(StageSides, 1)
	fn.tally.Out(StageSides, 1)
	if fn.Cut.validation(group) {
		train = validation
	}
	train(row)
	return nil
}

type evaluationFn struct{ visionFn }

func (fn *evaluationFn) ProcessElement(ctx context.Context, it teacher.Item, train, validation func(schemas.VisionChatExample), _ func(schemas.Count)) error {
	row := schemas.VisionChatExample{ID: it.ID, Task: schemas.TaskEvaluation, Messages: it.Messages, Source: it.Source, SourceID: it.FactID}
	return fn.embed(ctx, it.Group, row, it.Image1, it.Image2, train, validation)
}

type judgmentFn struct{ visionFn }

func (fn *judgmentFn) ProcessElement(ctx context.Context, it judgment.Item, train, validation func(schemas.VisionChatExample), _ func(schemas.Count)) error {
	row := schemas.VisionChatExample{ID: it.ID, Task: schemas.TaskJudgment, Messages: it.Messages, Source: it.Source, SourceID: it.FactID}
	return fn.embed(ctx, it.Group, row, it.Image1, it.Image2, train, validation)
}
