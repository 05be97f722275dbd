package parquetio_test

import (
	"context"
	"fmt"
	"os"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/parquetio"
)

func printShard(s schemas.Shard) {
	fmt.Println(s.Config, s.Split, s.Index, s.Rows, "rows, sum", s.RowSum[:8])
}

func init() { register.Function1x0(printShard) }

func ExampleWrite() {
	dir, err := os.MkdirTemp("", "parquetio")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)

	p, s := beam.NewPipelineWithRoot()
	rows := beam.CreateList(s, []schemas.Prompt{
		{ID: schemas.PromptID("a cat"), Text: "a cat", Source: "crawl"},
		{ID: schemas.PromptID("a dog"), Text: "a dog", Source: "crawl"},
		{ID: schemas.PromptID("a cat"), Text: "a cat", Source: "survey"},
	})
	shards, _ := parquetio.Write[schemas.Prompt](s, parquetio.WriteConfig{
		Store: dir, Dir: "data/2026-01-31/r1", Config: "prompts", Stage: "prompts.write", Buckets: 1, Unique: true,
	}, rows)
	beam.ParDo0(s, printShard, shards)
	if _, err := beam.Run(context.Background(), "prism", p); err != nil {
		panic(err)
	}
	// Output: prompts train 0 2 rows, sum 34abc3c7
}
