// Package mix turns what the data sets hold into supervised chat rows: a PCollection of pairs goes in,
// a PCollection<schemas.ChatExample> comes out.
package mix

import (
	"context"
	"errors"
	"reflect"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/ledger"
	"github.com/promptmill/promptmill/transforms/template"
)

func init() {
	beam.RegisterDoFn(reflect.TypeFor[rewriteFn]())
	register.Emitter1[schemas.ChatExample]()
	register.Emitter1[schemas.Count]()
}

// Stage is the name under which the ledger counts pairs here.
const Stage = "mix"

// TaskRewrite is the task of examples that teach rewriting.
const TaskRewrite = "rewrite"

// Config says in which words the policy is asked.
type Config struct {
	// Rewrite is the instruction that the policy will also see when it samples.
	Rewrite template.Template `json:"rewrite" yaml:"rewrite"`
	// Continues is what stands between a prompt and the answer of a policy that continues it: what a rewriting has before is
	// no part of the answer then. "" for a policy that writes the whole.
	Continues string `json:"continues,omitempty" yaml:"-"`
}

// Validate joins all faults.
func (c Config) Validate() error {
	return errors.Join(c.Rewrite.Validate("template.rewrite", template.Rewrite))
}

// Rewrite makes of every pair in a PCollection<schemas.RewritePair> the conversation that teaches it: the
// instruction with the raw prompt, answered by the rewriting (paper 3.2). It returns a
// PCollection<schemas.ChatExample> and a PCollection<schemas.Count>, and panics if cfg is not valid.
func Rewrite(s beam.Scope, cfg Config, pairs beam.PCollection) (examples, counts beam.PCollection) {
	s = s.Scope("mix.Rewrite")
	if err := cfg.Validate(); err != nil {
		panic(err)
	}
	return beam.ParDo2(s, &rewriteFn{Config: cfg}, pairs)
}

type rewriteFn struct {
	Config Config `json:"config"`

	tally ledger.Tally
}

func (fn *rewriteFn) StartBundle(context.Context, func(schemas.ChatExample), func(schemas.Count)) {
	fn.tally.Reset()
}

func (fn *rewriteFn) ProcessElement(_ context.Context, pair schemas.RewritePair, emit func(schemas.ChatExample), _ func(schemas.Count)) {
	answer := template.Said(fn.Config.Continues, pair.Raw, pair.Rewritten)
	messages := append(fn.Config.Rewrite.Messages(pair.Raw), schemas.Message{Role: "assistant", Content: answer})
	fn.tally.In(Stage, 1)
	fn.tally.Out(Stage, 1)
	emit(schemas.ChatExample{
		ID: schemas.ExampleID(TaskRewrite, messages), Task: TaskRewrite, Messages: messages,
		Source: pair.Source, SourceID: pair.SourceID,
	})
}

func (fn *rewriteFn) FinishBundle(_ context.Context, _ func(schemas.ChatExample), count func(schemas.Count)) {
	fn.tally.Flush(count)
}
