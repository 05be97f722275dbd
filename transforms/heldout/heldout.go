// Package heldout keeps benchmarks out of training sets: it removes prompts, and pairs and facts by their
// prompt, that a benchmark has.
//
// A text is a benchmark's if, folded to lower case without punctuation, it is equal to one of its
// prompts, shares a run of 13 words with one (the rule of the GPT-3 paper, appendix C), or has a Jaccard
// similarity of word shingles with one of at least the threshold. The last two need no text of a
// certain length: two words are compared as one shingle.
//
// # Design
//
// Benchmarks are small (Parti has 1,632 prompts, GenEval 553), so each process reads them once into an
// index from shingle to prompts, and the similarity is computed exactly: nothing is shuffled.
package heldout

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/ledger"
	"github.com/promptmill/promptmill/transforms/settings"
	"github.com/promptmill/promptmill/transforms/source"
)

// Stage is the name in the ledger; the reasons of its filtered rows are the benchmarks' names.
const Stage = "heldout"

func init() {
	beam.RegisterDoFn(reflect.TypeFor[promptFn]())
	beam.RegisterDoFn(reflect.TypeFor[pairFn]())
	beam.RegisterDoFn(reflect.TypeFor[factFn]())
	register.Emitter1[schemas.Fact]()
	register.Emitter1[schemas.Prompt]()
	register.Emitter1[schemas.RewritePair]()
	register.Emitter1[schemas.Count]()
}

// Config names the benchmarks. Without any, nothing is removed.
type Config struct {
	Benchmarks []Benchmark `json:"benchmarks" yaml:"benchmarks"`
	// ShingleWords and Threshold say what a near match is. Defaults 3 and 0.8.
	ShingleWords int     `json:"shingle_words,omitempty" yaml:"shingle_words,omitempty"`
	Threshold    float64 `json:"threshold,omitempty" yaml:"threshold,omitempty"`
}

// A Benchmark is a file of prompts. A text that several have counts for the first.
type Benchmark struct {
	Name string `json:"name" yaml:"name"`
	// Path, Format and Column are those of a source.Input; Column defaults to prompt.
	Path   string `json:"path" yaml:"path"`
	Format string `json:"format,omitempty" yaml:"format,omitempty"`
	Column string `json:"column,omitempty" yaml:"column,omitempty"`
}

func (b Benchmark) input() source.Input {
	in := source.Input{Name: b.Name, Path: b.Path, Format: b.Format}
	if b.Column != "" {
		in.Columns = map[string]string{"prompt": b.Column}
	}
	return in
}

func (c Config) withDefaults() Config {
	if c.ShingleWords == 0 {
		c.ShingleWords = 3
	}
	if c.Threshold == 0 {
		c.Threshold = 0.8
	}
	return c
}

// Validate joins all that is wrong with c.
func (c Config) Validate() error {
	faults := settings.Of("heldout")
	seen := map[string]bool{}
	for i, b := range c.Benchmarks {
		faults.Check(b.Name != "" && !seen[b.Name], "benchmarks[%d].name: %q is empty or there twice: the ledger counts by name", i, b.Name)
		faults.Check(b.Path != "", "benchmarks[%d].path: there is none: name the benchmark's file", i)
		seen[b.Name] = true
	}
	c = c.withDefaults()
	faults.Check(c.ShingleWords >= 1 && c.ShingleWords <= 13, "shingle_words: %d is not in 1..13: 3 suits prompts", c.ShingleWords)
	faults.Check(c.Threshold > 0 && c.Threshold <= 1, "threshold: %g is not in 0..1: 0.8 suits prompts", c.Threshold)
	return faults.Err()
}

// Inspect reads the benchmarks and reports, before a run, what would fail it. All faults are joined.
func Inspect(ctx context.Context, cfg Config) error {
	errs := []error{cfg.Validate()}
	if errs[0] == nil {
		for i, b := range cfg.Benchmarks {
			if _, err := readBenchmark(ctx, b); err != nil {
				errs = append(errs, fmt.Errorf("heldout.benchmarks[%d].path: %w", i, err))
			}
		}
	}
	return errors.Join(errs...)
}

