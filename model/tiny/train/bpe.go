package train

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Vocabulary is how many tokens the tiny models know.
const Vocabulary = 2048

// Special are the tokens that no text has, in the order of their ids from 0.
var Special = []string{
	"<pad>", "<bos>", "<eos>", "<rewrite>", "<eval>", "<judge>", "<aesthetic>", "<pick>", "<alignment>", "<ans>", "<sep>", "<image>",
}

// BPE is a byte-level byte-pair encoding: tokens by id, and the merges in the order in which they were found. It encodes
// every text, because each of the 256 bytes is a token.
type BPE struct {
	Tokens []string
	Merges [][2]string
}

// A Weighted text counts as often as Weight says.
type Weighted struct {
	Text   string
	Weight int
}

// TrainBPE finds the tokens of lower-cased texts: as long as there are fewer than size, the most frequent pair of
// neighbours within a word becomes one; of equally frequent ones the first by its letters (Sennrich et al. 2016, over
// the bytes and words of GPT-2).
func TrainBPE(texts []Weighted, size int) (*BPE, error) {
	b := &BPE{Tokens: slices.Clone(Special)}
	alphabet := byteAlphabet()
	for _, r := range alphabet {
		b.Tokens = append(b.Tokens, string(r))
	}
	if size < len(b.Tokens) {
		return nil, fmt.Errorf("a vocabulary of %d tokens: the special ones and the bytes are %d", size, len(b.Tokens))
	}
	counts := newPairs(texts, alphabet)
	for len(b.Tokens) < size {
		best, ok := counts.most()
		if !ok {
			return nil, fmt.Errorf("a vocabulary of %d tokens: the texts give only %d; more text is needed", size, len(b.Tokens))
		}
		b.Merges = append(b.Merges, best)
		b.Tokens = append(b.Tokens, best[0]+best[1])
		counts.merge(best)
	}
	return b, nil
}

type pair = [2]string

// spelling is a word as the tokens that it is made of so far, and how often it occurs.
type spelling struct {
	tokens []string
	count  int
}

// pairs counts neighbours, and knows the words that have them.
type pairs struct {
	words []spelling
	list  []*counted
	index map[pair]*counted
}

type counted struct {
	pair
	count int
	words map[int]bool
}

// piece is GPT-2's pattern but for runs of white space before a word, of which training texts have none.
var piece = regexp.MustCompile(`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+`)

func newPairs(texts []Weighted, alphabet [256]rune) *pairs {
	p := &pairs{index: map[pair]*counted{}}
	index := map[string]int{}
	for _, t := range texts {
		for _, w := range piece.FindAllString(" "+strings.ToLower(t.Text), -1) {
			i, ok := index[w]
			if !ok {
				i = len(p.words)
				index[w] = i
				var s spelling
				for j := range len(w) {
					s.tokens = append(s.tokens, string(alphabet[w[j]]))
				}
				p.words = append(p.words, s)
			}
			p.words[i].count += t.Weight
		}
	}
	for i := range p.words {
		p.add(i, 1)
	}
	return p
}

// add counts the neighbours of word i, sign times.
func (p *pairs) add(i, sign int) {
	w := &p.words[i]
	for j := 1; j < len(w.tokens); j++ {
		k := pair{w.tokens[j-1], w.tokens[j]}
		c := p.index[k]
		if c == nil {
			c = &counted{pair: k, words: map[int]bool{}}
			p.index[k] = c
			p.list = append(p.list, c)
		}
		c.count += sign * w.count
		c.words[i] = true
	}
}

func (p *pairs) most() (best pair, ok bool) {
	most := 0
	for _, c := range p.list {
		if c.count > most || c.count == most && most > 0 && slices.Compare(c.pair[:], best[:]) < 0 {
			best, most = c.pair, c.count
		}
	}
	return best, most > 0
}

