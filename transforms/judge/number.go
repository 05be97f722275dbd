package judge

import (
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A reading is one score in thousandths, or the fault that stands in its place.
type reading struct {
	milli int
	fault Fault
}

// merge joins two readings of the same thing: a reading beats none, two that differ are a conflict.
func (r reading) merge(s reading) reading {
	switch {
	case r.fault == missing, r.fault == NoScore && s.fault != missing:
		return s
	case s.fault == missing, s.fault == NoScore, r == s:
		return r
	}
	return reading{fault: DuplicateConflict}
}

var words = map[string]string{
	"zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5",
	"six": "6", "seven": "7", "eight": "8", "nine": "9", "ten": "10",
}

const (
	digits = `(?:\d+(?:\.\d+)?|\.\d+)`
	word   = `(?:zero|one|two|three|four|five|six|seven|eight|nine|ten)\b`
	number = `(?:` + digits + `|` + word + `)`
	// filler may stand between the word score and its number: separators, small words, the names of levels.
	filler = `(?:[\s:=|"'({\[<-]|\b(?:is|of|for|the|an?|this|that|it|given|assigned|would be|i (?:would )?give|rat(?:ing|ed)|` +
		`(?:below |above )?average|very good|excellent|perfect|good|fair|poor|no match|match)\b)*`
)

var (
	fillers  = regexp.MustCompile(`^` + filler)
	digital  = regexp.MustCompile(`^` + digits)
	verbal   = regexp.MustCompile(`^` + word)
	between  = regexp.MustCompile(`^` + filler + `(?:between|from) ` + number)
	scaleOut = regexp.MustCompile(`^ ?\(?(?:out of|from|/) ?(` + number + `)\)? ?[:=]`)
	scaleTo  = regexp.MustCompile(`^ ?\(?(?:from |on a scale of )?(\d+) ?(?:-|to) ?(\d+)\)? ?[:=]`)

	closers = regexp.MustCompile(`^[>\])}"']*`)
	over    = regexp.MustCompile(`^ ?\(?(?:/|out of|of) ?(?:an? |the )?(?:possible |maximum |max |total )*(?:of )?(` + number + `)`)
	ofScale = regexp.MustCompile(`^ ?\(?on (?:an?|the) (?:(\d+)(?: to |-)(\d+) |(\d+)[- ]point )?scale(?: (?:of|from) (\d+)(?: ?(?:-|to) ?(\d+))?)?`)
	percent = regexp.MustCompile(`^ ?(?:%|percent)`)
	ranged  = regexp.MustCompile(`^(?:\+| ?(?:\+/-|±|-|to|~|or|and|point|&|\.\.+) ?(?:` + number + `|(?:an?|one) (?:half|quarter))| \.?\d|[.,:'/]\d)`)
	ended   = regexp.MustCompile(`^ ?(?:$|[\n.,;:)|}!/(]|- |explanation\b)`)
)

// readScore reads the number that belongs to the word score before text.
func readScore(text string, least int) reading {
	if d, ok := plain(text); ok {
		if d < least || d > 5 {
			return reading{fault: OutOfRange}
		}
		return reading{milli: d * 1000}
	}
	for _, scale := range []*regexp.Regexp{scaleOut, scaleTo} { // Score (0-5): 4, Score out of 5: 4
		m := scale.FindStringSubmatch(text)
		if m == nil {
			continue
		}
		if value(m[len(m)-1]) != 5000 || len(m) == 3 && value(m[1]) != least*1000 {
			return reading{fault: WrongDenominator}
		}
		text = text[len(m[0])-1:]
		break
	}
	if between.MatchString(text) {
		return reading{fault: Range}
	}
	skipped := fillers.FindString(text)
	rest := text[len(skipped):]
	if strings.HasSuffix(skipped, "-") && digital.MatchString(rest) {
		return reading{fault: OutOfRange} // -1
	}
	r := readNumber(rest, least, false)
	if r.fault == NoScore || !strings.Contains(skipped, "\n") {
		return r
	}
	// On a line of its own a number is a score only if it is alone there: "2. Colours" opens a list.
	line, _, _ := strings.Cut(rest, "\n")
	if !alone.MatchString(line) {
		return reading{fault: NoScore}
	}
	return r
}

// plain reads the form that judges are asked for, "Score: 4" at the end of a line, which all of the
// expressions would read the same.
func plain(text string) (digit int, ok bool) {
	if len(text) < 2 || text[0] != ':' {
		return 0, false
	}
	text = strings.TrimPrefix(text[1:], " ")
	if text == "" || text[0] < '0' || text[0] > '9' || len(text) > 1 && text[1] != '\n' {
		return 0, false
	}
	return int(text[0] - '0'), true
}

var alone = regexp.MustCompile(`^` + number + `[>\])}"']*(?: ?(?:/|out of|of) ?` + number + `)?[>\])}"'.,;|]*$`)

// readNumber reads the number at the start of text and judges it by what follows. Where strict, as for
// a word, the number must end its phrase: "Image 1: 3 cats" and "one of the best" have no score.
func readNumber(text string, least int, strict bool) reading {
	num := digital.FindString(text)
	if num == "" {
		num = verbal.FindString(text)
		strict = true
	}
	if num == "" {
		return reading{fault: NoScore}
	}
	rest := text[len(num):]
	if next, _ := utf8.DecodeRuneInString(rest); unicode.IsLetter(next) || unicode.IsNumber(next) {
		return reading{fault: NoScore} // 4th, 4x
	}
	rest = rest[len(closers.FindString(rest)):]
	if m := over.FindStringSubmatch(rest); m != nil {
		if value(m[1]) != 5000 {
			return reading{fault: WrongDenominator}
		}
		rest = rest[len(m[0]):]
	} else if m := ofScale.FindStringSubmatch(rest); m != nil {
		for i, bound := range m[1:] {
			low := i == 0 || i == 3 && m[5] != ""
			if bound != "" && (low && value(bound) != least*1000 || !low && value(bound) != 5000) {
				return reading{fault: WrongDenominator}
			}
		}
		rest = rest[len(m[0]):]
	}
	switch {
	case percent.MatchString(rest):
		return reading{fault: WrongDenominator}
	case ranged.MatchString(rest):
		return reading{fault: Range}
	case rest == "/":
		return reading{fault: Truncated} // of 5, of 10?
	case strict && !ended.MatchString(rest):
		return reading{fault: NoScore}
	}
	if _, decimals, _ := strings.Cut(num, "."); len(decimals) > 3 {
		return reading{fault: TooPrecise}
	}
	milli := value(num)
	if milli < least*1000 || milli > 5000 {
		return reading{fault: OutOfRange}
	}
	return reading{milli: milli}
}

// value is a number's thousandths, or -1 if it is not of the form d or d.ddd: one digit at most stands
// before the point of any number on the scale, and "05" or "0³" must not pass for one.
func value(num string) int {
	if w, ok := words[num]; ok {
		num = w
	}
	whole, decimals, _ := strings.Cut(num, ".")
	if len(whole) > 1 || len(decimals) > 3 {
		return -1
	}
	milli, err := strconv.Atoi(whole + decimals + "000"[len(decimals):])
	if err != nil {
		return -1
	}
	return milli
}
