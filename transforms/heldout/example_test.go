package heldout_test

import (
	"context"
	"fmt"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/runners/prism"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/heldout"
)

func printText(p schemas.Prompt) { fmt.Println(p.Text) }

func init() { register.Function1x0(printText) }

func ExamplePrompts() {
	cfg := heldout.Config{Benchmarks: []heldout.Benchmark{{Name: "geneval", Path: "../../testdata/prompts/geneval.jsonl"}}}
	p, s := beam.NewPipelineWithRoot()
	kept, _ := heldout.Prompts(s, cfg, beam.CreateList(s, []schemas.Prompt{
		{ID: schemas.PromptID("A photo of a bench."), Text: "A photo of a bench."},
		{ID: schemas.PromptID("a bench in the fog"), Text: "a bench in the fog"},
	}))
	beam.ParDo0(s, printText, kept)
	if _, err := prism.Execute(context.Background(), p); err != nil {
		fmt.Println(err)
	}
	// Output: a bench in the fog
}
