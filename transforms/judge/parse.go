package judge

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// A Fault is the typed reason for which an answer gives no scores. It is the error of ParseImages and
// ParseAnswers, and the reason of the dead letter.
type Fault string

// The faults of an answer.
const (
	// Refusal: the judge declined.
	Refusal Fault = "refusal"
	// MissingFirst and MissingSecond: only the other one of the two was answered.
	MissingFirst  Fault = "missing_first"
	MissingSecond Fault = "missing_second"
	// RubricEcho: the template came back with its placeholders, or the list of levels for a score.
	RubricEcho Fault = "rubric_echo"
	// DuplicateConflict: two scores for the same thing differ.
	DuplicateConflict Fault = "duplicate_conflict"
	// Truncated: the answer was cut off.
	Truncated Fault = "truncated"
	// NoScore: no number where the score should be, or no label to say whose it is.
	NoScore Fault = "no_score"
	// OutOfRange: a number off the scale; it is never clamped.
	OutOfRange Fault = "out_of_range"
	// Range: two numbers for one score, as in 3-4, 3 or 4, and also 3,5, which may be either.
	Range Fault = "range"
	// WrongDenominator: a score on another scale, as in 8/10 or 80%.
	WrongDenominator Fault = "wrong_denominator"
	// TooPrecise: more than three decimals, which thousandths do not hold.
	TooPrecise Fault = "too_precise"
)

// Error names the fault.
func (f Fault) Error() string { return "judge's answer: " + strings.ReplaceAll(string(f), "_", " ") }

// Scores are what an answer gives to the two things it judges.
type Scores struct {
	// First is Image 1's or Answer A's, Second Image 2's or Answer B's: by their labels, whatever their
	// order in the answer. Both are exact thousandths.
	First, Second float64
	// Decimal says that one of them is not a whole number.
	Decimal bool
}

// ParseImages reads the scores of "Image 1" and "Image 2", from 0 to 5. Its error is a Fault.
//
// The forms it takes are those of answers seen in the wild (testdata/answers.txt); where a number could
// be anything but the score it returns a fault: an answer can be asked for again, an invented score
// cannot be found again.
func ParseImages(answer string) (Scores, error) { return parse(answer, images) }

// ParseAnswers reads the scores of "Answer A" and "Answer B", from 1 to 5. Its error is a Fault.
func ParseAnswers(answer string) (Scores, error) { return parse(answer, answers) }

// A form is what distinguishes the two kinds of answer.
type form struct {
	labels [2]string
	least  int // of the scale; the greatest is 5
}

var (
	images  = form{[2]string{"1", "2"}, 0}
	answers = form{[2]string{"a", "b"}, 1}
)

// maxAnswer is many times what a judge's token limit lets through; a longer answer has no score.
const maxAnswer = 32 << 10

func parse(answer string, f form) (Scores, error) {
	if len(answer) > maxAnswer {
		return Scores{}, NoScore
	}
	text := normalise(answer)
	found := [2]reading{{fault: missing}, {fault: missing}}
	for _, b := range split(text) {
		if i := slices.Index(f.labels[:], b.label); i >= 0 {
			found[i] = found[i].merge(b.score(f.least))
		}
	}
	first, second := found[0], found[1]
	if first.fault == "" && second.fault == "" {
		return Scores{
			First: float64(first.milli) / 1000, Second: float64(second.milli) / 1000,
			Decimal: first.milli%1000 != 0 || second.milli%1000 != 0,
		}, nil
	}
	for _, r := range found {
		if r.fault != "" && r.fault != missing && r.fault != NoScore {
			return Scores{}, r.fault
		}
	}
	return Scores{}, diagnose(text, first.fault, second.fault)
}

// missing marks a label that does not occur; diagnose turns it into a Fault for the outside.
const missing Fault = "missing"