// Digests returns the digest (source.Digest) of each benchmark's file by name, for manifests.
func Digests(ctx context.Context, cfg Config) (map[string]string, error) {
	digests := map[string]string{}
	for _, b := range cfg.Benchmarks {
		d, err := source.Digest(ctx, source.Config{Inputs: []source.Input{b.input()}})
		if err != nil {
			return nil, fmt.Errorf("heldout: benchmark %s: %w", b.Name, err)
		}
		digests[b.Name] = d
	}
	return digests, nil
}

// Prompts removes the benchmarks' prompts from a PCollection<schemas.Prompt>. It returns what stays and
// the ledger of stage "heldout", a PCollection<schemas.Count>. It panics if cfg is not valid.
func Prompts(s beam.Scope, cfg Config, prompts beam.PCollection) (kept, counts beam.PCollection) {
	s = s.Scope("heldout.Prompts")
	if err := cfg.Validate(); err != nil {
		panic(err)
	}
	return beam.ParDo2(s, &promptFn{remover{Config: cfg}}, prompts)
}

// Pairs removes from a PCollection<schemas.RewritePair> the pairs whose raw prompt is a benchmark's, as
// Prompts does.
func Pairs(s beam.Scope, cfg Config, pairs beam.PCollection) (kept, counts beam.PCollection) {
	s = s.Scope("heldout.Pairs")
	if err := cfg.Validate(); err != nil {
		panic(err)
	}
	return beam.ParDo2(s, &pairFn{remover{Config: cfg}}, pairs)
}

// Facts removes from a PCollection<schemas.Fact> the facts about pictures of a benchmark's prompt, as Prompts
// does. Photographs have no prompt and stay.
func Facts(s beam.Scope, cfg Config, facts beam.PCollection) (kept, counts beam.PCollection) {
	s = s.Scope("heldout.Facts")
	if err := cfg.Validate(); err != nil {
		panic(err)
	}
	return beam.ParDo2(s, &factFn{remover{Config: cfg}}, facts)
}

// A remover is what the DoFns share.
type remover struct {
	Config Config `json:"config"`

	index *index
	tally ledger.Tally
}

func (fn *remover) Setup(ctx context.Context) (err error) {
	fn.index, err = load(ctx, fn.Config)
	return err
}

func (fn *remover) keep(text string) bool {
	fn.tally.In(Stage, 1)
	if name, ok := fn.index.match(text); ok {
		fn.tally.Filtered(Stage, name, 1)
		return false
	}
	fn.tally.Out(Stage, 1)
	return true
}

type promptFn struct {
	remover
}

func (fn *promptFn) StartBundle(context.Context, func(schemas.Prompt), func(schemas.Count)) {
	fn.tally.Reset()
}

func (fn *promptFn) ProcessElement(_ context.Context, p schemas.Prompt, emit func(schemas.Prompt), _ func(schemas.Count)) error {
	if fn.keep(p.Text) {
		emit(p)
	}
	return nil
}

func (fn *promptFn) FinishBundle(_ context.Context, _ func(schemas.Prompt), count func(schemas.Count)) {
	fn.tally.Flush(count)
}

type pairFn struct {
	remover
}

func (fn *pairFn) StartBundle(context.Context, func(schemas.RewritePair), func(schemas.Count)) {
	fn.tally.Reset()
}

func (fn *pairFn) ProcessElement(_ context.Context, p schemas.RewritePair, emit func(schemas.RewritePair), _ func(schemas.Count)) error {
	if fn.keep(p.Raw) {
		emit(p)
	}
	return nil
}

func (fn *pairFn) FinishBundle(_ context.Context, _ func(schemas.RewritePair), count func(schemas.Count)) {
	fn.tally.Flush(count)
}

type factFn struct {
	remover
}

func (fn *factFn) StartBundle(context.Context, func(schemas.Fact), func(schemas.Count)) {
	fn.tally.Reset()
}

func (fn *factFn) ProcessElement(_ context.Context, f schemas.Fact, emit func(schemas.Fact), _ func(schemas.Count)) error {
	if fn.keep(f.Prompt) {
		emit(f)
	}
	return nil
}

func (fn *factFn) FinishBundle(_ context.Context, _ func(schemas.Fact), count func(schemas.Count)) {
	fn.tally.Flush(count)
}
