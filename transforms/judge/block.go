package judge

import (
	"regexp"
	"strings"
)

// A block is the part of an answer that belongs to one label: 1, 2, a or b.
type block struct {
	label string
	text  string // from behind the label to the next label
}

// gap is what may stand between a label and its number: a remark in parentheses, a separator, opening brackets.
const gap = `(?: ?\([^)\n]{0,60}\))?["')\]]* ?(?:[:=|-]|is\b|gets\b)? ?[{"'(\[<]*`

var (
	labels = regexp.MustCompile(`\b((?:output|score|rating|evaluation|judge?ment|assessment)s? (?:for|of) (?:the )?["'(]?)?(?:image ?([12])|answer ?([ab]))\b(?:'s)?`)
	// bullet is what may precede a label at the start of its line.
	bullet = regexp.MustCompile(`^(?:\d[.)] ?)?[ >"'{(\[|•·-]*$`)
	// separated says that what follows a label sets it off, as a heading is.
	separated = regexp.MustCompile(`^(?: ?\([^)\n]{0,60}\))?["')]* ?(?:[:=|{]|- |\n|$|(?:score|rating)\b)`)
	// direct says that a label's number follows at once.
	direct = regexp.MustCompile(`^` + gap + `(?:(?:score|rating)\b` + filler + `)?` + number)
	// summed is the short form with parts before the score: image 1 color 3 contrast 1. score 2.
	summed = regexp.MustCompile(`^(?: [a-z]{1,20} \d){1,9}[.,;]? score:? \d`)
)

// split cuts text at its labels. A label counts where it opens a line like a heading, where it says
// "output for", or where its number follows at once: within a sentence "Image 1" is just a word, and
// must not take the numbers behind it away from the block it stands in.
func split(text string) []block {
	var (
		out  []block
		from int
	)
	for _, m := range labels.FindAllStringSubmatchIndex(text, -1) {
		prefix, rest := "", text[m[1]:]
		if m[2] >= 0 {
			prefix = text[m[2]:m[3]]
		}
		line := text[strings.LastIndexByte(text[:m[0]], '\n')+1 : m[0]]
		heading := separated.MatchString(rest) && (bullet.MatchString(line) || strings.HasPrefix(prefix, "output"))
		if !heading && !direct.MatchString(rest) && !summed.MatchString(rest) {
			continue
		}
		if len(out) > 0 {
			out[len(out)-1].text = text[from:m[0]]
		}
		start := m[1]
		if strings.HasPrefix(prefix, "score") || strings.HasPrefix(prefix, "rating") {
			start = m[0] // "Score for Image 1: 4": the word that announces the number stands before the label
		}
		label := m[4:6]
		if label[0] < 0 {
			label = m[6:8]
		}
		out = append(out, block{label: text[label[0]:label[1]]})
		from = start
	}
	if len(out) > 0 {
		out[len(out)-1].text = text[from:]
	}
	return out
}

var (
	mention = regexp.MustCompile(`\b(?:score|rating)\b`)
	// announced: the mention is followed by a colon or equals sign, so it is a field and not a word of prose.
	announced = regexp.MustCompile(`^(?: (?:for|of) it| ?\([^)\n]{0,60}\))?["' ]*[:=]`)
	bare      = regexp.MustCompile(`^` + gap)
)

// score reads the block's score: the first field "Score:", else the first number behind the word score
// in prose, else a number that stands at once behind the label. Fields that differ are a conflict.
func (b block) score(least int) reading {
	if levelsIn(b.text) >= 3 {
		return reading{fault: RubricEcho}
	}
	text := b.text
	if strings.Contains(text, "image") || strings.Contains(text, "answer") {
		text = labels.ReplaceAllStringFunc(text, mask)
	}
	field, prose := reading{fault: NoScore}, reading{fault: NoScore}
	for _, m := range mention.FindAllStringIndex(text, -1) {
		r := readScore(text[m[1]:], least)
		if r.fault == NoScore {
			continue
		}
		line := text[strings.LastIndexByte(text[:m[0]], '\n')+1 : m[0]]
		if announced.MatchString(text[m[1]:]) || bullet.MatchString(strings.TrimLeft(line, ":= ")) {
			field = field.merge(r)
		} else if prose.fault == NoScore {
			prose = r
		}
	}
	if field.fault != NoScore {
		return field
	}
	if prose.fault != NoScore {
		return prose
	}
	return readNumber(text[len(bare.FindString(text)):], least, true)
}

// mask hides the digit of a label that stands in a block's text: it is nobody's score.
func mask(label string) string {
	before, _, _ := strings.Cut(label, "image")
	before, _, _ = strings.Cut(before, "answer")
	return before + "it"
}
