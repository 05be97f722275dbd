// Package conformance looks at every row of a training set before a trainer does: the files of a snapshot
// go in, a report of what a trainer would stumble over comes out.
//
// # Design
//
// A trainer finds a bad row after an hour of its GPU, or never: a picture too few raises in a worker, a
// sequence too long is cut without a word, two equal answers teach nothing. The gate is one pass that
// reads each file once and holds one row, on the machine that is about to start the trainer; it is not a
// Beam transform because it makes no rows, and reading is all it costs. Rows = good + faulty, each
// faulty row is counted once under each of its reasons.
package conformance

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/trainers/dataset"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/settings"
)

// Reasons of a Fault.
const (
	// Columns: a file lacks the columns of a training set, or they have another type or shape.
	Columns = "columns"
	// OtherMethod: the rows are not what the method trains on.
	OtherMethod = "method"
	// Roles: the turns are not system?, user, assistant, user ... in order.
	Roles = "roles"
	// Empty: a message says nothing.
	Empty = "empty"
	// Text: a message is not UTF-8.
	Text = "text"
	// Equal: chosen and rejected are the same.
	Equal = "equal"
	// Images: placeholders and pictures do not agree.
	Images = "images"
	// Picture: a picture is not one that can be read.
	Picture = "picture"
	// Length: a sequence is longer than the context window.
	Length = "length"
	// Template: the chat template of the model that is trained refuses the conversation.
	Template = "template"
)

// Ways in which texts refer to pictures.
const (
	// Either takes both of the others, row by row.
	Either = "either"
	// Implied: no placeholders; all pictures stand before the first user message. TRL wants this.
	Implied = "implied"
	// Explicit: one <image> for each picture. LLaMA-Factory and LLaVA want this; export puts them in.
	Explicit = "explicit"
)

// A Config says what the trainer takes.
type Config struct {
	// Method is sft or dpo.
	Method string `json:"method" yaml:"method"`
	// Placeholders is either, implied or explicit.
	Placeholders string `json:"placeholders" yaml:"placeholders"`
	// ContextWindow is how many tokens a sequence may have; 0 does not look.
	ContextWindow int `json:"context_window" yaml:"context_window"`
	// Counted says how the counter counts, for people.
	Counted string `json:"counted,omitempty" yaml:"-"`
	// ImageTokens is how many tokens a picture takes that the counter does not count.
	ImageTokens int `json:"image_tokens" yaml:"image_tokens"`
	// MaxListed is how many faults the report lists; all are counted.
	MaxListed int `json:"max_listed" yaml:"max_listed"`
}

// DefaultConfig takes both ways of placing pictures and does not look at lengths.
func DefaultConfig(method string) Config {
	return Config{Method: method, Placeholders: Either, MaxListed: 100}
}

// Validate joins all faults.
func (c Config) Validate() error {
	faults := settings.Of("conformance")
	faults.Check(c.Method == model.MethodSFT || c.Method == model.MethodDPO, "method: %q is not sft or dpo", c.Method)
	faults.Check(slices.Contains([]string{Either, Implied, Explicit}, c.Placeholders), "placeholders: %q is not either, implied or explicit", c.Placeholders)
	faults.Check(c.ContextWindow >= 0, "context_window: %d is negative; 0 does not look at lengths", c.ContextWindow)
	faults.Check(c.ImageTokens >= 0, "image_tokens: %d is negative; give the tokens of one picture", c.ImageTokens)
	faults.Check(c.MaxListed >= 1, "max_listed: %d is less than 1; a refusal should name a row", c.MaxListed)
	return faults.Err()
}

// A Counter says how many tokens the sequences of a row take, each answer with the prompt before it, in the order of
// Row.Turns. Its error that wraps model.ErrRejected is a fault of the row.
type Counter func(row dataset.Row) ([]int, error)

// A Fault is one thing wrong with one row, or with a file (then Row is -1 and ID empty).
type Fault struct {
	File   string `json:"file"`
	Row    int64  `json:"row"`
	ID     string `json:"id,omitempty"`
	Reason string `json:"reason"`
	Detail string `json:"detail"`
}

