package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
)

// Open reads a tokenizer: a tokenizer.json, or a folder that has one, or the vocab.json and merges.txt of a
// CLIP tokenizer. A folder's tokenizer_config.json and special_tokens_map.json, where they are, say the longest
// length and the padding token. A file that is broken, or asks for something unknown, is an error that names
// the file and the field.
func Open(path string) (*Tokenizer, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	folder, file := filepath.Dir(path), path
	if info.IsDir() {
		folder, file = path, filepath.Join(path, "tokenizer.json")
	}
	side, err := readSide(folder)
	if err != nil {
		return nil, err
	}
	f := new(tokenizerFile)
	err = readJSON(file, f)
	if info.IsDir() && errors.Is(err, fs.ErrNotExist) {
		file = folder
		f, err = readClip(folder, side)
	}
	if err != nil {
		return nil, err
	}
	t, err := build(f)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %s: %w", file, err)
	}
	if err := side.limit(t, f); err != nil {
		return nil, fmt.Errorf("tokenizer: %s: %w", folder, err)
	}
	return t, nil
}

// build makes the tokenizer that f describes. Its errors name the field.
func build(f *tokenizerFile) (*Tokenizer, error) {
	if f.Version != "" && f.Version != "1.0" {
		return nil, fmt.Errorf("version: %q is not supported, only 1.0 is", f.Version)
	}
	if f.Model == nil {
		return nil, errors.New("model: missing: is this a tokenizer.json?")
	}
	t := &Tokenizer{limits: Limits{PadID: -1}}
	var err error
	if t.normalize, err = newNormalizer(f.Normalizer, "normalizer"); err != nil {
		return nil, err
	}
	if t.split, err = newSplitters(f.PreTokenizer, "pre_tokenizer"); err != nil {
		return nil, err
	}
	if t.finish, err = newTemplates(f.PostProcessor, "post_processor"); err != nil {
		return nil, err
	}
	if t.decode, err = newDecoders(f.Decoder, "decoder"); err != nil {
		return nil, err
	}
	if t.model, err = newBPE(f.Model, f.AddedTokens); err != nil {
		return nil, err
	}
	if t.added, err = newAdded(f.AddedTokens, t.model.vocab, t.normalize); err != nil {
		return nil, err
	}
	for id := range t.model.tokens {
		t.vocab = max(t.vocab, int(id)+1)
	}
	for id := range t.added.tokens {
		t.vocab = max(t.vocab, int(id)+1)
	}
	for _, finish := range t.finish {
		for _, part := range finish {
			for _, id := range part {
				if id < 0 || int(id) >= t.vocab {
					return nil, fmt.Errorf("post_processor: no token has the id %d", id)
				}
			}
		}
	}
	return t, t.readLimits(f)
}

func (t *Tokenizer) readLimits(f *tokenizerFile) error {
	if c := f.Truncation; c != nil {
		if c.MaxLength < 0 || c.MaxLength > math.MaxInt32 {
			return fmt.Errorf("truncation.max_length: %d is not in 0..%d", c.MaxLength, math.MaxInt32)
		}
		t.limits.MaxLength, t.limits.TruncateLeft = c.MaxLength, c.Direction == "Left"
	}
	if p := f.Padding; p != nil {
		if p.PadID < 0 || int(p.PadID) >= t.vocab {
			return fmt.Errorf("padding.pad_id: no token has the id %d", p.PadID)
		}
		t.limits.PadID, t.limits.PadLeft = p.PadID, p.Direction == "Left"
	}
	return nil
}

// side is what the files beside tokenizer.json say.
type side struct {
	Class          string    `json:"tokenizer_class"`
	ModelMaxLength float64   `json:"model_max_length"` // published files have 1e30 for none
	PaddingSide    string    `json:"padding_side"`
	TruncationSide string    `json:"truncation_side"`
	Pad            tokenName `json:"pad_token"`
	Bos            tokenName `json:"bos_token"`
	Eos            tokenName `json:"eos_token"`
	Unk            tokenName `json:"unk_token"`
}

// tokenName is "<pad>", or {"content": "<pad>", ...}, or null.
type tokenName string

func (n *tokenName) UnmarshalJSON(b []byte) error {
	var object struct{ Content string }
	switch {
	case json.Unmarshal(b, (*string)(n)) == nil:
	case json.Unmarshal(b, &object) == nil:
		*n = tokenName(object.Content)
	default:
		return fmt.Errorf("%.80s is not a token: it must be a string or an object with content", b)
	}
	return nil
}

func readSide(folder string) (side, error) {
	var s side
	// The map is the older of the two: the configuration goes over it.
	for _, name := range []string{"special_tokens_map.json", "tokenizer_config.json"} {
		err := readJSON(filepath.Join(folder, name), &s)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return side{}, err
		}
	}
	return s, nil
}

// limit adds to t's limits what tokenizer.json left open.
func (s side) limit(t *Tokenizer, f *tokenizerFile) error {
	if f.Truncation == nil {
		if n := s.ModelMaxLength; n >= 1 && n < math.MaxInt32 {
			t.limits.MaxLength = int(n)
		}
		t.limits.TruncateLeft = s.TruncationSide == "left"
	}
	if f.Padding == nil {
		t.limits.PadLeft = s.PaddingSide == "left"
		if s.Pad != "" {
			id, ok := t.ID(string(s.Pad))
			if !ok {
				return fmt.Errorf("tokenizer_config.json: pad_token: %q is not in the vocabulary", s.Pad)
			}
			t.limits.PadID = id
		}
	}
	return nil
}
