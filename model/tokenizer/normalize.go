package tokenizer

import (
	"fmt"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

type normalizer func(string) string

// newNormalizer returns nil for no normalizer.
func newNormalizer(n *node, at string) (normalizer, error) {
	if n == nil {
		return nil, nil
	}
	switch n.Type {
	case "Sequence":
		var all []normalizer
		for i := range n.Normalizers {
			f, err := newNormalizer(&n.Normalizers[i], fmt.Sprintf("%s.normalizers[%d]", at, i))
			if err != nil {
				return nil, err
			}
			all = append(all, f)
		}
		return func(s string) string {
			for _, f := range all {
				s = f(s)
			}
			return s
		}, nil
	case "NFC":
		return form(norm.NFC), nil
	case "NFD":
		return form(norm.NFD), nil
	case "NFKC":
		return form(norm.NFKC), nil
	case "NFKD":
		return form(norm.NFKD), nil
	case "Lowercase":
		return lower, nil
	case "Prepend":
		return func(s string) string {
			if s == "" {
				return ""
			}
			return n.Prepend + s
		}, nil
	case "Strip":
		return func(s string) string {
			if n.StripLeft {
				s = strings.TrimLeftFunc(s, unicode.IsSpace)
			}
			if n.StripRight {
				s = strings.TrimRightFunc(s, unicode.IsSpace)
			}
			return s
		}, nil
	case "StripAccents":
		return without(unicode.M), nil
	case "BertNormalizer":
		return newBert(n), nil
	case "Replace":
		return newReplace(n, at)
	}
	return nil, fmt.Errorf("%s.type: %q is not supported: Sequence, NFC, NFD, NFKC, NFKD, Lowercase, Prepend, Replace, "+
		"Strip, StripAccents and BertNormalizer are", at, n.Type)
}

// without leaves out the characters of a table.
func without(table *unicode.RangeTable) normalizer {
	return func(s string) string {
		return strings.Map(func(r rune) rune {
			if unicode.Is(table, r) {
				return -1
			}
			return r
		}, s)
	}
}

// newBert cleans as BERT's BasicTokenizer does: controls go, white space becomes a space, ideographs stand
// alone.
func newBert(n *node) normalizer {
	decomposed, unmarked := form(norm.NFD), without(unicode.Mn)
	return func(s string) string {
		var b strings.Builder
		for _, r := range s {
			switch {
			case n.CleanText && (r == '\t' || r == '\n' || r == '\r' || unicode.IsSpace(r) && !unicode.IsControl(r)):
				b.WriteByte(' ')
			case n.CleanText && (r == 0 || r == 0xFFFD || unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co)):
			case n.HandleChineseChars && unicode.Is(ideographs, r):
				b.WriteString(" " + string(r) + " ")
			default:
				b.WriteRune(r)
			}
		}
		s = b.String()
		if n.StripAccents == nil && n.Lowercase || isSet(n.StripAccents) {
			s = unmarked(decomposed(s))
		}
		if n.Lowercase {
			s = lower(s)
		}
		return s
	}
}

// ideographs are those of BERT's BasicTokenizer.
var ideographs = &unicode.RangeTable{
	R16: []unicode.Range16{{Lo: 0x3400, Hi: 0x4DBF, Stride: 1}, {Lo: 0x4E00, Hi: 0x9FFF, Stride: 1}, {Lo: 0xF900, Hi: 0xFAFF, Stride: 1}},
	R32: []unicode.Range32{
		{Lo: 0x20000, Hi: 0x2A6DF, Stride: 1},
		{Lo: 0x2A700, Hi: 0x2B73F, Stride: 1},
		{Lo: 0x2B740, Hi: 0x2B81F, Stride: 1},
		{Lo: 0x2B920, Hi: 0x2CEAF, Stride: 1},
		{Lo: 0x2F800, Hi: 0x2FA1F, Stride: 1},
	},
}

// newReplace puts n.Content, taken literally, in the place of every match.
func newReplace(n *node, at string) (normalizer, error) {
	p, err := newPattern(n.Pattern, at)
	if err != nil {
		return nil, err
	}
	if p.literal != "" {
		return func(s string) string { return strings.ReplaceAll(s, p.literal, n.Content) }, nil
	}
	return func(s string) string {
		var b strings.Builder
		for _, m := range p.find(s) {
			if m.match {
				b.WriteString(n.Content)
			} else {
				b.WriteString(s[m.from:m.to])
			}
		}
		return b.String()
	}, nil
}

// lower maps each character alone: a sigma at the end of a word becomes the same as any other. The dotted
// capital I is the only character whose lower case has two.
func lower(s string) string {
	return strings.ToLower(strings.ReplaceAll(s, "\u0130", "i\u0307"))
}

// maxMarks is how many combining marks in a row x/text takes as they are. Beyond 30 it inserts U+034F, as
// UAX 15 allows for streams; the reference does not.
const maxMarks = 20

func form(f norm.Form) normalizer {
	return func(s string) string {
		if isASCII(s) {
			return s
		}
		marks := 0
		for _, r := range s {
			if r >= 0x300 && unicode.Is(unicode.M, r) {
				if marks++; marks > maxMarks {
					return slowForm(f, s)
				}
			} else {
				marks = 0
			}
		}
		return f.String(s)
	}
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
