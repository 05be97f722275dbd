// Package tokenizer reads the tokenizers of published models and turns text into ids and back. In go a
// tokenizer.json of Hugging Face's tokenizers library, or the vocab.json and merges.txt of a CLIP folder;
// out come the ids that library gives.
//
// # Design
//
// The model is byte-pair encoding in its three dialects: byte-level (GPT-2, Qwen, Llama 3), byte-level with
// an end-of-word suffix (CLIP), and characters with byte fallback (Llama 2, Gemma). The steps around it
// follow the file: added tokens, normalizer, pre-tokenizer, post-processor, decoder. Whatever the file asks
// for that this package does not know is an error of Open that names the file and the field, never a
// different answer. The reference is tokenizers 0.23; the tests hold ids that it made.
//
// Known differences: characters newer than Unicode 15 (Go's tables; the reference has 16), and for a CLIP
// folder, where transformers' slow CLIPTokenizer without ftfy is the reference, the final sigma and the long s
// in contractions. With ftfy, which mends broken encodings, that class can give other ids.
//
// Encode gives all the ids of a text: the truncation and padding of the files are read (Limits) but only
// Window applies them, because a count of tokens must not stop at a limit.
package tokenizer

import "strings"

// A Tokenizer turns text into ids and ids into text. It is safe for concurrent use.
type Tokenizer struct {
	added     *addedTokens
	normalize normalizer // nil: none
	split     []splitter
	model     *bpe
	finish    []template
	decode    []decoder // nil: tokens are joined by spaces
	limits    Limits
	vocab     int
}

// Limits are the lengths and the padding that the files ask for. Window applies them.
type Limits struct {
	// MaxLength is the most ids that a text may have with its special tokens; 0 when no file says.
	MaxLength int
	// TruncateLeft cuts the start of a text that is too long instead of its end.
	TruncateLeft bool
	// PadID fills what is short of the length, after the text or, with PadLeft, before it. It is -1
	// when no file names a padding token.
	PadID   int32
	PadLeft bool
}

// Limits returns what the files say of lengths and padding.
func (t *Tokenizer) Limits() Limits { return t.limits }

// Vocab is one more than the largest id: the least number of rows that an embedding must have.
func (t *Tokenizer) Vocab() int { return t.vocab }

// ID returns the id of one token as the file spells it ("<|im_end|>", "Ġcat").
func (t *Tokenizer) ID(token string) (int32, bool) {
	if id, ok := t.added.ids[token]; ok {
		return id, true
	}
	id, ok := t.model.vocab[token]
	return id, ok
}

// Encode returns the ids of text, with those that the post-processor adds (begin, end) if special is set.
// Special tokens spelled out in text become their ids in either case, as in the reference library. Bytes that
// are not UTF-8 count as U+FFFD.
func (t *Tokenizer) Encode(text string, special bool) []int32 {
	ids := t.encode(text)
	for _, f := range t.finish {
		ids = f.apply(ids, special)
	}
	return ids
}

// Count is the number of ids of text without those that the post-processor adds.
func (t *Tokenizer) Count(text string) int { return len(t.encode(text)) }

// Window encodes text with its special tokens to exactly n ids, as text encoders of fixed length take them.
// What is too long is cut so that the special tokens stay; what is short is padded. mask is 1 for the ids of
// the text and 0 for padding. n 0 means Limits().MaxLength; with no limit the ids are returned as they are.
// Padding without a padding token uses id 0, which a mask hides.
func (t *Tokenizer) Window(text string, n int) (ids, mask []int32) {
	ids = t.encode(text)
	if n <= 0 {
		n = t.limits.MaxLength
	}
	if n > 0 {
		room := n
		for _, f := range t.finish {
			room -= f.adds()
		}
		ids = t.limits.cut(ids, max(room, 0))
	}
	for _, f := range t.finish {
		ids = f.apply(ids, true)
	}
	if n > 0 {
		ids = t.limits.cut(ids, n) // fewer places than special tokens
	}
	missing := max(n-len(ids), 0)
	padded, mask := make([]int32, len(ids)+missing), make([]int32, len(ids)+missing)
	start := 0
	if t.limits.PadLeft {
		start = missing
	}
	for i := range padded {
		padded[i] = max(t.limits.PadID, 0)
	}
	for i, id := range ids {
		padded[start+i], mask[start+i] = id, 1
	}
	return padded, mask
}

func (l Limits) cut(ids []int32, n int) []int32 {
	switch {
	case len(ids) <= n:
		return ids
	case l.TruncateLeft:
		return ids[len(ids)-n:]
	}
	return ids[:n]
}

// encode is Encode without the post-processor.
func (t *Tokenizer) encode(text string) []int32 {
	var ids []int32
	text = strings.ToValidUTF8(text, "\uFFFD")
	for _, p := range t.added.raw.cut(text) {
		if p.id >= 0 {
			ids = append(ids, p.id)
			continue
		}
		s, start := p.text, p.start
		if t.normalize != nil {
			s = t.normalize(s)
		}
		for _, q := range t.added.normalized.cut(s) {
			if q.id >= 0 {
				ids = append(ids, q.id)
				continue
			}
			words := []word{{q.text, start && q.start}}
			for _, f := range t.split {
				words = f(words)
			}
			for _, w := range words {
				ids = t.model.encode(w.text, ids)
			}
		}
	}
	return ids
}

// Decode returns the text of ids. skipSpecial leaves the special tokens out. Ids that no token has are left
// out; bytes that are no UTF-8, as when a character is cut in two, become U+FFFD.
func (t *Tokenizer) Decode(ids []int32, skipSpecial bool) string {
	tokens := make([]string, 0, len(ids))
	for _, id := range ids {
		token, ok := t.added.tokens[id]
		if !ok {
			token, ok = t.model.tokens[id]
		}
		if !ok || skipSpecial && t.added.special[token] {
			continue
		}
		tokens = append(tokens, token)
	}
	if t.decode == nil {
		return strings.Join(tokens, " ")
	}
	for _, f := range t.decode {
		tokens = f(tokens)
	}
	return strings.Join(tokens, "")
}
