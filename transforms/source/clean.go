package source

import (
	"bytes"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Reasons of filtered rows of stage "source".
const (
	TooShort       = "too_short"
	TooLong        = "too_long"
	Language       = "language"
	NSFW           = "nsfw"
	LowPickScore   = "low_pick_score"
	ShortRewriting = "short_rewriting"
	LongRewriting  = "long_rewriting"
	SampledOut     = "sampled_out"
)

// clean brings text to Unicode NFC with runs of white space as one space and none at the ends. The
// reason is "" or why it cannot be a prompt.
func clean(b []byte) (s, reason string) {
	if plain(b) {
		return string(b), ""
	}
	if !utf8.Valid(b) {
		return "", InvalidUTF8
	}
	s = string(b)
	if !norm.NFC.IsNormalString(s) {
		s = norm.NFC.String(s)
	}
	s = strings.Join(strings.Fields(s), " ")
	if s == "" {
		return "", Empty
	}
	if strings.ContainsFunc(s, unicode.IsControl) {
		return "", ControlChar
	}
	return s, ""
}

// plain says that b is clean already, which nearly all prompts are: printable ASCII, single spaces.
func plain(b []byte) bool {
	space := byte(' ')
	prev := space
	for _, c := range b {
		if c < ' ' || c >= 0x7f || c == space && prev == space {
			return false
		}
		prev = c
	}
	return prev != space
}

// filter returns why a clean text is outside the limits, or "".
func (l Limits) filter(s string) string {
	if l.MinChars > 0 || l.MaxChars > 0 {
		n := utf8.RuneCountInString(s)
		if n < l.MinChars {
			return TooShort
		}
		if l.MaxChars > 0 && n > l.MaxChars {
			return TooLong
		}
	}
	if l.MaxWords > 0 && strings.Count(s, " ")+1 > l.MaxWords {
		return TooLong
	}
	if l.Language == Latin || l.Language == English {
		letters, latin, az := countLetters(s)
		if letters == 0 || latin*100 < letters*90 || l.Language == English && az*100 < letters*97 {
			return Language
		}
	}
	return ""
}

func countLetters(s string) (letters, latin, az int) {
	for _, r := range s {
		switch {
		case 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z':
			letters++
			latin++
			az++
		case r >= utf8.RuneSelf && unicode.IsLetter(r):
			letters++
			if unicode.Is(unicode.Latin, r) {
				latin++
			}
		}
	}
	return letters, latin, az
}

// tokens counts words and punctuation marks.
func tokens(s string) int {
	n, inWord := 0, false
	for _, r := range s {
		word := unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r)
		if word && !inWord || !word && r != ' ' {
			n++
		}
		inWord = word
	}
	return n
}

// value is the number in c.
func (c cell) value() (float64, bool) {
	if c.kind != number && c.kind != text {
		return 0, false
	}
	x, err := strconv.ParseFloat(string(bytes.TrimSpace(c.bytes)), 64)
	return x, err == nil && x == x
}
