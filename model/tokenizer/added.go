package tokenizer

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// addedTokens are found in the text before the model sees it: those that match the text as it is, then those
// that match it normalized.
type addedTokens struct {
	ids     map[string]int32 // by content
	tokens  map[int32]string // what Decode sees
	special map[string]bool

	raw, normalized finder
}

func newAdded(list []addedFile, vocab map[string]int32, normalize normalizer) (*addedTokens, error) {
	a := &addedTokens{ids: map[string]int32{}, tokens: map[int32]string{}, special: map[string]bool{}}
	kept := map[int32]addedFile{}
	next := int32(len(vocab))
	for i, f := range list {
		if f.Content == "" {
			continue
		}
		if len(f.Content) > maxAdded {
			return nil, fmt.Errorf("added_tokens[%d].content: %d bytes are more than %d", i, len(f.Content), maxAdded)
		}
		// The reference gives a token that the vocabulary lacks the next free id, whatever the file says.
		want, known := vocab[f.Content]
		if !known {
			if want, known = a.ids[f.Content]; !known {
				want, next = next, next+1
			}
		}
		if f.ID != want {
			return nil, fmt.Errorf("added_tokens[%d].id: %q has %d, by the vocabulary it is %d", i, f.Content, f.ID, want)
		}
		a.ids[f.Content] = f.ID
		if f.Special {
			a.special[f.Content] = true
		}
		kept[f.ID] = f
	}
	for id, f := range kept {
		content, in := f.Content, &a.raw
		if f.Normalized {
			in = &a.normalized
			if normalize != nil {
				content = normalize(content)
			}
		}
		a.tokens[id] = content
		if content != "" {
			in.add(content, id, f)
		}
	}
	return a, nil
}

// A finder is a byte trie of tokens. Its root is a table, because the search asks it at every byte.
type finder struct {
	root [256]*trie
	any  bool
}

type trie struct {
	next  map[byte]*trie
	token *addedFile // nil: no token ends here
	id    int32
}

func (f *finder) add(content string, id int32, token addedFile) {
	n := f.root[content[0]]
	if n == nil {
		n = &trie{}
		f.root[content[0]], f.any = n, true
	}
	for i := 1; i < len(content); i++ {
		if n.next == nil {
			n.next = map[byte]*trie{}
		}
		if n.next[content[i]] == nil {
			n.next[content[i]] = &trie{}
		}
		n = n.next[content[i]]
	}
	if n.token == nil || id < n.id { // two tokens may have one normalized form
		n.token, n.id = &token, id
	}
}

// longest finds the longest token at the start of s, which is not empty.
func (f *finder) longest(s string) (hit *trie, length int) {
	n := f.root[s[0]]
	for i := 1; n != nil; i++ {
		if n.token != nil {
			hit, length = n, i
		}
		if i == len(s) {
			break
		}
		n = n.next[s[i]]
	}
	return hit, length
}

// A part of a text is one added token or, with id -1, text between them; start tells that it is where the
// text starts.
type part struct {
	text  string
	id    int32
	start bool
}

// cut returns the parts of s: the leftmost token first and of those the longest.
func (f *finder) cut(s string) []part {
	var parts []part
	done := 0 // s[:done] is in parts
	text := func(to int) {
		if done < to {
			parts = append(parts, part{s[done:to], -1, done == 0})
		}
	}
	if f.any {
		for i := 0; i < len(s); {
			hit, length := f.longest(s[i:])
			if hit == nil {
				i++
				continue
			}
			from, to := i, i+length
			i = to
			if hit.token.SingleWord && (endsWord(s[:from]) || startsWord(s[to:])) {
				continue
			}
			if hit.token.Lstrip && from > done {
				from = done + len(strings.TrimRightFunc(s[done:from], unicode.IsSpace))
			}
			if hit.token.Rstrip {
				to = len(s) - len(strings.TrimLeftFunc(s[to:], unicode.IsSpace))
			}
			text(from)
			parts = append(parts, part{id: hit.id})
			done = to
		}
	}
	text(len(s))
	return parts
}

func endsWord(s string) bool {
	r, _ := utf8.DecodeLastRuneInString(s)
	return s != "" && isWord(r)
}

func startsWord(s string) bool {
	r, _ := utf8.DecodeRuneInString(s)
	return s != "" && isWord(r)
}

// isWord is \w of UTS 18, as Rust's regex has it.
func isWord(r rune) bool {
	return unicode.In(r, unicode.L, unicode.M, unicode.Nd, unicode.Nl, unicode.Pc, unicode.Other_Alphabetic, unicode.Join_Control)
}
