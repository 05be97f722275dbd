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
	// bullet is what may precede a label at the start of its line.
	bullet = regexp.MustCompile(`^(?:\d[.)] ?)?[ <>"'{(\[|•·-]*$`)
	// separated says that what follows a label sets it off, as a heading is.
	separated = regexp.MustCompile(`^(?: ?\([^)\n]{0,60}\))?["')>]* ?(?:[:=|{]|- |\n|$|(?:score|rating)\b)`)
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
	for _, m := range labelled(text) {
		announced, rest := text[m.start:m.name], text[m.end:]
		line := text[strings.LastIndexByte(text[:m.start], '\n')+1 : m.start]
		heading := (opensWith(rest, ":\n") || separated.MatchString(rest)) &&
			(line == "" || strings.HasPrefix(announced, "output") || bullet.MatchString(line))
		if !heading && !direct.MatchString(rest) && !summed.MatchString(rest) {
			continue
		}
		if len(out) > 0 {
			out[len(out)-1].text = text[from:m.start]
		}
		start := m.end
		if strings.HasPrefix(announced, "score") || strings.HasPrefix(announced, "rating") {
			start = m.start // "Score for Image 1: 4": the word that announces the number stands before the label
		}
		out = append(out, block{label: m.label})
		from = start
	}
	if len(out) > 0 {
		out[len(out)-1].text = text[from:]
	}
	return out
}

// A mark is a label in a text: start is where what announces it begins, name where its own name does.
type mark struct {
	start, name, end int
	label            string
}

// labelled finds all labels of text. It searches for plain text, for every answer comes through here and
// an expression that may begin with any of its words is slow.
func labelled(text string) []mark {
	var out []mark
	for from := 0; ; {
		at := nextOf(text, from, "image", "answer")
		if at < 0 {
			return out
		}
		name, length := labelAt(text[at:])
		if length == 0 {
			from = at + 1
			continue
		}
		start := at
		if n := announcement(text[max(from, at-40):at]); n > 0 {
			start = at - n
		} else if at > 0 && wordByte(text[at-1]) {
			from = at + 1
			continue
		}
		from = at + length
		out = append(out, mark{start: start, name: at, end: from, label: name})
	}
}

// labelAt reads the label that text may begin with, the name of a thing that is judged: image 1, image2,
// answer a, answer b's; answer 1 is another name of answer a. The length is 0 if there is none.
func labelAt(text string) (name string, length int) {
	rest, names := "", ""
	if after, ok := strings.CutPrefix(text, "image"); ok {
		rest, names = after, "12"
	} else if after, ok := strings.CutPrefix(text, "answer"); ok {
		rest, names = after, "ab12"
	}
	rest = strings.TrimPrefix(rest, " ")
	if !opensWith(rest, names) || len(rest) > 1 && wordByte(rest[1]) {
		return "", 0
	}
	name = rest[:1]
	switch {
	case names == "12":
	case name == "1":
		name = "a"
	case name == "2":
		name = "b"
	}
	return name, len(text) - len(strings.TrimPrefix(rest[1:], "'s"))
}

// announcement is the length of the words at the end of text that announce a label: output for, score
// of the, and so on. It is 0 if there are none.
func announcement(text string) int {
	rest := text
	if rest != "" && strings.IndexByte(`"'(`, rest[len(rest)-1]) >= 0 {
		rest = rest[:len(rest)-1]
	}
	rest, ok := strings.CutSuffix(strings.TrimSuffix(rest, "the "), " for ")
	if !ok {
		if rest, ok = strings.CutSuffix(rest, " of "); !ok {
			return 0
		}
	}
	rest = strings.TrimSuffix(rest, "s")
	for _, word := range announcing {
		if before, ok := strings.CutSuffix(rest, word); ok && (before == "" || !wordByte(before[len(before)-1])) {
			return len(text) - len(before)
		}
	}
	return 0
}

var announcing = []string{"output", "score", "rating", "evaluation", "judgment", "judgement", "assessment"}

// opensWith says whether text begins with one of chars: where it does, most of the expressions need not
// run.
func opensWith(text, chars string) bool {
	return text != "" && strings.IndexByte(chars, text[0]) >= 0
}

// nextOf is the first place from on where one of two words begins, or -1.
func nextOf(text string, from int, a, b string) int {
	i, j := strings.Index(text[from:], a), strings.Index(text[from:], b)
	switch {
	case i < 0 && j < 0:
		return -1
	case i < 0 || j >= 0 && j < i:
		return from + j
	}
	return from + i
}

// wordByte says that c is part of a word, as \b of an expression sees it.
func wordByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_'
}

// mentions are the places behind the words score and rating in text, with where they begin.
func mentions(text string) [][2]int {
	var out [][2]int
	for from := 0; ; {
		at := nextOf(text, from, "score", "rating")
		if at < 0 {
			return out
		}
		end := at + len("score")
		if text[at] == 'r' {
			end = at + len("rating")
		}
		if (at == 0 || !wordByte(text[at-1])) && (end == len(text) || !wordByte(text[end])) {
			out = append(out, [2]int{at, end})
		}
		from = end
	}
}

var (
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
	text := mask(b.text)
	field, prose := reading{fault: NoScore}, reading{fault: NoScore}
	for _, m := range mentions(text) {
		r := readScore(text[m[1]:], least)
		if r.fault == NoScore {
			continue
		}
		line := text[strings.LastIndexByte(text[:m[0]], '\n')+1 : m[0]]
		if opensWith(text[m[1]:], ":") || announced.MatchString(text[m[1]:]) || bullet.MatchString(strings.TrimLeft(line, ":= ")) {
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

// mask hides the digits of the labels that stand in a block's text: they are nobody's scores.
func mask(text string) string {
	marks := labelled(text)
	if marks == nil {
		return text
	}
	var out strings.Builder
	from := 0
	for _, m := range marks {
		out.WriteString(text[from:m.name])
		out.WriteString("it")
		from = m.end
	}
	out.WriteString(text[from:])
	return out.String()
}
