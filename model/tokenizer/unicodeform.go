package tokenizer

import (
	"slices"
	"strings"

	"golang.org/x/text/unicode/norm"
)

// slowForm is f.String for texts with any number of combining marks in a row: the algorithm of the Unicode
// Standard, section 3.11, with x/text for single characters and pairs only.
func slowForm(f norm.Form, s string) string {
	parts, compose := norm.NFD, false
	switch f {
	case norm.NFC:
		compose = true
	case norm.NFKC:
		parts, compose = norm.NFKD, true
	case norm.NFKD:
		parts = norm.NFKD
	}
	var chars []rune
	for _, r := range s {
		chars = append(chars, []rune(parts.String(string(r)))...)
	}
	classes := make([]uint8, len(chars))
	for i, r := range chars {
		classes[i] = norm.NFD.PropertiesString(string(r)).CCC()
	}
	for from := 0; from < len(chars); {
		to := from
		for to < len(chars) && classes[to] != 0 {
			to++
		}
		order(chars[from:to], classes[from:to])
		from = to + 1
	}
	if compose {
		chars = composed(chars, classes)
	}
	return string(chars)
}

// order sorts marks by their classes and keeps the order of equals.
func order(marks []rune, classes []uint8) {
	type mark struct {
		r     rune
		class uint8
	}
	all := make([]mark, len(marks))
	for i := range marks {
		all[i] = mark{marks[i], classes[i]}
	}
	slices.SortStableFunc(all, func(a, b mark) int { return int(a.class) - int(b.class) })
	for i, m := range all {
		marks[i], classes[i] = m.r, m.class
	}
}

// composed joins each character with the starter before it where a composite exists and nothing blocks it.
func composed(chars []rune, classes []uint8) []rune {
	out := make([]rune, 0, len(chars))
	starter, last := -1, uint8(0) // last is the class of what stands between the starter and the character
	for i, r := range chars {
		class := classes[i]
		if starter >= 0 && (starter == len(out)-1 || last != 0 && last < class) {
			pair := string(out[starter]) + string(r)
			if joined := norm.NFC.String(pair); joined != pair && strings.Count(joined, "") == 2 {
				out[starter] = []rune(joined)[0]
				continue
			}
		}
		if class == 0 {
			starter = len(out)
		}
		last = class
		out = append(out, r)
	}
	return out
}