var (
	placeholder = regexp.MustCompile(`(?:score|rating)[ :=-]*[<\[{(]+ ?(?:your|an?|the|insert|enter|whole|integer|number|score|x|n)\b`)
	refusal     = regexp.MustCompile(`\bi(?: a|')m (?:really |very |so )?(?:sorry|unable|not able|afraid)|\bi (?:cannot|can't|can not|won't|will not|am not able|must decline)|^sorry\b|\bas an ai\b|\bunable to (?:assist|help|see|view|evaluate|judge|rate|score)`)
	cutAtLabel  = regexp.MustCompile(`(?:^|\b)(?:score|rating|output|output for|output of|(?:image|answer)(?: ?[12ab])?)["' :=<\[({-]*$`)
	cutInWords  = regexp.MustCompile(`[\pL,;:(-]$`)
)

// diagnose names what is wrong with an answer in which at least one score is not there at all.
func diagnose(text string, first, second Fault) Fault {
	switch none := first != "" && second != ""; {
	case placeholder.MatchString(text) || levelsIn(text) >= 3:
		return RubricEcho
	case none && refusal.MatchString(text):
		return Refusal
	case cutAtLabel.MatchString(text):
		return Truncated
	case none:
		return NoScore
	case first == missing:
		return MissingFirst
	case second == missing && cutInWords.MatchString(text):
		return Truncated
	case second == missing:
		return MissingSecond
	}
	return NoScore
}

var level = regexp.MustCompile(`\(score:? ?(\d)\)`)

// levelsIn counts the different levels of the rubric that text lists.
func levelsIn(text string) int {
	if !strings.Contains(text, "(score") { // most answers: the pattern need not run
		return 0
	}
	seen := map[string]bool{}
	for _, m := range level.FindAllStringSubmatch(text, -1) {
		seen[m[1]] = true
	}
	return len(seen)
}

// normalise makes one spelling of many: NFKC, lower case, no Markdown, plain dashes and slashes, runs
// of white space folded within each line, no blank lines at the ends.
func normalise(answer string) string {
	if text, ok := normaliseASCII(answer); ok {
		return text
	}
	answer = strings.ToLower(norm.NFKC.String(answer))
	var out strings.Builder
	out.Grow(len(answer))
	for _, r := range answer {
		switch {
		case 'a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == ' ':
			out.WriteByte(byte(r))
		case r == '*' || r == '_' || r == '#' || r == '`' || unicode.Is(unicode.Cf, r):
		case r == '\n' || r == '\r' || r == '\v' || r == '\f' || r == '\u0085' || r == '\u2028' || r == '\u2029':
			out.WriteByte('\n')
		case unicode.IsSpace(r):
			out.WriteByte(' ')
		case r == '\u2044' || r == '\u2215': // as in ½, which NFKC writes with a fraction slash
			out.WriteByte('/')
		case unicode.Is(unicode.Pd, r) || r == '\u2212':
			out.WriteByte('-')
		case r == '\u2018' || r == '\u2019':
			out.WriteByte('\'')
		case r == '\u201c' || r == '\u201d':
			out.WriteByte('"')
		default:
			out.WriteRune(r)
		}
	}
	lines := strings.Split(out.String(), "\n")
	for i, line := range lines {
		lines[i] = strings.Join(strings.Fields(line), " ")
	}
	return strings.Trim(strings.Join(lines, "\n"), "\n")
}

// normaliseASCII is normalise, in one pass, for answers of ASCII alone, as most are.
func normaliseASCII(answer string) (text string, ok bool) {
	out := make([]byte, 0, len(answer))
	space := false // due before the next word of the line
	for i := range len(answer) {
		switch c := answer[i]; {
		case c >= utf8.RuneSelf:
			return "", false
		case c == '*' || c == '_' || c == '#' || c == '`':
		case c == ' ' || c == '\t':
			space = len(out) > 0 && out[len(out)-1] != '\n'
		case c == '\n' || c == '\r' || c == '\v' || c == '\f':
			if space = false; len(out) > 0 {
				out = append(out, '\n')
			}
		default:
			if space {
				out, space = append(out, ' '), false
			}
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			out = append(out, c)
		}
	}
	return string(bytes.TrimRight(out, "\n")), true
}