// String names the row for people.
func (f Fault) String() string {
	if f.Row < 0 {
		return fmt.Sprintf("%s: %s: %s", f.File, f.Reason, f.Detail)
	}
	return fmt.Sprintf("%s: row %d (%s): %s: %s", f.File, f.Row, f.ID, f.Reason, f.Detail)
}

// A Report is what Check found.
type Report struct {
	// Rows were looked at, Faulty of them have a fault. A file with other columns is not read further.
	Rows   int64 `json:"rows"`
	Faulty int64 `json:"faulty"`
	// Counts are the faults by reason, Faults the first of them in the order of the rows.
	Counts map[string]int64 `json:"counts"`
	Faults []Fault          `json:"faults"`
}

// ErrFaulty says: the gate is closed.
var ErrFaulty = errors.New("the training set does not conform")

// Err is nil for a set that conforms; otherwise it wraps ErrFaulty and names the first rows. A set
// without rows does not conform.
func (r Report) Err() error {
	if len(r.Counts) == 0 && r.Rows > 0 {
		return nil
	}
	if len(r.Counts) == 0 {
		return fmt.Errorf("%w: it has no rows", ErrFaulty)
	}
	var b strings.Builder
	for _, reason := range slices.Sorted(maps.Keys(r.Counts)) {
		fmt.Fprintf(&b, " %s %d", reason, r.Counts[reason])
	}
	for _, f := range r.Faults[:min(len(r.Faults), 10)] {
		fmt.Fprintf(&b, "\n  %s", f)
	}
	return fmt.Errorf("%w: %d of %d rows are faulty:%s", ErrFaulty, r.Faulty, r.Rows, b.String())
}

// Check reads the Parquet files at urls and reports every fault. count is needed only for a context
// window; without one it may still refuse rows. It panics if cfg is not valid; its error is of the world:
// a file that cannot be read.
func Check(ctx context.Context, cfg Config, count Counter, urls []string) (Report, error) {
	if err := cfg.Validate(); err != nil {
		panic(err)
	}
	if cfg.ContextWindow > 0 && count == nil {
		panic("conformance: a context window needs a counter of tokens")
	}
	g := gate{Config: cfg, count: count, Report: Report{Counts: map[string]int64{}}}
	for _, u := range urls {
		if err := g.file(ctx, u); err != nil {
			return g.Report, err
		}
	}
	return g.Report, nil
}

type gate struct {
	Report
	Config
	count Counter
	// first is the first row of all: the others have its shape.
	first *dataset.Row
	// seen are the reasons of the row at hand.
	seen map[string]bool
}

func (g *gate) file(ctx context.Context, u string) error {
	for row, err := range dataset.Read(ctx, []string{u}) {
		if errors.Is(err, dataset.ErrColumns) {
			g.add(Fault{File: u, Row: -1, Reason: Columns, Detail: err.Error()})
			return nil
		}
		if err != nil {
			return err
		}
		if g.first == nil {
			g.first = &row
		}
		if g.first.Preference != row.Preference || g.first.Vision != row.Vision {
			g.add(Fault{File: u, Row: -1, Reason: Columns, Detail: "its columns are not those of the files before it; train on one configuration at a time"})
			return nil
		}
		if err := g.row(row); err != nil {
			return fmt.Errorf("conformance: %s: %w", row, err)
		}
	}
	return nil
}

func (g *gate) add(f Fault) {
	g.Counts[f.Reason]++
	if len(g.Faults) < g.MaxListed {
		g.Faults = append(g.Faults, f)
	}
}

