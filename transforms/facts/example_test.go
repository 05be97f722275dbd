package facts_test

import (
	"context"
	"fmt"
	"os"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/runners/prism"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/facts"
)

func printFact(f schemas.Fact) {
	fmt.Printf("%s: %s is preferred, %d x %d\n", f.Prompt, f.Preference, f.First.Width, f.First.Height)
}

func init() { register.Function1x0(printFact) }

func ExamplePickAPic() {
	dir, err := os.MkdirTemp("", "facts")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	cfg := facts.DefaultPickAPic()
	cfg.Path, cfg.Store, cfg.Rows = "../../testdata/facts/pickapic", dir, 1

	p, s := beam.NewPipelineWithRoot()
	rows, _, _ := facts.PickAPic(s, cfg)
	beam.ParDo0(s, printFact, rows)
	if _, err := prism.Execute(context.Background(), p); err != nil {
		fmt.Println(err)
	}
	// Output: an old tree on a hill: second is preferred, 32 x 32
}
