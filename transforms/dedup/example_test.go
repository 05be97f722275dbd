package dedup_test

import (
	"context"
	"fmt"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/runners/prism"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/dedup"
)

func printText(p schemas.Prompt) { fmt.Println(p.Text) }

func init() { register.Function1x0(printText) }

func ExampleNear() {
	p, s := beam.NewPipelineWithRoot()
	prompts := beam.CreateList(s, []schemas.Prompt{
		{ID: schemas.PromptID("a cat, asleep"), Text: "a cat, asleep"},
		{ID: schemas.PromptID("A cat asleep."), Text: "A cat asleep."},
	})
	kept, _ := dedup.Near(s, dedup.Config{Mode: dedup.ModeNear}, prompts)
	beam.ParDo0(s, printText, kept)
	if _, err := prism.Execute(context.Background(), p); err != nil {
		fmt.Println(err)
	}
	// Output: a cat, asleep
}