// row looks at one row. A reason is reported once, with the first detail.
func (g *gate) row(row dataset.Row) error {
	g.Rows++
	g.seen = map[string]bool{}
	fault := func(reason, format string, args ...any) {
		if !g.seen[reason] {
			g.seen[reason] = true
			g.add(Fault{File: row.File, Row: row.Number, ID: row.ID, Reason: reason, Detail: fmt.Sprintf(format, args...)})
		}
	}
	if row.Preference != (g.Method == model.MethodDPO) {
		fault(OtherMethod, "%s does not train on %s", g.Method, map[bool]string{true: "preference pairs", false: "conversations"}[row.Preference])
	}
	texts(fault, "message", row.Messages)
	texts(fault, "chosen message", row.Chosen)
	texts(fault, "rejected message", row.Rejected)
	if row.Preference {
		roles(fault, row.Messages, schemas.RoleUser)
		answer(fault, "chosen", row.Chosen)
		answer(fault, "rejected", row.Rejected)
		if slices.EqualFunc(row.Chosen, row.Rejected, func(a, b schemas.Message) bool {
			return strings.TrimSpace(a.Content) == strings.TrimSpace(b.Content)
		}) {
			fault(Equal, "chosen and rejected are the same text")
		}
	} else {
		roles(fault, row.Messages, schemas.RoleAssistant)
	}
	g.pictures(fault, row)
	err := g.length(fault, row)
	if len(g.seen) > 0 {
		g.Faulty++
	}
	return err
}

type faultFunc func(reason, format string, args ...any)

func texts(fault faultFunc, what string, messages []schemas.Message) {
	for i, m := range messages {
		if strings.TrimSpace(m.Content) == "" {
			fault(Empty, "%s %d is empty", what, i)
		}
		if !utf8.ValidString(m.Content) {
			fault(Text, "%s %d is not UTF-8", what, i)
		}
	}
}

// roles wants turns in order that end with last.
func roles(fault faultFunc, messages []schemas.Message, last string) {
	turns := messages
	if len(turns) > 0 && turns[0].Role == schemas.RoleSystem {
		turns = turns[1:]
	}
	for i, m := range turns {
		want := schemas.RoleUser
		if i%2 == 1 {
			want = schemas.RoleAssistant
		}
		if m.Role != want {
			fault(Roles, "message %d is of %q, not %q", i+len(messages)-len(turns), m.Role, want)
		}
	}
	if len(turns) == 0 {
		fault(Roles, "there are no turns")
	} else if role := turns[len(turns)-1].Role; role != last {
		fault(Roles, "the last message is of %q, not %q", role, last)
	}
}

// answer wants a single turn of the assistant: trainers other than TRL take nothing else.
func answer(fault faultFunc, what string, messages []schemas.Message) {
	if len(messages) != 1 || messages[0].Role != schemas.RoleAssistant {
		fault(Roles, "%s is not one message of the assistant", what)
	}
}

func (g *gate) pictures(fault faultFunc, row dataset.Row) {
	have, want := dataset.Placeholders(row.Messages), len(row.Images)
	if n := dataset.Placeholders(row.Chosen) + dataset.Placeholders(row.Rejected); n > 0 {
		fault(Images, "%d of %s in the answers, which show no pictures", n, dataset.Placeholder)
	}
	switch {
	case have == 0 && (g.Placeholders != Explicit || want == 0):
	case have != want:
		fault(Images, "%d of %s for %d pictures", have, dataset.Placeholder, want)
	case g.Placeholders == Implied:
		fault(Images, "%d of %s in the text, before which the trainer puts the pictures itself", have, dataset.Placeholder)
	}
	for i, p := range row.Images {
		if _, err := model.Measure(p.Bytes, model.PictureLimits{}); err != nil {
			fault(Picture, "picture %d: %v", i, err)
		}
	}
}

// length looks at each sequence that the trainer will see.
func (g *gate) length(fault faultFunc, row dataset.Row) error {
	if g.count == nil {
		return nil
	}
	counts, err := g.count(row)
	switch {
	case errors.Is(err, model.ErrRejected):
		if len(g.seen) == 0 { // or else it may only be what was found already, in other words
			fault(Template, "%v", err)
		}
		return nil
	case err != nil:
		return err
	}
	names := []string{"the conversation"}
	if row.Preference {
		names = []string{"prompt and chosen", "prompt and rejected"}
	}
	for i, n := range counts {
		if n += g.ImageTokens * len(row.Images); g.ContextWindow > 0 && n > g.ContextWindow {
			how := g.Counted
			if how != "" {
				how = " (" + how + ")"
			}
			fault(Length, "%s: %d tokens%s, the context window %d", names[i], n, how, g.ContextWindow)
		}
	}
	return nil
}
