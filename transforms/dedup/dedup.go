// Package dedup leaves one prompt of each group that says the same: equal texts but for case and
// punctuation, and texts that share most of their runs of words.
//
// # Design
//
// Exact: of the prompts with equal folded text the one with the lowest rank stays.
//
// Near: of what is left, a prompt is dropped if and only if some prompt of lower rank shares one of 16
// bands of its MinHash signature (4 of 64 permutations each) and has a Jaccard similarity of word
// shingles of at least the threshold. The similarity is computed on the sets themselves, so
// nothing unlike is dropped; pairs just at the default threshold of 0.8 share a band with probability
// 0.9998, at 0.7 with 0.988. Rank is schemas.Rank(seed, id), ties go to the lower id: a set does not
// depend on the order, the sharding or the runner.
//
// Likeness is not transitive, and a chain A ~ B ~ C loses B to A and C to B, although A and C may be
// unlike. The other choice (C stays because B is gone) needs all of a group in one place and in order.
//
// A band bucket compares each prompt with at most the 64 of lowest rank in it, so thousands of prompts
// with the same boilerplate cost a linear number of comparisons. A near duplicate whose only
// bucket-mates of lower rank are behind 64 unlike prompts is kept.
//
// Between the steps go prompts (twice), and for each band a prompt is in its hash, rank, id and sketch:
// 16 times about 150 bytes, packed into blocks by partition, because single elements cost more than they hold.
package dedup

import (
	"reflect"
	"slices"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/dedup/shingle"
	"github.com/promptmill/promptmill/transforms/ledger"
	"github.com/promptmill/promptmill/transforms/settings"
)

// Stage is the name in the ledger.
const Stage = "dedup"

// Reasons of filtered rows of stage "dedup".
const (
	ExactDuplicate = "exact_duplicate"
	NearDuplicate  = "near_duplicate"
)

// Values of Config.Mode.
const (
	ModeOff   = "off"
	ModeExact = "exact"
	ModeNear  = "near"
)

func init() {
	beam.RegisterDoFn(reflect.TypeFor[passFn]())
	beam.RegisterDoFn(reflect.TypeFor[foldFn]())
	beam.RegisterDoFn(reflect.TypeFor[firstFn]())
	beam.RegisterDoFn(reflect.TypeFor[bandFn]())
	beam.RegisterDoFn(reflect.TypeFor[compareFn]())
	beam.RegisterDoFn(reflect.TypeFor[dropFn]())
	register.Function1x2(byID)
	register.Emitter1[schemas.Prompt]()
	register.Emitter1[schemas.Count]()
	register.Emitter2[string, schemas.Prompt]()
	register.Emitter2[string, bool]()
	register.Emitter2[int64, []byte]()
	register.Iter1[schemas.Prompt]()
	register.Iter1[[]byte]()
	register.Iter1[bool]()
}

// Config says what a duplicate is.
type Config struct {
	// Mode is off, exact or near (which includes exact).
	Mode string `json:"mode" yaml:"mode"`
	// KeepPunctuation makes exact compare texts as they are, case and punctuation included.
	KeepPunctuation bool `json:"keep_punctuation,omitempty" yaml:"keep_punctuation,omitempty"`
	// ShingleWords is the length of the runs of words that are compared. Default 3.
	ShingleWords int `json:"shingle_words,omitempty" yaml:"shingle_words,omitempty"`
	// Threshold is the Jaccard similarity from which two prompts are near duplicates. Default 0.8; lower
	// than 0.7 the bands would miss more than one pair in a hundred.
	Threshold float64 `json:"threshold,omitempty" yaml:"threshold,omitempty"`
	// Seed orders the prompts: the lowest rank of a group stays.
	Seed int64 `json:"seed" yaml:"-"`
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
	faults := settings.Of("dedup")
	faults.Check(slices.Contains([]string{ModeOff, ModeExact, ModeNear}, c.Mode), "mode: %q is not one of off, exact, near", c.Mode)
	c = c.withDefaults()
	faults.Check(c.ShingleWords >= 1 && c.ShingleWords <= 16, "shingle_words: %d is not in 1..16: 3 suits prompts", c.ShingleWords)
	faults.Check(c.Threshold >= 0.7 && c.Threshold <= 1, "threshold: %g is not in 0.7..1: 0.8 suits prompts", c.Threshold)
	return faults.Err()
}

