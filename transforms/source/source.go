// Package source reads prompts, and pairs of a prompt and a rewriting of it, from files of many formats:
// JSON Lines, a JSON array, CSV, TSV, Parquet, text, and the layouts of BeautifulPrompt and DiffusionDB.
//
// What comes out is in Unicode NFC with white space folded, and within the recipe's limits; its ID is
// its content's, so an id that a file has twice, or not at all, is no matter. A record that is no
// prompt is a dead letter whose key is input:file@offset (input:file#row for Parquet). A file that
// cannot be read, or does not have the columns, fails the run; Inspect finds most such faults before it.
//
// # Design
//
// One splittable DoFn reads, decodes and cleans, because an element handed from one DoFn to another
// may cost more than all three. JSON Lines, TSV and text are cut into ranges of 2 MiB, a record
// belonging to the range its first byte is in; Parquet by row groups. A CSV file is one range (a line
// break may be inside quotes, so only the beginning tells where records begin), and so are a JSON
// array, anything in gzip and an input with max_rows. All are read as a stream: memory is bounded by
// limits.max_line_bytes, whatever the file.
package source

import (
	"context"
	"fmt"
	"iter"
	"math"
	"reflect"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/sdf"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/promptmill/promptmill/schemas"
)

// Stage is the name in the ledger and in dead letters.
const Stage = "source"

func init() {
	beam.RegisterType(reflect.TypeFor[task]())
	beam.RegisterDoFn(reflect.TypeFor[expandFn]())
	beam.RegisterDoFn(reflect.TypeFor[promptFn]())
	beam.RegisterDoFn(reflect.TypeFor[pairFn]())
	register.Emitter1[task]()
	register.Emitter1[schemas.Prompt]()
	register.Emitter1[schemas.RewritePair]()
	register.Emitter1[schemas.Rejected]()
	register.Emitter1[schemas.Count]()
}

// Prompts reads the inputs of cfg into a PCollection<schemas.Prompt>, in no order. Records that are no
// prompts come out of the second result, a PCollection<schemas.Rejected>; the third is the ledger of
// stage "source", a PCollection<schemas.Count> whose unit is the record. It panics if cfg is not valid.
func Prompts(s beam.Scope, cfg Config) (prompts, rejected, counts beam.PCollection) {
	s = s.Scope("source.Prompts")
	tasks := expandAll(s, cfg, promptRows)
	return beam.ParDo3(s, &promptFn{reader: reader{Config: cfg}}, tasks)
}

// Pairs reads the inputs of cfg into a PCollection<schemas.RewritePair>, as Prompts does.
func Pairs(s beam.Scope, cfg Config) (pairs, rejected, counts beam.PCollection) {
	s = s.Scope("source.Pairs")
	tasks := expandAll(s, cfg, pairRows)
	return beam.ParDo3(s, &pairFn{reader: reader{Config: cfg}}, tasks)
}

// Read yields the prompts of one input in order, without a pipeline, for sets that are small and must be
// whole (benchmarks): a record that is no prompt is an error, and ends the reading.
func Read(ctx context.Context, in Input) iter.Seq2[schemas.Prompt, error] {
	cfg := Config{Inputs: []Input{in}}
	return func(yield func(schemas.Prompt, error) bool) {
		if err := cfg.validateAs(promptRows); err != nil {
			yield(schemas.Prompt{}, err)
			return
		}
		r := reader{Config: cfg}
		tasks, err := cfg.tasks(ctx, 0)
		for _, t := range tasks {
			stopped := false
			err = r.read(ctx, unsplit{}, t, promptRows, func(f file, rec *record) bool {
				p, verdict := r.prompt(&in, rec)
				switch {
				case verdict.reason == "":
					stopped = !yield(p, nil)
				case verdict.dead:
					stopped = true
					yield(p, fmt.Errorf("source: %s: %s: %s", key(&in, f, rec), verdict.reason, verdict.detail))
				}
				return !stopped
			})
			if stopped {
				return
			}
			if err != nil {
				break
			}
		}
		if err != nil {
			yield(schemas.Prompt{}, err)
		}
	}
}

type promptFn struct {
	reader
}

func (fn *promptFn) ProcessElement(ctx context.Context, rt *sdf.LockRTracker, t task, emit func(schemas.Prompt), reject func(schemas.Rejected), _ func(schemas.Count)) error {
	in := &fn.Config.Inputs[t.Input]
	return fn.read(ctx, rt, t, promptRows, func(f file, rec *record) bool {
		p, v := fn.prompt(in, rec)
		if fn.account(promptRows, in, f, rec, v, reject) {
			emit(p)
		}
		return true
	})
}

func (fn *promptFn) StartBundle(context.Context, func(schemas.Prompt), func(schemas.Rejected), func(schemas.Count)) {
	fn.tally.Reset()
}

func (fn *promptFn) FinishBundle(_ context.Context, _ func(schemas.Prompt), _ func(schemas.Rejected), count func(schemas.Count)) {
	fn.tally.Flush(count)
}

