package mix_test

import (
	"fmt"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/passert"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/mix"
	"github.com/promptmill/promptmill/transforms/template"
)

func TestMain(m *testing.M) { ptest.Main(m) }

var ask = template.Template{ID: "test/rewrite/1", System: "You rewrite.", User: "Prompt: {prompt}"}

func TestRewrite(t *testing.T) {
	p, s, pairs := ptest.CreateList([]schemas.RewritePair{{
		ID: schemas.PairID("a cat", "a cat, oil"), Raw: "a cat", Rewritten: "a cat, oil", Source: "set", SourceID: "7",
	}})
	examples, counts := mix.Rewrite(s, mix.Config{Rewrite: ask}, pairs)
	messages := []schemas.Message{
		{Role: "system", Content: "You rewrite."},
		{Role: "user", Content: "Prompt: a cat"},
		{Role: "assistant", Content: "a cat, oil"},
	}
	passert.Equals(s, examples, schemas.ChatExample{
		ID: schemas.ExampleID("rewrite", messages), Task: "rewrite", Messages: messages, Source: "set", SourceID: "7",
	})
	passert.Equals(s, counts,
		schemas.Count{Stage: mix.Stage, Outcome: schemas.In, N: 1},
		schemas.Count{Stage: mix.Stage, Outcome: schemas.Out, N: 1})
	ptest.RunAndValidate(t, p)
}

// A policy that continues the prompt is taught what it is to say, and no more.
func TestContinues(t *testing.T) {
	p, s, pairs := ptest.CreateList([]schemas.RewritePair{
		{Raw: "a cat", Rewritten: "a cat, oil, a cat, red"}, {Raw: "a dog", Rewritten: "a hound, oil"},
	})
	examples, _ := mix.Rewrite(s, mix.Config{Rewrite: ask, Continues: ", "}, pairs)
	var want []any
	for raw, answer := range map[string]string{"a cat": "oil, a cat, red", "a dog": "a hound, oil"} {
		messages := append(ask.Messages(raw), schemas.Message{Role: "assistant", Content: answer})
		want = append(want, schemas.ChatExample{ID: schemas.ExampleID("rewrite", messages), Task: "rewrite", Messages: messages})
	}
	passert.Equals(s, examples, want...)
	ptest.RunAndValidate(t, p)
}

func TestConfigNeedsThePrompt(t *testing.T) {
	cfg := mix.Config{Rewrite: template.Template{ID: "x", User: "Say something."}}
	if err := cfg.Validate(); err == nil {
		t.Error("a template without the prompt is accepted")
	}
}

func ExampleRewrite() {
	p, s := beam.NewPipelineWithRoot()
	pairs := beam.Create(s, schemas.RewritePair{Raw: "a cat", Rewritten: "a cat, oil painting"})
	examples, counts := mix.Rewrite(s, mix.Config{Rewrite: template.Paper().Rewrite}, pairs)
	_, _ = examples, counts
	fmt.Println(len(p.String()) > 0)
	// Output: true
}
