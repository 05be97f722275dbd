package scene

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/schemas"
)

// terseTask is the system's message of a question in the words of the tiny models (template set tiny), which is answered in
// theirs: they must cost few tokens.
var terseTask = regexp.MustCompile(`^\s*(eval|judge) (` + strings.Join(aspects, "|") + `)\s*$`)

// readTerse finds such a question about pictures, if the conversation is one. The prompt is the first line of the last text:
// what stands between pictures only names them, and a teacher's cue follows. Answers follow lines of three dashes.
func readTerse(q *question, messages []model.Message) bool {
	var task, text string
	for _, m := range messages {
		for _, p := range m.Parts {
			switch {
			case p.Picture != nil:
			case m.Role == schemas.RoleSystem:
				task += p.Text
			default:
				text = p.Text
			}
		}
	}
	found := terseTask.FindStringSubmatch(task)
	if found == nil {
		return false
	}
	parts := strings.Split(text, "\n---\n")
	if found[1] == "judge" {
		if len(parts) != 3 {
			return false
		}
		q.answers = parts[1:]
	}
	q.terse, q.aspect = true, found[2]
	q.prompt, _, _ = strings.Cut(parts[0], "\n")
	return true
}

// terseScores is scores in few words, the same number of tokens for all pictures. A line states what was measured before
// the score, so that who learns to write it can reason from the one to the other.
func (j *judge) terseScores(rng *rand.Rand) string {
	text, _ := j.reading(rng)
	return text
}

// reading is an answer and the scores that it states.
func (j *judge) reading(rng *rand.Rand) (string, [2]int) {
	var b strings.Builder
	var scores [2]int
	for i, m := range j.pictures {
		if i > 0 {
			b.WriteByte('\n')
		}
		scores[i] = grade(j.levels[i], 0, rng)
		fmt.Fprintf(&b, "image %d %s. score %d", i+1, j.measures(m), scores[i])
	}
	return b.String(), scores
}

// measures are what the aspect's score rests on, each a number from 0 to 5.
func (j *judge) measures(m *Measurement) string {
	p := m.Parts()
	shape, hue := m.likeness(j.category, j.hue)
	switch j.aspect {
	case schemas.Aesthetic:
		return fmt.Sprintf("color %d contrast %d detail %d centered %d light %d", fifths(p[0]), fifths(p[1]), fifths(p[2]), fifths(p[3]), fifths(p[4]))
	case schemas.Pick:
		return fmt.Sprintf("color %d contrast %d detail %d shape %d hue %d", fifths(p[0]), fifths(p[1]), fifths(p[2]), fifths(shape), fifths(hue))
	}
	seen := m.Seen()
	return fmt.Sprintf("%s %d %s %d shape %d hue %d", terseNoun(seen), fifths(m.Shape[seen]), terseNoun(j.category), fifths(m.Shape[j.category]), fifths(shape), fifths(hue))
}

func fifths(share float64) int { return grade(5*share, 0, nil) }

// terseNoun names a category in one token of the tiny models: what names none of the others is drawn as a plain form.
func terseNoun(c Category) string {
	if c == Thing {
		return "abstract"
	}
	return c.String()
}

// terseVerdict is verdict in few words. The judge first answers the question itself, without its error: what is true is the
// measure of the answers. Then it says for each picture what an answer states, what is true and how far that is, and
// takes a point off for each step: who learns to write it needs at each step little more than what stands beside it.
func (j *judge) terseVerdict(*rand.Rand) string {
	text, own := j.reading(nil)
	var b strings.Builder
	b.WriteString(text)
	for i, answer := range j.answers {
		stated, ok := statedScores(answer)
		if !ok {
			fmt.Fprintf(&b, "\nanswer %c: score 1", 'a'+i)
			continue
		}
		var said, off [2]int
		for k := range off {
			said[k] = grade(stated[k], 0, nil)
			off[k] = max(said[k]-own[k], own[k]-said[k])
		}
		fmt.Fprintf(&b, "\nanswer %c: %d for %d is %d, %d for %d is %d. score %d",
			'a'+i, said[0], own[0], off[0], said[1], own[1], off[1], max(1, 5-off[0]-off[1]))
	}
	return b.String()
}
