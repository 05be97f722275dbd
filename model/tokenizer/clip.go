package tokenizer

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
)

// clipPattern is OpenAI's, from clip/simple_tokenizer.py, as Hugging Face's CLIPConverter writes it.
const clipPattern = `<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+`

// readClip reads vocab.json and merges.txt as the tokenizer.json that CLIPConverter would make of them, but for
// the cleaning of CLIPTokenizer, which is what reads such folders for diffusers: controls go and ideographs
// stand alone. The two special tokens match the text as it is; Decode sets the words apart by spaces.
func readClip(folder string, s side) (*tokenizerFile, error) {
	m := &modelFile{Type: "BPE", EndOfWordSuffix: "</w>"}
	if err := readJSON(filepath.Join(folder, "vocab.json"), &m.Vocab); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("tokenizer: %s has neither tokenizer.json nor vocab.json: is it the model's tokenizer folder?", folder)
		}
		return nil, err
	}
	name := filepath.Join(folder, "merges.txt")
	lines, err := readFile(name)
	if err != nil {
		return nil, err
	}
	for i, line := range strings.Split(strings.TrimSpace(string(lines)), "\n") {
		line = strings.TrimSuffix(line, "\r")
		if line == "" || strings.HasPrefix(line, "#version") || i == 0 && strings.Contains(line, "#version") {
			continue
		}
		left, right, ok := strings.Cut(line, " ")
		if !ok || strings.Contains(right, " ") {
			return nil, fmt.Errorf("tokenizer: %s: line %d: %.80q is not a pair of tokens", name, i+1, line)
		}
		m.Merges = append(m.Merges, mergeFile{left, right})
	}
	bos, eos := cmp.Or(string(s.Bos), "<|startoftext|>"), cmp.Or(string(s.Eos), "<|endoftext|>")
	_, hasBos := m.Vocab[bos]
	eosID, hasEos := m.Vocab[eos]
	if s.Class != "" && !strings.HasPrefix(s.Class, "CLIPTokenizer") || !hasBos || !hasEos {
		return nil, fmt.Errorf("tokenizer: %s: vocab.json and merges.txt are read for CLIP only, which has the tokens %s and %s "+
			"(tokenizer_class is %q): make a tokenizer.json with AutoTokenizer.from_pretrained(...).save_pretrained(...)",
			folder, bos, eos, s.Class)
	}
	m.UnkToken = cmp.Or(string(s.Unk), eos)
	f := clipFile(m, bos, eos)
	if s.Pad == "" {
		f.Padding = &paddingFile{PadID: eosID}
	}
	if s.ModelMaxLength == 0 {
		f.Truncation = &truncationFile{MaxLength: 77} // the positions of every published CLIP
	}
	return f, nil
}

// clipFile puts the steps of CLIPConverter around the model.
func clipFile(m *modelFile, bos, eos string) *tokenizerFile {
	no, space, spaces, suffix, pattern := false, " ", `\s+`, m.EndOfWordSuffix, clipPattern
	bosID, eosID := m.Vocab[bos], m.Vocab[eos]
	return &tokenizerFile{
		Model: m,
		AddedTokens: []addedFile{
			{ID: bosID, Content: bos, Special: true},
			{ID: eosID, Content: eos, Special: true},
		},
		Normalizer: &node{Type: "Sequence", Normalizers: []node{
			{Type: "BertNormalizer", CleanText: true, HandleChineseChars: true, StripAccents: &no},
			{Type: "NFC"},
			{Type: "Replace", Pattern: patternFile{Regex: &spaces}, Content: space},
			{Type: "Lowercase"},
		}},
		PreTokenizer: &node{Type: "Sequence", Pretokenizers: []node{
			{Type: "Split", Pattern: patternFile{Regex: &pattern}, Behavior: "Removed", Invert: true},
			{Type: "ByteLevel"},
		}},
		PostProcessor: &node{Type: "RobertaProcessing", Sep: tokenAndID{eosID, true}, Cls: tokenAndID{bosID, true}},
		Decoder: &node{Type: "Sequence", Decoders: []node{
			{Type: "ByteLevel"},
			{Type: "Replace", Pattern: patternFile{String: &suffix}, Content: space},
			{Type: "Strip", Content: space, Stop: 1},
		}},
	}
}