// merge makes one token of k wherever it stands. Words that once had it but no more are looked at for nothing.
func (p *pairs) merge(k pair) {
	for i := range p.index[k].words {
		p.add(i, -1)
		w := &p.words[i]
		merged := w.tokens[:0]
		for j := 0; j < len(w.tokens); j++ {
			if j+1 < len(w.tokens) && w.tokens[j] == k[0] && w.tokens[j+1] == k[1] {
				merged = append(merged, k[0]+k[1])
				j++
			} else {
				merged = append(merged, w.tokens[j])
			}
		}
		w.tokens = merged
		p.add(i, 1)
	}
}

// byteAlphabet spells each byte as one printable character: encoder.py of GPT-2.
func byteAlphabet() (chars [256]rune) {
	next := rune(256)
	for b := range chars {
		chars[b] = rune(b)
		if b < '!' || b > '~' && b < 0xA1 || b == 0xAD {
			chars[b] = next
			next++
		}
	}
	return chars
}

// Use says what a tokenizer.json does around the tokens.
type Use int

// The uses of the vocabulary.
const (
	// ForChat lower-cases text; what stands around it is the chat template's.
	ForChat Use = iota
	// ForPictures brings text into the world's alphabet as scene.Normalize does, puts <bos> before it and fills it with <eos>
	// to TextLength ids.
	ForPictures
)

// JSON is the tokenizer as Hugging Face's tokenizers library reads it.
func (b *BPE) JSON(use Use) ([]byte, error) {
	type object = map[string]any
	vocab := map[string]int{}
	for i, t := range b.Tokens {
		vocab[t] = i
	}
	var added []object
	for i, t := range Special {
		added = append(added, object{
			"id": i, "content": t, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true,
		})
	}
	file := object{
		"version": "1.0", "truncation": nil, "padding": nil, "added_tokens": added,
		"normalizer":     object{"type": "Lowercase"},
		"pre_tokenizer":  object{"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
		"post_processor": nil,
		"decoder":        object{"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
		"model": object{
			"type": "BPE", "dropout": nil, "unk_token": nil, "continuing_subword_prefix": nil, "end_of_word_suffix": nil,
			"fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": vocab, "merges": b.Merges,
		},
	}
	if use == ForPictures {
		replace := func(pattern, with string) object {
			return object{"type": "Replace", "pattern": object{"Regex": pattern}, "content": with}
		}
		special := func(token string) object { return object{"SpecialToken": object{"id": token, "type_id": 0}} }
		named := func(token string) object {
			return object{"id": token, "ids": []int{vocab[token]}, "tokens": []string{token}}
		}
		file["normalizer"] = object{"type": "Sequence", "normalizers": []object{
			{"type": "Lowercase"},
			replace(`[^a-z0-9,.\- ]`, " "),
			replace(`(?<=\b[0-9]) (?=k\b)`, ""),
			replace(`(?<=\b[0-9])[- ]+(?=d\b)`, ""),
			replace(` *, *`, ", "),
			replace(` +`, " "),
			{"type": "Strip", "strip_left": true, "strip_right": true},
		}}
		file["truncation"] = object{"direction": "Right", "max_length": TextLength, "strategy": "LongestFirst", "stride": 0}
		file["padding"] = object{
			"strategy": object{"Fixed": TextLength}, "direction": "Right", "pad_to_multiple_of": nil,
			"pad_id": vocab["<eos>"], "pad_type_id": 0, "pad_token": "<eos>",
		}
		file["post_processor"] = object{
			"type":           "TemplateProcessing",
			"single":         []object{special("<bos>"), {"Sequence": object{"id": "A", "type_id": 0}}, special("<eos>")},
			"pair":           []object{{"Sequence": object{"id": "A", "type_id": 0}}, {"Sequence": object{"id": "B", "type_id": 1}}},
			"special_tokens": object{"<bos>": named("<bos>"), "<eos>": named("<eos>")},
		}
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(file); err != nil {
		return nil, fmt.Errorf("write a tokenizer: %w", err)
	}
	return out.Bytes(), nil
}
