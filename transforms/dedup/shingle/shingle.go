// Package shingle compares texts by the runs of words they share (Broder, On the resemblance and
// containment of documents, 1997).
package shingle

import (
	"iter"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// Fold is text for comparing: compatibility forms (NFKC), case folded, everything but letters, digits
// and marks as one space, none at the ends. A text of signs only folds to itself without white space at
// its ends, so that "!!" and "??" stay apart.
func Fold(text string) string {
	if s, ok := foldASCII(text); ok {
		return s
	}
	folded := cases.Fold().String(norm.NFKC.String(text))
	words := strings.FieldsFunc(folded, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r)
	})
	if len(words) == 0 {
		return strings.TrimSpace(text)
	}
	return strings.Join(words, " ")
}

// foldASCII is the fast path: it is false for a text that is not ASCII, or of signs only.
func foldASCII(text string) (string, bool) {
	b := make([]byte, 0, len(text))
	gap := false
	for i := range len(text) {
		c := text[i]
		switch {
		case c >= 0x80:
			return "", false
		case 'A' <= c && c <= 'Z':
			c += 'a' - 'A'
		case c < '0' || c > '9' && c < 'a' || c > 'z':
			gap = true
			continue
		}
		if gap && len(b) > 0 {
			b = append(b, ' ')
		}
		gap = false
		b = append(b, c)
	}
	return string(b), len(b) > 0
}

// Runs yields the runs of n words in a folded text, in order. A text of fewer words is one run.
func Runs(folded string, n int) iter.Seq[string] {
	return func(yield func(string) bool) {
		var starts []int
		for i := range len(folded) {
			if folded[i] != ' ' && (i == 0 || folded[i-1] == ' ') {
				starts = append(starts, i)
			}
		}
		if len(starts) <= n {
			yield(folded)
			return
		}
		for i := 0; i+n <= len(starts); i++ {
			end := len(folded)
			if i+n < len(starts) {
				end = starts[i+n] - 1
			}
			if !yield(folded[starts[i]:end]) {
				return
			}
		}
	}
}

// Set returns the hashes of the runs of n words in a folded text, ascending, each once. Where most > 0
// and there are more, it keeps the lowest: a bottom-k sketch.
func Set(folded string, n, most int) []uint32 {
	set := make([]uint32, 0, 32)
	for r := range Runs(folded, n) {
		set = append(set, hash(r))
	}
	slices.Sort(set)
	set = slices.Compact(set)
	if most > 0 && len(set) > most {
		set = set[:most]
	}
	return set
}

// hash is FNV-1a of 64 bits, mixed and cut to 32: the lowest of a set must be a fair sample of it.
func hash(s string) uint32 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return uint32(Mix(h) >> 32)
}

// Mix is the finalizer of SplitMix64, a bijection whose every output bit depends on every input bit.
func Mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Jaccard is |a and b| / |a or b| of two sets of Set. Where most > 0 and either is a sketch of that
// size, it is the estimate from the lowest most of their union.
func Jaccard(a, b []uint32, most int) float64 {
	if most <= 0 || len(a) < most && len(b) < most {
		most = len(a) + len(b)
	}
	i, j, both, all := 0, 0, 0, 0
	for all < most && (i < len(a) || j < len(b)) {
		switch {
		case j == len(b) || i < len(a) && a[i] < b[j]:
			i++
		case i == len(a) || b[j] < a[i]:
			j++
		default:
			i, j, both = i+1, j+1, both+1
		}
		all++
	}
	if all == 0 {
		return 0
	}
	return float64(both) / float64(all)
}
