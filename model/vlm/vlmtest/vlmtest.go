// Package vlmtest writes the folders of small vision-language models for tests. The graphs are the tests' own.
package vlmtest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// Specials are the tokens behind those of the 256 bytes.
var Specials = []string{"<pad>", "<bos>", "<eos>", "<image>", "<user>", "<system>", "<answer>"}

// Template is the chat template: system and user parts in order, a place for each picture.
const Template = `<bos>{% for m in messages %}{{ '<user>' if m['role'] == 'user' else '<system>' }}` +
	`{% for p in m['content'] %}{% if p['type'] == 'image' %}<image>{% else %}{{ p['text'] }}{% endif %}{% endfor %}{% endfor %}` +
	`{% if add_generation_prompt %}<answer>{% endif %}`

// Files are those of a folder by their names: bytes and text as they are, all else as JSON. One that is nil is left out.
type Files map[string]any

// New are the files beside the graphs, of a model of so many positions that sees pictures of side x side pixels.
func New(positions, side int) Files {
	return Files{
		"config.json":            map[string]any{"text_config": map[string]any{"max_position_embeddings": positions}},
		"generation_config.json": map[string]any{"eos_token_id": []int{258}},
		"tokenizer.json":         Tokenizer(),
		"tokenizer_config.json":  map[string]any{"bos_token": "<bos>", "eos_token": map[string]any{"content": "<eos>"}, "chat_template": Template},
		"preprocessor_config.json": map[string]any{
			"size": map[string]int{"height": side, "width": side}, "resample": 3, "rescale_factor": 1. / 255,
			"image_mean": []float64{.5, .5, .5}, "image_std": []float64{.25, .25, .25},
		},
		"processor_config.json": map[string]any{"image_token": "<image>", "prompt_padding": map[string]any{"token": "<pad>", "multiple": 16, "side": "left"}},
	}
}

// Write writes the files to a temporary folder and returns its path.
func (f Files) Write(tb testing.TB) string {
	tb.Helper()
	dir := tb.TempDir()
	for name, content := range f {
		var data []byte
		switch c := content.(type) {
		case nil:
			continue
		case []byte:
			data = c
		case string:
			data = []byte(c)
		default:
			var err error
			if data, err = json.Marshal(content); err != nil {
				tb.Fatal(err)
			}
		}
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			tb.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			tb.Fatal(err)
		}
	}
	return dir
}

// Tokenizer is a tokenizer.json with a token for each byte and, behind them, Specials and more.
func Tokenizer(more ...string) map[string]any {
	vocab := map[string]int{}
	next := 0
	for b := range 256 {
		r := rune(b)
		if b < '!' || b > '~' && b < 0xa1 || b == 0xad { // GPT-2's alphabet moves what is not printed
			r = rune(256 + next)
			next++
		}
		vocab[string(r)] = b
	}
	var added []map[string]any
	for i, s := range slices.Concat(Specials, more) {
		added = append(added, map[string]any{"id": 256 + i, "content": s, "special": true, "normalized": false, "single_word": false, "lstrip": false, "rstrip": false})
	}
	return map[string]any{
		"version": "1.0", "added_tokens": added,
		"pre_tokenizer": map[string]any{"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
		"decoder":       map[string]any{"type": "ByteLevel"},
		"model":         map[string]any{"type": "BPE", "vocab": vocab, "merges": []string{}},
	}
}
