package train

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/promptmill/promptmill/model/scene"
	"github.com/promptmill/promptmill/model/tokenizer"
)

// A task is one example in tokens: the prompt, as the chat template writes it and filled to a multiple of vlmBucket, the
// pictures that stand before its last token, and the answer with its end.
type task struct {
	prompt, answer []int32
	pictures       []*Picture
	// after are words behind which a token of the answer counts; if there are none, every token does.
	after []string
}

// longestShown is how many characters of a raw prompt the rewriter is shown.
const longestShown = 80

// shown is a raw prompt as the models see it, with the space that begins a word: 14 words, or what fits.
func shown(raw string, longest int) string {
	words := strings.Fields(strings.NewReplacer("<", " ", ">", " ").Replace(raw))
	text := []rune(strings.Join(words[:min(len(words), longestRaw)], " "))
	return " " + strings.TrimSpace(string(text[:min(len(text), longest)]))
}

// rewritings are real prompts as examples: of language, and of rewriting with the modifiers that people put behind a raw
// prompt.
type rewritings struct {
	words   *tokenizer.Tokenizer
	prompts []Prompt
	// pairs have only modifiers that others wrote, too: what one person wrote once teaches spelling, not rewriting.
	pairs  []Prompt
	byKind [scene.Categories][]int // into pairs
}

// maxModifiers and maxRewriting bound a rewriting: modifiers, and tokens. It ends at a comma, or the model learns
// endings that are cut off. leastCommon is how many prompts must have a modifier.
const (
	maxModifiers = 8
	maxRewriting = 32
	leastCommon  = 3
)

// newRewritings takes the prompts of a part that have modifiers.
func newRewritings(prompts []Prompt, part Part, words *tokenizer.Tokenizer) *rewritings {
	r := &rewritings{words: words}
	uses := map[string]int{}
	var all []Prompt
	for _, p := range prompts {
		if PartOf(p.Raw) != part {
			continue
		}
		q := Prompt{Raw: p.Raw}
		for _, m := range p.Modifiers {
			if m = scene.Normalize(m); m != "" && !slices.Contains(q.Modifiers, m) {
				q.Modifiers = append(q.Modifiers, m)
				uses[m]++
			}
		}
		all = append(all, q)
	}
	for _, p := range all {
		if m := fitting(p.Modifiers, words, func(string) bool { return true }); len(m) > 0 {
			r.prompts = append(r.prompts, Prompt{p.Raw, m})
		}
		if m := fitting(p.Modifiers, words, func(m string) bool { return uses[m] >= leastCommon }); len(m) > 0 {
			kind, _ := scene.Subject(p.Raw)
			r.byKind[kind] = append(r.byKind[kind], len(r.pairs))
			r.pairs = append(r.pairs, Prompt{p.Raw, m})
		}
	}
	return r
}

// fitting are the first of the modifiers that are wanted, as many as a rewriting may have.
func fitting(modifiers []string, words *tokenizer.Tokenizer, wanted func(string) bool) (out []string) {
	for _, m := range modifiers {
		if !wanted(m) {
			continue
		}
		longer := append(out, m)
		if len(longer) > maxModifiers || words.Count(strings.Join(longer, ", ")) > maxRewriting {
			break
		}
		out = longer
	}
	return out
}

// text is a real prompt as plain language, without a task.
func (r *rewritings) text(_ context.Context, rng *rand.Rand) (task, error) {
	p := r.prompts[rng.IntN(len(r.prompts))]
	ids := r.words.Encode("<bos>"+shown(p.Raw, longestShown), false)
	missing := (vlmBucket - len(ids)%vlmBucket) % vlmBucket
	return task{
		prompt: append(make([]int32, missing, missing+len(ids)), ids...), // padToken
		answer: append(r.words.Encode(", "+strings.Join(p.Modifiers, ", "), false), endToken),
	}, nil
}
