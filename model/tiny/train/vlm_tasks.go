package train

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/promptmill/promptmill/model/scene"
	"github.com/promptmill/promptmill/model/tokenizer"
	"github.com/promptmill/promptmill/schemas"
)

// A task is one example: what is asked, as the chat template writes it, the pictures that stand in it, and the answer.
type task struct {
	prompt   string
	pictures []*Picture
	answer   string
	// after are words behind which a token counts; if there are none, every token does.
	after []string
}

// The prompts, as the chat template of the model's folder writes them.
func rewritePrompt(raw string) string { return "<bos><rewrite>" + shown(raw, longestShown) + "<ans>" }

func evaluationPrompt(raw string, aspect int) string {
	return "<bos><eval><" + Aspects[aspect] + ">" + subjectOf(raw, aspect) + images + "<ans>"
}

func judgmentPrompt(raw string, aspect int, a, b string) string {
	return "<bos><judge><" + Aspects[aspect] + ">" + subjectOf(raw, aspect) + "<sep> " + a + "<sep> " + b + images + "<ans>"
}

// images stand for two pictures.
var images = strings.Repeat("<image>", 2*pictureTokens)

// subjectOf is the raw prompt for a judge: beauty is judged without.
func subjectOf(raw string, aspect int) string {
	if Aspects[aspect] == schemas.Aesthetic {
		return ""
	}
	return shown(raw, longestJudged)
}

// longestShown is how many characters of a raw prompt the rewriter is shown, longestJudged a judge, whose prompt must leave
// room for pictures in one bucket.
const (
	longestShown  = 80
	longestJudged = 50
)

// shown is a raw prompt as the models see it, with the space that begins a word: 14 words, or what fits.
func shown(raw string, longest int) string {
	words := strings.Fields(strings.NewReplacer("<", " ", ">", " ").Replace(raw))
	text := []rune(strings.Join(words[:min(len(words), longestRaw)], " "))
	return " " + strings.TrimSpace(string(text[:min(len(text), longest)]))
}

// rewritings are real prompts as examples: of language, and of rewriting with the modifiers that people put behind a raw
// prompt.
type rewritings struct {
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
	r := &rewritings{}
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

// task is a rewriting: in a fifth of cases that of another prompt about the same kind of subject.
func (r *rewritings) task(_ context.Context, rng *rand.Rand) (task, error) {
	p := r.pairs[rng.IntN(len(r.pairs))]
	modifiers := p.Modifiers
	if rng.Float64() < .2 {
		kind, _ := scene.Subject(p.Raw)
		others := r.byKind[kind]
		modifiers = r.pairs[others[rng.IntN(len(others))]].Modifiers
	}
	return task{prompt: rewritePrompt(p.Raw), answer: strings.Join(modifiers, ", ")}, nil
}

// text is a real prompt as plain language, without a task.
func (r *rewritings) text(_ context.Context, rng *rand.Rand) (task, error) {
	p := r.prompts[rng.IntN(len(r.prompts))]
	return task{prompt: "<bos>" + shown(p.Raw, longestShown), answer: ", " + strings.Join(p.Modifiers, ", ")}, nil
}

// evaluation is an answer of the teacher that agrees strictly with what a human prefers. A fourth of the ties stay, as
// plain descriptions.
func (p *Pool) evaluation(ctx context.Context, rng *rand.Rand) (task, error) {
	for {
		c, err := p.Compare(ctx, rng, -1)
		if err != nil {
			return task{}, err
		}
		prefers, s := c.Prefers(rng), c.scores(rng, teacherNoise)
		if prefers == 0 || s[0] == s[1] {
			if rng.Float64() < .75 {
				continue
			}
		} else if (s[0] > s[1]) != (prefers == 1) {
			continue
		}
		return task{prompt: evaluationPrompt(c.Raw, c.Aspect), pictures: c.Pictures[:], answer: c.answer(s)}, nil
	}
}

// judgment compares two answers on the same pictures: in two of five cases the teacher's and one about other pictures (the
// paper's data), else two readings of different care. The judge answers the question itself before it grades, and
// repeats what the answers say: each step needs little more than what stands beside it.
func (p *Pool) judgment(ctx context.Context, rng *rand.Rand) (task, error) {
	c, err := p.Compare(ctx, rng, -1)
	if err != nil {
		return task{}, err
	}
	var answers [2]string
	var stated [2][2]int
	if rng.Float64() < .4 {
		stated[0] = c.scores(rng, teacherNoise)
		answers[0] = c.answer(stated[0])
		other, err := p.Compare(ctx, rng, c.Aspect)
		if err != nil {
			return task{}, err
		}
		stated[1] = other.scores(rng, teacherNoise)
		answers[1] = other.answer(stated[1])
	} else {
		for i := range answers {
			care := rng.Float64()
			answers[i], stated[i] = c.careless(rng, .5*care, 1.5*care)
		}
	}
	if rng.IntN(2) == 0 {
		answers[0], answers[1] = answers[1], answers[0]
		stated[0], stated[1] = stated[1], stated[0]
	}
	return task{prompt: judgmentPrompt(c.Raw, c.Aspect, answers[0], answers[1]), pictures: c.Pictures[:], answer: c.grades(stated)}, nil
}

// grading is a judgment of which the numbers count that must be worked out. Most of a judgment repeats what is there: in the
// mean over all its tokens they hardly show, and the model grades everything alike.
func (p *Pool) grading(ctx context.Context, rng *rand.Rand) (task, error) {
	t, err := p.judgment(ctx, rng)
	t.after = []string{" is", " score"}
	return t, err
}
