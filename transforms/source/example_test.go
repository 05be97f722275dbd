package source_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/runners/prism"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/source"
)

func printPrompt(p schemas.Prompt) { fmt.Println(p.ID, p.Text) }

func init() { register.Function1x0(printPrompt) }

func ExamplePrompts() {
	dir, err := os.MkdirTemp("", "source")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "mine.csv")
	if err := os.WriteFile(path, []byte("Text,Likes\n\"a cat,   asleep\",3\n"), 0o600); err != nil {
		fmt.Println(err)
		return
	}
	cfg := source.Config{Inputs: []source.Input{{Name: "mine", Path: path, Columns: map[string]string{"prompt": "Text"}}}}

	p, s := beam.NewPipelineWithRoot()
	prompts, _, _ := source.Prompts(s, cfg)
	beam.ParDo0(s, printPrompt, prompts)
	if _, err := prism.Execute(context.Background(), p); err != nil {
		fmt.Println(err)
	}
	// Output: 2e6317819a74412780d055c58e113652 a cat, asleep
}
