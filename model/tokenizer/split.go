package tokenizer

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A word is a part of the text that is encoded alone; start tells that the text starts with it.
type word struct {
	text  string
	start bool
}

// A splitter is a pre-tokenizer: it cuts words into smaller ones.
type splitter func([]word) []word

// newSplitters flattens sequences.
func newSplitters(n *node, at string) ([]splitter, error) {
	if n == nil {
		return nil, nil
	}
	if n.Type == "Sequence" {
		var all []splitter
		for i := range n.Pretokenizers {
			f, err := newSplitters(&n.Pretokenizers[i], fmt.Sprintf("%s.pretokenizers[%d]", at, i))
			if err != nil {
				return nil, err
			}
			all = append(all, f...)
		}
		return all, nil
	}
	f, err := newSplitter(n, at)
	return []splitter{f}, err
}

func newSplitter(n *node, at string) (splitter, error) {
	switch n.Type {
	case "ByteLevel":
		return byteLevel(isSet(n.AddPrefixSpace), n.UseRegex == nil || *n.UseRegex), nil
	case "Split":
		p, err := newPattern(n.Pattern, at)
		if err != nil {
			return nil, err
		}
		cut, err := newBehavior(n.Behavior, at)
		if err != nil {
			return nil, err
		}
		return splitBy(func(s string) []span { return inverted(p.find(s), n.Invert) }, cut), nil
	case "Whitespace":
		return splitBy(words, removed), nil
	case "WhitespaceSplit":
		return splitBy(each(unicode.IsSpace), removed), nil
	case "Digits":
		if n.IndividualDigits {
			return splitBy(each(unicode.IsNumber), isolated), nil
		}
		return splitBy(each(unicode.IsNumber), contiguous), nil
	case "Punctuation":
		cut, err := newBehavior(n.Behavior, at)
		if n.Behavior == "" {
			cut, err = isolated, nil
		}
		return splitBy(each(isPunctuation), cut), err
	case "Metaspace":
		return newMetaspace(n, at)
	}
	return nil, fmt.Errorf("%s.type: %q is not supported: Sequence, ByteLevel, Split, Whitespace, WhitespaceSplit, Digits, "+
		"Punctuation and Metaspace are", at, n.Type)
}

func isSet(b *bool) bool { return b != nil && *b }

func isPunctuation(r rune) bool {
	return unicode.IsPunct(r) || r < 0x80 && unicode.IsSymbol(r)
}

func newMetaspace(n *node, at string) (splitter, error) {
	mark, scheme, err := metaspace(n, at)
	if err != nil {
		return nil, err
	}
	isMark := each(func(r rune) bool { return string(r) == mark })
	return func(in []word) []word {
		var out []word
		for _, w := range in {
			s := strings.ReplaceAll(w.text, " ", mark)
			if (scheme == "always" || scheme == "first" && w.start) && !strings.HasPrefix(s, mark) {
				s = mark + s
			}
			w.text = s
			if n.Split == nil || *n.Split {
				out = take(w, mergedWithNext(isMark(s)), out)
			} else {
				out = append(out, w)
			}
		}
		return out
	}, nil
}

// metaspace returns the mark and the prepend scheme of a Metaspace; older files have add_prefix_space.
func metaspace(n *node, at string) (mark, scheme string, err error) {
	scheme = n.PrependScheme
	if scheme == "" {
		scheme = "always"
		if n.AddPrefixSpace != nil && !*n.AddPrefixSpace {
			scheme = "never"
		}
	}
	if scheme != "always" && scheme != "first" && scheme != "never" {
		return "", "", fmt.Errorf("%s.prepend_scheme: %q is none of always, first, never", at, scheme)
	}
	if utf8.RuneCountInString(n.Replacement) != 1 {
		return "", "", fmt.Errorf("%s.replacement: %q is not one character", at, n.Replacement)
	}
	return n.Replacement, scheme, nil
}

// A span is a part of a string, a match or what is between matches.
type span struct {
	from, to int
	match    bool
}

func splitBy(find func(string) []span, cut behavior) splitter {
	return func(in []word) []word {
		out := make([]word, 0, len(in))
		for _, w := range in {
			out = take(w, cut(find(w.text)), out)
		}
		return out
	}
}

// take appends the spans of w that are not empty.
func take(w word, spans []span, out []word) []word {
	for _, s := range spans {
		if s.from < s.to {
			out = append(out, word{w.text[s.from:s.to], w.start && s.from == 0})
		}
	}
	return out
}

// each finds single characters.
func each(is func(rune) bool) func(string) []span {
	return func(s string) []span {
		var out []span
		done := 0
		for i, r := range s {
			if !is(r) {
				continue
			}
			if done < i {
				out = append(out, span{done, i, false})
			}
			done = i + utf8.RuneLen(r)
			out = append(out, span{i, done, true})
		}
		if done < len(s) {
			out = append(out, span{done, len(s), false})
		}
		return out
	}
}

// words finds what is not \w+|[^\w\s]+: the white space between words and runs of other signs.
func words(s string) []span {
	var out []span
	kind := func(r rune) int {
		switch {
		case isWord(r):
			return 1
		case unicode.IsSpace(r):
			return 0
		}
		return 2
	}
	last := -1
	for i, r := range s {
		if k := kind(r); k != last {
			out = append(out, span{from: i, match: k == 0})
			last = k
		}
		out[len(out)-1].to = i + utf8.RuneLen(r)
	}
	return out
}

func inverted(spans []span, invert bool) []span {
	for i := range spans {
		spans[i].match = spans[i].match != invert
	}
	return spans
}

// A behavior says which spans become words.
type behavior func([]span) []span

func newBehavior(name, at string) (behavior, error) {
	switch name {
	case "Removed":
		return removed, nil
	case "Isolated":
		return isolated, nil
	case "Contiguous":
		return contiguous, nil
	case "MergedWithPrevious":
		return mergedWithPrevious, nil
	case "MergedWithNext":
		return mergedWithNext, nil
	}
	return nil, fmt.Errorf("%s.behavior: %q is none of Removed, Isolated, Contiguous, MergedWithPrevious, MergedWithNext", at, name)
}

func removed(spans []span) []span {
	return slices.DeleteFunc(spans, func(s span) bool { return s.match })
}

func isolated(spans []span) []span { return spans }

// contiguous joins neighbours that both match or both do not.
func contiguous(spans []span) []span {
	return joined(spans, func(s, last span) bool { return s.match == last.match })
}

// mergedWithPrevious joins a match to what is before it, unless that is a match too.
func mergedWithPrevious(spans []span) []span {
	return joined(spans, func(s, last span) bool { return s.match && !last.match })
}

func mergedWithNext(spans []span) []span {
	slices.Reverse(spans)
	spans = mergedWithPrevious(spans)
	slices.Reverse(spans)
	return spans
}

// joined grows a span over the next one where join, asked for that and the span just before it, says so.
func joined(spans []span, join func(s, last span) bool) []span {
	out := spans[:0]
	var last span
	for i, s := range spans {
		if i > 0 && join(s, last) {
			grown := &out[len(out)-1]
			grown.from, grown.to = min(grown.from, s.from), max(grown.to, s.to)
		} else {
			out = append(out, s)
		}
		last = s
	}
	return out
}