// Near removes duplicates from a PCollection<schemas.Prompt> as cfg.Mode says. It returns what stays and
// the ledger of stage "dedup", a PCollection<schemas.Count> whose unit is the prompt. It panics if cfg is not valid.
func Near(s beam.Scope, cfg Config, prompts beam.PCollection) (kept, counts beam.PCollection) {
	s = s.Scope("dedup.Near")
	if err := cfg.Validate(); err != nil {
		panic(err)
	}
	cfg = cfg.withDefaults()
	if cfg.Mode == ModeOff {
		return beam.ParDo2(s, &passFn{}, prompts)
	}
	groups := beam.GroupByKey(s, beam.ParDo(s, &foldFn{Config: cfg}, prompts))
	first, exact := beam.ParDo2(s, &firstFn{Config: cfg}, groups)
	if cfg.Mode == ModeExact {
		return first, exact
	}
	blocks := beam.GroupByKey(s, beam.ParDo(s, &bandFn{Config: cfg}, first))
	verdicts := beam.ParDo(s, &compareFn{Config: cfg}, blocks)
	joined := beam.CoGroupByKey(s, beam.ParDo(s, byID, first), verdicts)
	kept, near := beam.ParDo2(s, &dropFn{}, joined)
	return kept, beam.Flatten(s, exact, near)
}

func byID(p schemas.Prompt) (string, schemas.Prompt) { return p.ID, p }

// passFn keeps everything and counts it.
type passFn struct {
	tally ledger.Tally
}

func (fn *passFn) StartBundle(func(schemas.Prompt), func(schemas.Count)) { fn.tally.Reset() }

func (fn *passFn) ProcessElement(p schemas.Prompt, emit func(schemas.Prompt), _ func(schemas.Count)) {
	fn.tally.In(Stage, 1)
	fn.tally.Out(Stage, 1)
	emit(p)
}

func (fn *passFn) FinishBundle(_ func(schemas.Prompt), count func(schemas.Count)) {
	fn.tally.Flush(count)
}

// foldFn keys a prompt by what equal prompts have in common.
type foldFn struct {
	Config Config `json:"config"`
}

func (fn *foldFn) ProcessElement(p schemas.Prompt, emit func(string, schemas.Prompt)) {
	if fn.Config.KeepPunctuation {
		emit(p.ID, p)
		return
	}
	emit(schemas.PromptID(shingle.Fold(p.Text)), p)
}

// firstFn keeps the first prompt of a group. In near mode what it hands on is not out of the stage yet.
type firstFn struct {
	Config Config `json:"config"`

	tally ledger.Tally
}

func (fn *firstFn) StartBundle(func(schemas.Prompt), func(schemas.Count)) { fn.tally.Reset() }

func (fn *firstFn) ProcessElement(_ string, group func(*schemas.Prompt) bool, emit func(schemas.Prompt), _ func(schemas.Count)) {
	var first, p schemas.Prompt
	n := 0
	for group(&p) {
		if n == 0 || fn.before(p, first) {
			first = p
		}
		n++
	}
	fn.tally.In(Stage, n)
	fn.tally.Filtered(Stage, ExactDuplicate, n-1)
	if fn.Config.Mode == ModeExact {
		fn.tally.Out(Stage, 1)
	}
	emit(first)
}

// before orders by rank, then id; prompts with the same text by where they came from.
func (fn *firstFn) before(a, b schemas.Prompt) bool {
	if a.ID != b.ID {
		ra, rb := schemas.Rank(fn.Config.Seed, a.ID), schemas.Rank(fn.Config.Seed, b.ID)
		return ra < rb || ra == rb && a.ID < b.ID
	}
	return a.Source < b.Source || a.Source == b.Source && a.SourceID < b.SourceID
}

func (fn *firstFn) FinishBundle(_ func(schemas.Prompt), count func(schemas.Count)) {
	fn.tally.Flush(count)
}

// dropFn joins prompts with the verdicts on them: none means that it stays.
type dropFn struct {
	tally ledger.Tally
}

func (fn *dropFn) StartBundle(func(schemas.Prompt), func(schemas.Count)) { fn.tally.Reset() }

func (fn *dropFn) ProcessElement(_ string, prompts func(*schemas.Prompt) bool, verdicts func(*bool) bool, emit func(schemas.Prompt), _ func(schemas.Count)) {
	var drop bool
	dropped := verdicts(&drop)
	var p schemas.Prompt
	for prompts(&p) {
		if dropped {
			fn.tally.Filtered(Stage, NearDuplicate, 1)
			continue
		}
		fn.tally.Out(Stage, 1)
		emit(p)
	}
}

func (fn *dropFn) FinishBundle(_ func(schemas.Prompt), count func(schemas.Count)) {
	fn.tally.Flush(count)
}
