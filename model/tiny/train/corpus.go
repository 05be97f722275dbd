package train

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/promptmill/promptmill/model/scene"
	"github.com/promptmill/promptmill/schemas"
)

// A Prompt is a real prompt, cut at its commas.
type Prompt struct {
	// Raw is the first segment, Modifiers are those after it, as people wrote them.
	Raw       string
	Modifiers []string
}

// Text is the whole prompt.
func (p Prompt) Text() string { return strings.Join(append([]string{p.Raw}, p.Modifiers...), ", ") }

// A Part of the prompts: what is trained on, what settings are chosen by, and what only results are reported on.
type Part int

// The parts of the prompts: 84, 8 and 8 of a hundred.
const (
	Training Part = iota
	Validation
	Test
)

// PartOf says which part a raw prompt is in, by its normalized text: prompts that share it are never divided.
func PartOf(raw string) Part {
	switch p := schemas.Permille(0, scene.Normalize(raw)); {
	case p < 80:
		return Test
	case p < 160:
		return Validation
	}
	return Training
}

const (
	longestRaw      = 14 // words
	longestModifier = 60 // bytes
)

// ReadPrompts reads lines of {"prompt"}, gzipped or not, and cuts them: the first segment to 14 words, without modifiers
// of more than 60 bytes. What has no subject is left out, and so are repetitions.
func ReadPrompts(r io.Reader) ([]Prompt, error) {
	b := bufio.NewReader(r)
	lines := io.Reader(b)
	if magic, err := b.Peek(2); err == nil && bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, fmt.Errorf("read prompts: %w", err)
		}
		lines = z
	}
	var out []Prompt
	seen := map[string]bool{}
	for d := json.NewDecoder(lines); ; {
		var row struct{ Prompt string }
		if err := d.Decode(&row); errors.Is(err, io.EOF) {
			return out, nil
		} else if err != nil {
			return nil, fmt.Errorf("read prompts: row %d: %w", len(seen)+1, err)
		}
		if seen[row.Prompt] {
			continue
		}
		seen[row.Prompt] = true
		if p, ok := cutPrompt(row.Prompt); ok {
			out = append(out, p)
		}
	}
}

func cutPrompt(text string) (Prompt, bool) {
	var p Prompt
	for s := range strings.SplitSeq(strings.ToLower(text), ",") {
		words := strings.Fields(s)
		switch s = strings.Join(words, " "); {
		case s == "":
		case p.Raw == "":
			p.Raw = strings.Join(words[:min(len(words), longestRaw)], " ")
		case len(s) <= longestModifier:
			p.Modifiers = append(p.Modifiers, s)
		}
	}
	return p, len(p.Raw) >= 3
}

// A Corpus makes texts for pictures out of prompts of one part.
type Corpus struct {
	prompts [scene.Categories][]Prompt
	// pool has every modifier as often as people wrote it, and each one that the world knows a dozen times more.
	pool []string
	// nouns name a category each.
	nouns [scene.Categories][]string
}

// NewCorpus sorts the prompts of a part by what their subject is drawn as.
func NewCorpus(prompts []Prompt, part Part) (*Corpus, error) {
	c := &Corpus{}
	for _, p := range prompts {
		if PartOf(p.Raw) != part {
			continue
		}
		kind, _ := scene.Subject(p.Raw)
		c.prompts[kind] = append(c.prompts[kind], p)
		c.pool = append(c.pool, p.Modifiers...)
	}
	for kind, of := range c.prompts {
		if len(of) == 0 {
			return nil, fmt.Errorf("a corpus of %d prompts: none has a %v as its subject; more prompts are needed", len(prompts), scene.Category(kind))
		}
		c.nouns[kind] = scene.Nouns(scene.Category(kind))
	}
	for _, m := range scene.Modifiers() {
		c.pool = append(c.pool, slices.Repeat([]string{m}, 12)...)
	}
	return c, nil
}

// A Caption is a text that a picture is drawn of, and its raw prompt.
type Caption struct{ Raw, Full string }

// weights draw the categories: nearly in equal parts, because real prompts are portraits for the most part.
var weights = func() (w [scene.Categories]float64) {
	for k := range w {
		w[k] = 1
	}
	w[scene.Person], w[scene.Thing] = 1.6, 1.5
	return w
}()

// Raw draws a raw prompt and its modifiers: a real one whose subject is exchanged for another in a share swapped of
// cases, so that a noun decides and not what people say beside it, and with a colour word in a fifth.
func (c *Corpus) raw(rng *rand.Rand, swapped float64) (string, []string) {
	kind := pick(rng, weights[:])
	p := c.prompts[kind][rng.IntN(len(c.prompts[kind]))]
	words := strings.Fields(p.Raw)
	at := slices.IndexFunc(words, func(w string) bool { k, _ := scene.Subject(w); return k != scene.Thing })
	if at >= 0 && rng.Float64() < swapped {
		nouns := c.nouns[rng.IntN(int(scene.Thing))]
		words[at] = nouns[rng.IntN(len(nouns))]
	}
	if rng.Float64() < .2 {
		colours := scene.Colours()
		words = slices.Insert(words, max(at, 0), colours[rng.IntN(len(colours))])
	}
	return strings.Join(words, " "), p.Modifiers
}

// Mix says how captions are drawn: shares of one with a subject exchanged, with no modifiers, and with the modifiers
// that the prompt had; the rest gets modifiers of any prompts.
type Mix struct{ Swapped, Bare, Real float64 }

// Caption draws a caption.
func (c *Corpus) Caption(rng *rand.Rand, m Mix) Caption {
	raw, own := c.raw(rng, m.Swapped)
	var modifiers []string
	switch u := rng.Float64(); {
	case u < m.Bare:
	case u < m.Bare+m.Real:
		modifiers = own[:min(len(own), 1+rng.IntN(10))]
	default:
		for range 1 + rng.IntN(9) {
			modifiers = append(modifiers, c.pool[rng.IntN(len(c.pool))])
		}
	}
	return Caption{raw, Prompt{raw, modifiers}.Text()}
}

// pick draws an index with the probabilities that weights are in proportion to.
func pick(rng *rand.Rand, weights []float64) int {
	var sum float64
	for _, w := range weights {
		sum += w
	}
	u := rng.Float64() * sum
	for i, w := range weights {
		if u -= w; u < 0 {
			return i
		}
	}
	return len(weights) - 1
}
