package tokenizer

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// byteChars spells each byte as one printable character, and charBytes is the way back: encoder.py of GPT-2.
var byteChars, charBytes = byteAlphabet()

func byteAlphabet() (chars [256]rune, bytes map[rune]byte) {
	bytes = make(map[rune]byte, 256)
	next := rune(256)
	for b := range chars {
		r := rune(b)
		if (r < '!' || r > '~') && (r < 0xA1 || r > 0xAC) && r < 0xAE {
			r = next
			next++
		}
		chars[b], bytes[r] = r, byte(b)
	}
	return chars, bytes
}

// byteLevel splits words as GPT-2 does, if asked to, and spells their bytes.
func byteLevel(prefixSpace, useRegex bool) splitter {
	return func(in []word) []word {
		out := make([]word, 0, len(in))
		for _, w := range in {
			s := w.text
			if prefixSpace && !strings.HasPrefix(s, " ") {
				s = " " + s
			}
			for from := 0; from < len(s); {
				n := len(s) - from
				if useRegex {
					n = gpt2Word(s[from:])
				}
				out = append(out, word{spell(s[from : from+n]), w.start && from == 0})
				from += n
			}
		}
		return out
	}
}

func spell(s string) string {
	plain := true
	for i := 0; i < len(s) && plain; i++ {
		plain = s[i] > ' ' && s[i] <= '~'
	}
	if plain {
		return s
	}
	var b strings.Builder
	b.Grow(2 * len(s))
	for i := 0; i < len(s); i++ {
		b.WriteRune(byteChars[s[i]])
	}
	return b.String()
}

// gpt2Word is the length of the first match of GPT-2's pattern
//
//	's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//
// which matches at the start of every text. It is by hand because it is part of the format, not of a file,
// and runs over every word.
func gpt2Word(s string) int {
	if s[0] == '\'' {
		for _, c := range [...]string{"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"} {
			if strings.HasPrefix(s, c) {
				return len(c)
			}
		}
	}
	body := s
	if s[0] == ' ' {
		body = s[1:]
	}
	first, _ := utf8.DecodeRuneInString(body)
	if kind := runeKind(first); body != "" && kind != white {
		n := strings.IndexFunc(body, func(r rune) bool { return runeKind(r) != kind })
		if n < 0 {
			n = len(body)
		}
		return len(s) - len(body) + n
	}
	n := strings.IndexFunc(s, func(r rune) bool { return !unicode.IsSpace(r) })
	if n < 0 {
		return len(s)
	}
	// The last space goes with the next word, unless it is the only one.
	if _, last := utf8.DecodeLastRuneInString(s[:n]); last < n {
		return n - last
	}
	return n
}

const (
	white = iota
	letter
	number
	other
)

func runeKind(r rune) int {
	switch {
	case unicode.IsLetter(r):
		return letter
	case unicode.IsSpace(r):
		return white
	case unicode.IsNumber(r):
		return number
	}
	return other
}

// lossy makes bytes a string; each longest start of a character that is broken off becomes one U+FFFD, as
// the Unicode Standard recommends (section 3.9) and Rust does.
func lossy(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	var out strings.Builder
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 {
			n = brokenPrefix(b)
		}
		out.WriteRune(r)
		b = b[n:]
	}
	return out.String()
}

// brokenPrefix is the length of the longest start of b that some valid character starts with, at least 1.
func brokenPrefix(b []byte) int {
	low, high, want := byte(0x80), byte(0xBF), 1
	switch c := b[0]; {
	case c >= 0xC2 && c <= 0xDF:
		want = 2
	case c >= 0xE0 && c <= 0xEF:
		want = 3
	case c >= 0xF0 && c <= 0xF4:
		want = 4
	}
	switch b[0] {
	case 0xE0:
		low = 0xA0
	case 0xED:
		high = 0x9F
	case 0xF0:
		low = 0x90
	case 0xF4:
		high = 0x8F
	}
	n := 1
	for n < want && n < len(b) && b[n] >= low && b[n] <= high {
		low, high = 0x80, 0xBF
		n++
	}
	return n
}
