package train

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"strings"

	"github.com/promptmill/promptmill/model/scene"
)

// The files that WriteInputs writes.
const (
	// PromptsFile has raw prompts to draw pictures of, PairsFile raw prompts with their rewritings, both of the training part.
	PromptsFile = "prompts.jsonl"
	PairsFile   = "pairs.jsonl"
	// HeldoutFile has the raw prompts of the other parts: nothing like them is to be trained on.
	HeldoutFile = "heldout.jsonl"
)

// WriteInputs writes to dir what the supervised set is built from: so many prompts, and every pair there is.
func WriteInputs(dir string, prompts []Prompt, bpe *BPE, n int, seed uint64) error {
	corpus, err := NewCorpus(prompts, Training)
	if err != nil {
		return err
	}
	words, err := openTokenizer(dir, bpe)
	if err != nil {
		return err
	}
	type prompt struct {
		Prompt string `json:"prompt"`
	}
	var texts, heldout []any
	for _, raw := range corpus.raws(n, seed) {
		texts = append(texts, prompt{raw})
	}
	for _, p := range prompts {
		if PartOf(p.Raw) != Training {
			heldout = append(heldout, prompt{p.Raw})
		}
	}
	type pair struct {
		Raw       string `json:"raw"`
		Rewritten string `json:"rewritten"`
	}
	var pairs []any
	rng := rand.New(rand.NewPCG(seed, 0x7061697273)) // "pairs"
	all := newRewritings(prompts, Training, words)
	for _, p := range all.pairs {
		// In a fifth the modifiers are those of another prompt about the same kind of subject: what people write behind a
		// prompt rests on its kind more than on its words.
		if rng.Float64() < .2 {
			kind, _ := scene.Subject(p.Raw)
			p.Modifiers = all.pairs[all.byKind[kind][rng.IntN(len(all.byKind[kind]))]].Modifiers
		}
		pairs = append(pairs, pair{p.Raw, p.Text()})
	}
	for name, rows := range map[string][]any{PromptsFile: texts, HeldoutFile: heldout, PairsFile: pairs} {
		var lines bytes.Buffer
		e := json.NewEncoder(&lines)
		for _, row := range rows {
			if err := e.Encode(row); err != nil {
				return err
			}
		}
		if err := write(dir, name, lines.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

// raws are n different raw prompts of the corpus. One whose subject was exchanged may be a prompt of another part: those are
// left out.
func (c *Corpus) raws(n int, seed uint64) []string {
	rng := rand.New(rand.NewPCG(seed, 0x72617773)) // "raws"
	seen := map[string]bool{}
	var out []string
	for range 20 * n { // a small corpus has fewer
		if len(out) == n {
			break
		}
		raw, _ := c.raw(rng, .1)
		if key := scene.Normalize(raw); !seen[key] && PartOf(raw) == Training {
			seen[key] = true
			out = append(out, strings.TrimSpace(raw))
		}
	}
	return out
}
