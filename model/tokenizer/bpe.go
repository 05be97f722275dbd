package tokenizer

import (
	"fmt"
	"strings"
	"sync"
	"unicode/utf8"
)

// bpe is byte-pair encoding of one word at a time.
type bpe struct {
	vocab        map[string]int32
	tokens       map[int32]string
	merges       map[pair]merge
	prefix       string // of every symbol but the first of a word
	suffix       string // of the last symbol of a word
	unknown      int32  // -1: characters that are not in the vocabulary are left out
	fuseUnknown  bool
	bytes        *[256]int32 // byte fallback; nil: none. -1: the byte has no token
	ignoreMerges bool
	cache        wordCache
}

type pair struct{ left, right int32 }

// A merge joins a pair; the least rank goes first.
type merge struct{ rank, id int32 }

func newBPE(f *modelFile, added []addedFile) (*bpe, error) {
	if f.Type != "BPE" && (f.Type != "" || f.Merges == nil) {
		return nil, fmt.Errorf("model.type: %q is not supported, only BPE is", f.Type)
	}
	if f.Dropout != 0 {
		return nil, fmt.Errorf("model.dropout: %v would make encoding random: set it to null", f.Dropout)
	}
	if len(f.Vocab) == 0 {
		return nil, fmt.Errorf("model.vocab: missing or empty")
	}
	m := &bpe{
		vocab: f.Vocab, tokens: make(map[int32]string, len(f.Vocab)), merges: make(map[pair]merge, len(f.Merges)),
		prefix: f.ContinuingSubwordPrefix, suffix: f.EndOfWordSuffix, unknown: -1,
		fuseUnknown: f.FuseUnk, ignoreMerges: f.IgnoreMerges,
	}
	for token, id := range f.Vocab {
		if id < 0 || id > maxID {
			return nil, fmt.Errorf("model.vocab: id %d of %q is not in 0..%d", id, token, maxID)
		}
		if other, taken := m.tokens[id]; taken {
			first, second := min(token, other), max(token, other)
			return nil, fmt.Errorf("model.vocab: %q and %q share the id %d", first, second, id)
		}
		m.tokens[id] = token
	}
	for i, p := range f.Merges {
		if err := m.addMerge(int32(i), p); err != nil {
			return nil, fmt.Errorf("model.merges[%d]: %w", i, err)
		}
	}
	if f.UnkToken != "" {
		id, ok := f.Vocab[f.UnkToken]
		for _, a := range added {
			if !ok && a.Content == f.UnkToken {
				id, ok = a.ID, true
			}
		}
		if !ok {
			return nil, fmt.Errorf("model.unk_token: %q is not in model.vocab", f.UnkToken)
		}
		m.unknown = id
	}
	if f.ByteFallback {
		m.bytes = new([256]int32)
		for b := range m.bytes {
			id, ok := f.Vocab[fmt.Sprintf("<0x%02X>", b)]
			if !ok {
				id = -1
			}
			m.bytes[b] = id
		}
	}
	return m, nil
}

func (m *bpe) addMerge(rank int32, p mergeFile) error {
	left, ok := m.vocab[p[0]]
	if !ok {
		return fmt.Errorf("%q is not in model.vocab", p[0])
	}
	right, ok := m.vocab[p[1]]
	if !ok {
		return fmt.Errorf("%q is not in model.vocab", p[1])
	}
	rest, ok := strings.CutPrefix(p[1], m.prefix)
	if !ok {
		return fmt.Errorf("%q does not begin with model.continuing_subword_prefix %q", p[1], m.prefix)
	}
	id, ok := m.vocab[p[0]+rest]
	if !ok {
		return fmt.Errorf("%q, which it makes, is not in model.vocab", p[0]+rest)
	}
	m.merges[pair{left, right}] = merge{rank, id}
	return nil
}

// encode appends the ids of one word.
func (m *bpe) encode(w string, ids []int32) []int32 {
	if m.ignoreMerges {
		if id, ok := m.vocab[w]; ok {
			return append(ids, id)
		}
	}
	if known, ok := m.cache.get(w); ok {
		return append(ids, known...)
	}
	from := len(ids)
	ids = merged(m.symbols(w), m.merges, ids)
	m.cache.put(w, ids[from:])
	return ids
}

// symbols are the ids of the characters of w, before any merge.
func (m *bpe) symbols(w string) []int32 {
	out := make([]int32, 0, len(w))
	unknown := false // an unknown character waits: fuse_unk joins it with the next
	flush := func() {
		if unknown {
			out, unknown = append(out, m.unknown), false
		}
	}
	for i, r := range w {
		end := i + utf8.RuneLen(r)
		c := w[i:end]
		if i > 0 && m.prefix != "" {
			c = m.prefix + c
		}
		if end == len(w) && m.suffix != "" {
			c += m.suffix
		}
		if id, ok := m.vocab[c]; ok {
			flush()
			out = append(out, id)
			continue
		}
		if n := len(out); m.bytes != nil {
			for j := 0; j < len(c) && m.bytes[c[j]] >= 0; j++ {
				out = append(out, m.bytes[c[j]])
			}
			if len(out) == n+len(c) {
				continue // a waiting unknown stays waiting: so does the reference
			}
			out = out[:n]
		}
		if m.unknown >= 0 {
			if !m.fuseUnknown {
				flush()
			}
			unknown = true
		}
	}
	flush()
	return out
}

// wordCache remembers short words: texts repeat them. Its size is bounded: 1<<15 words of at most 64 bytes,
// emptied when full.
type wordCache struct {
	mu    sync.RWMutex
	words map[string][]int32
}

func (c *wordCache) get(w string) ([]int32, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	ids, ok := c.words[w]
	return ids, ok
}

func (c *wordCache) put(w string, ids []int32) {
	if len(w) > 64 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.words == nil || len(c.words) >= 1<<15 {
		c.words = make(map[string][]int32)
	}
	// Clones: w may be a part of a long text, ids of a long answer.
	c.words[strings.Clone(w)] = append([]int32(nil), ids...)
}