type pairFn struct {
	reader
}

func (fn *pairFn) ProcessElement(ctx context.Context, rt *sdf.LockRTracker, t task, emit func(schemas.RewritePair), reject func(schemas.Rejected), _ func(schemas.Count)) error {
	in := &fn.Config.Inputs[t.Input]
	return fn.read(ctx, rt, t, pairRows, func(f file, rec *record) bool {
		p, v := fn.pair(in, rec)
		if fn.account(pairRows, in, f, rec, v, reject) {
			emit(p)
		}
		return true
	})
}

func (fn *pairFn) StartBundle(context.Context, func(schemas.RewritePair), func(schemas.Rejected), func(schemas.Count)) {
	fn.tally.Reset()
}

func (fn *pairFn) FinishBundle(_ context.Context, _ func(schemas.RewritePair), _ func(schemas.Rejected), count func(schemas.Count)) {
	fn.tally.Flush(count)
}

// A verdict is a record's fate; the zero verdict is to keep it.
type verdict struct {
	reason, detail string
	dead           bool
}

func dead(reason, detail string) verdict { return verdict{reason, detail, true} }

func filtered(reason string) verdict { return verdict{reason: reason} }

// prompt makes a Prompt of a record.
func (fn *reader) prompt(in *Input, rec *record) (p schemas.Prompt, v verdict) {
	s, v := field(rec, textRole, "prompt")
	if v.reason != "" {
		return p, v
	}
	if most := in.Filter.MaxPromptNSFW; most > 0 {
		x, v := score(rec, "prompt_nsfw")
		if v.reason != "" {
			return p, v
		}
		if x > most {
			return p, filtered(NSFW)
		}
	}
	if reason := fn.Config.Limits.filter(s); reason != "" {
		return p, filtered(reason)
	}
	return schemas.Prompt{ID: schemas.PromptID(s), Text: s, Source: in.Name, SourceID: sourceID(rec)}, v
}

// pair makes a RewritePair of a record.
func (fn *reader) pair(in *Input, rec *record) (p schemas.RewritePair, v verdict) {
	raw, v := field(rec, textRole, "raw prompt")
	if v.reason != "" {
		return p, v
	}
	rewritten, v := field(rec, rewrittenRole, "rewriting")
	if v.reason != "" {
		return p, v
	}
	if least := in.Filter.MinPickScore; least != 0 {
		x, v := score(rec, "pick_score")
		if v.reason != "" {
			return p, v
		}
		if x < least {
			return p, filtered(LowPickScore)
		}
	}
	if reason := fn.Config.Limits.filter(raw); reason != "" {
		return p, filtered(reason)
	}
	p = schemas.RewritePair{ID: schemas.PairID(raw, rewritten), Raw: raw, Rewritten: rewritten, Source: in.Name, SourceID: sourceID(rec)}
	if f := in.Filter; f.MinTokens > 0 || f.MaxTokens > 0 || f.ThinFraction > 0 {
		n := tokens(rewritten)
		if n < f.MinTokens {
			return p, filtered(ShortRewriting)
		}
		if f.MaxTokens > 0 && n > f.MaxTokens {
			return p, filtered(LongRewriting)
		}
		// Another stage of the hash than the rank by which later steps choose: the two must not agree.
		if n < f.ThinBelowTokens && float64(schemas.Seed(fn.Config.Seed, "source.thin", p.ID, 0)) < f.ThinFraction*math.MaxInt32 {
			return p, filtered(SampledOut)
		}
	}
	return p, v
}

// field is the clean text in the column of r.
func field(rec *record, r role, what string) (string, verdict) {
	c := rec.cells[r]
	switch {
	case rec.reason != "":
		return "", dead(rec.reason, rec.detail)
	case c.kind == absent:
		return "", dead(MissingColumn, "no "+what)
	case c.kind != text:
		return "", dead(NotText, "the "+what+" is not a string")
	}
	s, reason := clean(c.bytes)
	if reason != "" {
		return "", dead(reason, "in the "+what)
	}
	return s, verdict{}
}

func score(rec *record, what string) (float64, verdict) {
	x, ok := rec.cells[scoreRole].value()
	if !ok {
		return 0, dead(NotNumber, "the "+what+" is not a number")
	}
	return x, verdict{}
}

// sourceID is the row's id in its file, "" where it has none that is text or a number.
func sourceID(rec *record) string {
	c := rec.cells[idRole]
	if c.kind != text && c.kind != number {
		return ""
	}
	s, _ := clean(c.bytes)
	return s
}

func (fn *reader) account(sh shape, in *Input, f file, rec *record, v verdict, reject func(schemas.Rejected)) (keep bool) {
	fn.tally.In(Stage, 1)
	switch {
	case v.reason == "":
		fn.tally.Out(Stage, 1)
		return true
	case v.dead:
		fn.tally.Dead(Stage, v.reason, 1)
		reject(letter(sh, in, f, rec, v))
	default:
		fn.tally.Filtered(Stage, v.reason, 1)
	}
	return false
}
