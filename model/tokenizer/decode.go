package tokenizer

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A decoder turns tokens into the parts of a text.
type decoder func([]string) []string

// newDecoders flattens sequences.
func newDecoders(n *node, at string) ([]decoder, error) {
	if n == nil {
		return nil, nil
	}
	if n.Type == "Sequence" {
		all := []decoder{}
		for i := range n.Decoders {
			f, err := newDecoders(&n.Decoders[i], fmt.Sprintf("%s.decoders[%d]", at, i))
			if err != nil {
				return nil, err
			}
			all = append(all, f...)
		}
		return all, nil
	}
	f, err := newDecoder(n, at)
	return []decoder{f}, err
}

func newDecoder(n *node, at string) (decoder, error) {
	switch n.Type {
	case "ByteLevel":
		return decodeByteLevel, nil
	case "ByteFallback":
		return decodeByteFallback, nil
	case "Fuse":
		return func(tokens []string) []string { return []string{strings.Join(tokens, "")} }, nil
	case "Replace":
		replace, err := newReplace(n, at)
		return func(tokens []string) []string {
			for i, s := range tokens {
				tokens[i] = replace(s)
			}
			return tokens
		}, err
	case "Strip":
		if utf8.RuneCountInString(n.Content) != 1 {
			return nil, fmt.Errorf("%s.content: %q is not one character", at, n.Content)
		}
		return func(tokens []string) []string {
			for i, s := range tokens {
				tokens[i] = strip(s, n.Content, n.Start, n.Stop)
			}
			return tokens
		}, nil
	case "Metaspace":
		mark, scheme, err := metaspace(n, at)
		return func(tokens []string) []string {
			for i, s := range tokens {
				space := " "
				if i == 0 && scheme != "never" {
					space = ""
				}
				tokens[i] = strings.ReplaceAll(s, mark, space)
			}
			return tokens
		}, err
	case "BPEDecoder":
		if n.Suffix == "" {
			return nil, fmt.Errorf("%s.suffix: missing or empty", at)
		}
		return func(tokens []string) []string {
			for i, s := range tokens {
				space := " "
				if i == len(tokens)-1 {
					space = ""
				}
				tokens[i] = strings.ReplaceAll(s, n.Suffix, space)
			}
			return tokens
		}, nil
	}
	return nil, fmt.Errorf("%s.type: %q is not supported: Sequence, ByteLevel, ByteFallback, Fuse, Replace, Strip, Metaspace "+
		"and BPEDecoder are", at, n.Type)
}

// decodeByteLevel joins the tokens: a character may be spread over several. A token with a character that
// spells no byte is text as it is.
func decodeByteLevel(tokens []string) []string {
	var all []byte
	for _, s := range tokens {
		from := len(all)
		for _, r := range s {
			b, ok := charBytes[r]
			if !ok {
				all = append(all[:from], s...)
				break
			}
			all = append(all, b)
		}
	}
	return []string{lossy(all)}
}

// decodeByteFallback joins runs of <0x..> tokens to text; a run that is no UTF-8 becomes a U+FFFD for each.
func decodeByteFallback(tokens []string) []string {
	var out []string
	var run []byte
	flush := func() {
		switch {
		case utf8.Valid(run):
			if len(run) > 0 {
				out = append(out, string(run))
			}
		default:
			for range run {
				out = append(out, "\uFFFD")
			}
		}
		run = run[:0]
	}
	for _, s := range tokens {
		if len(s) == 6 && strings.HasPrefix(s, "<0x") && s[5] == '>' {
			if b, err := strconv.ParseUint(s[3:5], 16, 8); err == nil {
				run = append(run, byte(b))
				continue
			}
		}
		flush()
		out = append(out, s)
	}
	flush()
	return out
}

// strip takes up to start copies of c off the front of s and up to stop off its end.
func strip(s, c string, start, stop int) string {
	for ; start > 0 && strings.HasPrefix(s, c); start-- {
		s = s[len(c):]
	}
	for ; stop > 0 && strings.HasSuffix(s, c); stop-- {
		s = s[:len(s)-len(c)]
	}
	return s
}
