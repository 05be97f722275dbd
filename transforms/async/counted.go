package async

import (
	"context"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/ledger"
)

// A Counted is a Bundle whose results are counted in the ledger. Embed it in a DoFn as an unexported field.
type Counted[I, O any] struct {
	Bundle[I, O]
	// Tally is added to where results are taken, on the bundle's goroutine.
	Tally ledger.Tally
}

// Start is that of Bundle. What an abandoned bundle counted is dropped.
func (c *Counted[I, O]) Start(ctx context.Context, limit int, call func(context.Context, I) (O, error)) {
	c.Tally.Reset()
	c.Bundle.Start(ctx, limit, call)
}

// Finish waits for the calls in flight, hands on their results, and then emits what was counted: call it in
// FinishBundle.
func (c *Counted[I, O]) Finish(take func(beam.EventTime, O), counts func(schemas.Count)) error {
	if err := c.Bundle.Finish(take); err != nil {
		return err
	}
	c.Tally.Flush(counts)
	return nil
}
