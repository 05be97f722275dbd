package tokenizer

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dlclark/regexp2"
)

// patience bounds one search. No published pattern comes near it; one that backtracks for ever must not
// hang a worker. What it has not split by then stays one word.
const patience = 3 * time.Second

// A pattern finds a literal text or a regular expression.
type pattern struct {
	literal string
	regex   *regexp2.Regexp
}

func newPattern(f patternFile, at string) (*pattern, error) {
	switch {
	case f.String != nil && *f.String != "":
		return &pattern{literal: *f.String}, nil
	case f.Regex == nil || *f.Regex == "":
		return nil, fmt.Errorf("%s.pattern: it needs a String or a Regex that is not empty", at)
	}
	text, err := translate(*f.Regex)
	if err != nil {
		return nil, fmt.Errorf("%s.pattern.Regex: %w", at, err)
	}
	re, err := regexp2.Compile(text, regexp2.Multiline) // as ^ and $ are in the dialect
	if err != nil {
		return nil, fmt.Errorf("%s.pattern.Regex: %w", at, err)
	}
	re.MatchTimeout = patience
	return &pattern{regex: re}, nil
}

// find covers s with spans.
func (p *pattern) find(s string) []span {
	var out []span
	done := 0
	add := func(from, to int) {
		if done < from {
			out = append(out, span{done, from, false})
		}
		out = append(out, span{from, to, true})
		done = to
	}
	if p.regex == nil {
		for i := strings.Index(s, p.literal); i >= 0; i = strings.Index(s[done:], p.literal) {
			add(done+i, done+i+len(p.literal))
		}
	} else {
		runes := []rune(s)
		n, at := 0, 0 // the first n runes are the first at bytes
		byteAt := func(index int) int {
			for ; n < index; n++ {
				at += utf8.RuneLen(runes[n])
			}
			return at
		}
		m, err := p.regex.FindRunesMatch(runes)
		for ; m != nil && err == nil; m, err = p.regex.FindNextMatch(m) {
			from := byteAt(m.Index)
			if m.Length == 0 && from == done && from > 0 {
				continue // an empty match right after a match does not count
			}
			add(from, byteAt(m.Index+m.Length))
		}
	}
	if done < len(s) {
		out = append(out, span{done, len(s), false})
	}
	return out
}
