package tokenizer_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/promptmill/promptmill/model/tokenizer"
)

// TestClipFolder reads vocab.json and merges.txt; the ids are those that diffusers and transformers gave the
// text encoder.
func TestClipFolder(t *testing.T) {
	tok := open(t, "clip_folder")
	if want := (tokenizer.Limits{MaxLength: 77, PadID: 1}); tok.Limits() != want {
		t.Errorf("limits %+v, want %+v", tok.Limits(), want)
	}
	var rows []struct {
		Text string
		IDs  []int32 `json:"ids"`
		Mask []int32
	}
	readJSON(t, "clip_window.json", &rows)
	for _, r := range rows {
		for _, n := range []int{0, 77} {
			ids, mask := tok.Window(r.Text, n)
			if !cmp.Equal(ids, r.IDs) {
				t.Errorf("Window(%q, %d) = %v, want %v", r.Text, n, ids, r.IDs)
			}
			if r.Mask != nil && !cmp.Equal(mask, r.Mask) {
				t.Errorf("Window(%q, %d): mask %v, want %v", r.Text, n, mask, r.Mask)
			}
		}
	}
	if got, want := tok.Decode(tok.Encode("A Photo of 2 CATS, it's", true), true), "a photo of 2 cats , it 's"; got != want {
		t.Errorf("decoded %q, want %q", got, want)
	}
	if got := tok.Encode("x", false); !cmp.Equal(got, open(t, "clip_tokenizer.json").Encode("x", false)) {
		t.Errorf("the folder gives %v for x, tokenizer.json does not", got)
	}
}

// TestClipFolderWithoutSettings takes CLIP's own: 77 ids, padded with the end token.
func TestClipFolderWithoutSettings(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"vocab.json", "merges.txt"} {
		copyFile(t, filepath.Join("testdata/clip_folder", name), filepath.Join(dir, name))
	}
	bare, err := tokenizer.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	with := open(t, "clip_folder")
	if bare.Limits() != with.Limits() || !cmp.Equal(bare.Encode("a cat", true), with.Encode("a cat", true)) {
		t.Errorf("limits %+v, want %+v", bare.Limits(), with.Limits())
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestWindow(t *testing.T) {
	model := map[string]any{"type": "BPE", "vocab": map[string]int{"a": 0, "b": 1, "c": 2, "<s>": 3, "</s>": 4, "<p>": 5}, "merges": []string{}}
	post := json.RawMessage(`{"type":"RobertaProcessing","cls":["<s>",3],"sep":["</s>",4]}`)
	right := write(t, map[string]any{
		"model": model, "post_processor": post,
		"truncation": map[string]any{"max_length": 4, "direction": "Right"}, "padding": map[string]any{"pad_id": 5, "direction": "Right"},
	})
	left := write(t, map[string]any{
		"model": model, "post_processor": post,
		"truncation": map[string]any{"max_length": 4, "direction": "Left"}, "padding": map[string]any{"pad_id": 5, "direction": "Left"},
	})
	open := write(t, map[string]any{"model": model})
	for _, c := range []struct {
		tok       *tokenizer.Tokenizer
		text      string
		n         int
		ids, mask []int32
	}{
		{right, "abc", 0, []int32{3, 0, 1, 4}, []int32{1, 1, 1, 1}},
		{right, "abc", 7, []int32{3, 0, 1, 2, 4, 5, 5}, []int32{1, 1, 1, 1, 1, 0, 0}},
		{right, "abc", 2, []int32{3, 4}, []int32{1, 1}},
		{right, "abc", 1, []int32{3}, []int32{1}},
		{right, "", 3, []int32{3, 4, 5}, []int32{1, 1, 0}},
		{left, "abc", 4, []int32{3, 1, 2, 4}, []int32{1, 1, 1, 1}},
		{left, "a", 0, []int32{5, 3, 0, 4}, []int32{0, 1, 1, 1}},
		{open, "abc", 0, []int32{0, 1, 2}, []int32{1, 1, 1}},
		{open, "c", 3, []int32{2, 0, 0}, []int32{1, 0, 0}},
	} {
		ids, mask := c.tok.Window(c.text, c.n)
		if !cmp.Equal(ids, c.ids) || !cmp.Equal(mask, c.mask) {
			t.Errorf("Window(%q, %d) = %v %v, want %v %v", c.text, c.n, ids, mask, c.ids, c.mask)
		}
	}
	if n := right.Count("abcabc"); n != 6 {
		t.Errorf("Count stops at a limit: %d", n)
	}
}

func TestIDs(t *testing.T) {
	tok := open(t, "gemmastyle_tokenizer.json")
	if tok.Vocab() != 1502 {
		t.Errorf("Vocab() = %d, want 1502", tok.Vocab())
	}
	for token, want := range map[string]int32{"<s>": 1, "<start_of_turn>": 1500, "<0x0A>": 13} {
		if id, ok := tok.ID(token); !ok || id != want {
			t.Errorf("ID(%q) = %d, %t, want %d", token, id, ok, want)
		}
	}
	if id, ok := tok.ID("no such token"); ok {
		t.Errorf("there is a token %d", id)
	}
	if got := tok.Decode([]int32{-1, 1 << 30, 1}, true); got != "" {
		t.Errorf("unknown ids decode to %q", got)
	}
}

// TestModel has what no tokenizer above uses: unknown tokens, prefixes and whole words.
func TestModel(t *testing.T) {
	vocab := map[string]int{"<unk>": 0, "a": 1, "b": 2, "##a": 3, "##b": 4, "ab": 5, "aba": 6, "a b": 7, "<0xC3>": 8, "<0xA9>": 9}
	merges := [][2]string{{"a", "##b"}, {"ab", "##a"}}
	for _, c := range []struct {
		name  string
		model map[string]any
		text  string
		want  []int32
	}{
		{"prefix", map[string]any{"continuing_subword_prefix": "##"}, "abab", []int32{6, 4}},
		{"no unknown token", map[string]any{}, "xaxb", []int32{1, 2}},
		{"unknown", map[string]any{"unk_token": "<unk>"}, "xyaz", []int32{0, 0, 1, 0}},
		{"unknown fused", map[string]any{"unk_token": "<unk>", "fuse_unk": true}, "xyaz", []int32{0, 1, 0}},
		{"byte fallback", map[string]any{"unk_token": "<unk>", "byte_fallback": true}, "éx", []int32{8, 9, 0}},
		{"unknown before bytes", map[string]any{"unk_token": "<unk>", "byte_fallback": true}, "xé", []int32{8, 9, 0}}, // as the reference has it
		{"whole words", map[string]any{"ignore_merges": true}, "a b", []int32{7}},
	} {
		m := map[string]any{"type": "BPE", "vocab": vocab, "merges": []string{}}
		if c.name == "prefix" {
			m["merges"] = merges
		}
		for k, v := range c.model {
			m[k] = v
		}
		if got := write(t, map[string]any{"model": m}).Encode(c.text, true); !cmp.Equal(got, c.want) {
			t.Errorf("%s: %q gives %v, want %v", c.name, c.text, got, c.want)
		}
	}
}

// TestLongTexts would take minutes if anything were quadratic.
func TestLongTexts(t *testing.T) {
	const n = 1 << 18
	texts := map[string]string{
		"word": strings.Repeat("a", n), "spaces": strings.Repeat(" ", n) + "x", "lines": strings.Repeat("\n ", n/2) + "x",
		"quotes": strings.Repeat("'", n), "marks": "e" + strings.Repeat("\u0301", n/2), "open": strings.Repeat("<", n),
		"tokens": strings.Repeat("<|endoftext|>", n/13), "images": strings.Repeat("<image> ", n/8),
	}
	for _, name := range []string{"clip", "bytelevel", "qwen2style", "llama2style", "gemmastyle"} {
		tok := open(t, name+"_tokenizer.json")
		for kind, text := range texts {
			start := time.Now()
			if ids := tok.Encode(text, true); len(ids) > len(text)+2 {
				t.Errorf("%s: %d ids of %s", name, len(ids), kind)
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("%s: %d bytes of %s took %v", name, len(text), kind, took)
			}
		}
	}
}

func TestConcurrent(t *testing.T) {
	prompts := committed(t)[:300]
	tok, alone := open(t, "clip_tokenizer.json"), open(t, "clip_tokenizer.json")
	want := make([][]int32, len(prompts))
	for i, p := range prompts {
		want[i] = alone.Encode(p, true)
	}
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for i, p := range prompts {
				if got := tok.Encode(p, true); !cmp.Equal(got, want[i]) {
					t.Errorf("%q gives %v, want %v", p, got, want[i])
				}
				tok.Decode(want[i], true)
			}
		})
	}
	group.Wait()
}

func TestBrokenFiles(t *testing.T) {
	const model = `"model":{"type":"BPE","vocab":{"a":0,"b":1},"merges":[]}`
	for _, c := range []struct{ name, file, want string }{
		{"empty", ``, "line 1"},
		{"cut off", "{\n" + model[:20], "line 2"},
		{"no object", `[]`, "array"},
		{"no model", `{}`, "model: missing"},
		{"version", `{"version":"2.0",` + model + `}`, `version: "2.0"`},
		{"kind", `{"model":{"type":"Unigram"}}`, `model.type: "Unigram"`},
		{"no vocabulary", `{"model":{"type":"BPE"}}`, "model.vocab: missing"},
		{"type of a field", `{"model":{"type":"BPE","vocab":{"a":"x"}}}`, "model.vocab"},
		{"id too large", `{"model":{"type":"BPE","vocab":{"a":2000000000}}}`, "model.vocab: id 2000000000"},
		{"negative id", `{"model":{"type":"BPE","vocab":{"a":-1}}}`, "model.vocab: id -1"},
		{"one id twice", `{"model":{"type":"BPE","vocab":{"a":1,"b":1}}}`, `"a" and "b" share the id 1`},
		{"merge of unknown", `{"model":{"type":"BPE","vocab":{"a":1},"merges":["a c"]}}`, `model.merges[0]: "c"`},
		{"merge to unknown", `{"model":{"type":"BPE","vocab":{"a":1},"merges":[["a","a"]]}}`, `model.merges[0]: "aa"`},
		{"merge of three", `{"model":{"type":"BPE","vocab":{"a":1},"merges":["a a a"]}}`, "model.merges"},
		{"merge of numbers", `{"model":{"type":"BPE","vocab":{"a":1},"merges":[[1,2]]}}`, "model.merges"},
		{"unknown token", `{"model":{"type":"BPE","vocab":{"a":1},"unk_token":"u"}}`, `model.unk_token: "u"`},
		{"dropout", `{"model":{"type":"BPE","vocab":{"a":1},"dropout":0.1}}`, "model.dropout"},
		{"added id", `{"added_tokens":[{"id":7,"content":"a"}],` + model + `}`, "added_tokens[0].id"},
		{"added length", `{"added_tokens":[{"id":2,"content":"` + strings.Repeat("x", 2000) + `"}],` + model + `}`, "added_tokens[0].content"},
		{"normalizer", `{"normalizer":{"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"Precompiled"}]},` + model + `}`, `normalizer.normalizers[1].type: "Precompiled"`},
		{"no pattern", `{"normalizer":{"type":"Replace","content":"x"},` + model + `}`, "normalizer.pattern"},
		{"pre-tokenizer", `{"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"X"}]},` + model + `}`, `pre_tokenizer.pretokenizers[0].type: "X"`},
		{"behavior", `{"pre_tokenizer":{"type":"Split","pattern":{"String":"a"},"behavior":"X"},` + model + `}`, `pre_tokenizer.behavior: "X"`},
		{"regex", `{"pre_tokenizer":{"type":"Split","pattern":{"Regex":"(a"},"behavior":"Isolated"},` + model + `}`, "pre_tokenizer.pattern.Regex"},
		{"regex class", `{"pre_tokenizer":{"type":"Split","pattern":{"Regex":"[a&&b]"},"behavior":"Isolated"},` + model + `}`, "pre_tokenizer.pattern.Regex"},
		{"metaspace", `{"pre_tokenizer":{"type":"Metaspace","replacement":"ab"},` + model + `}`, "pre_tokenizer.replacement"},
		{"post-processor", `{"post_processor":{"type":"X"},` + model + `}`, `post_processor.type: "X"`},
		{"post-processor's id", `{"post_processor":{"type":"RobertaProcessing","cls":["a",0],"sep":["z",9]},` + model + `}`, "post_processor: no token has the id 9"},
		{"no sep", `{"post_processor":{"type":"RobertaProcessing","cls":["a",0]},` + model + `}`, "post_processor.sep"},
		{"template", `{"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"q"}}]},` + model + `}`, `post_processor.single[0]: "q"`},
		{"template of nothing", `{"post_processor":{"type":"TemplateProcessing"},` + model + `}`, "post_processor.single"},
		{"decoder", `{"decoder":{"type":"Sequence","decoders":[{"type":"CTC"}]},` + model + `}`, `decoder.decoders[0].type: "CTC"`},
		{"padding", `{"padding":{"pad_id":5},` + model + `}`, "padding.pad_id"},
		{"truncation", `{"truncation":{"max_length":-5},` + model + `}`, "truncation.max_length"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "tokenizer.json")
			if err := os.WriteFile(path, []byte(c.file), 0o600); err != nil {
				t.Fatal(err)
			}
			refused(t, path, path, c.want)
		})
	}
}

func refused(t *testing.T, path string, want ...string) {
	t.Helper()
	_, err := tokenizer.Open(path)
	for _, w := range want {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("error %v, want it to say %q", err, w)
		}
	}
}

func TestBrokenFolders(t *testing.T) {
	refused(t, filepath.Join(t.TempDir(), "none"), "none")
	refused(t, t.TempDir(), "neither tokenizer.json nor vocab.json")
	for _, c := range []struct{ file, text, want string }{
		{"vocab.json", `{"a":`, "vocab.json: line 1"},
		{"vocab.json", `{"a":0}`, "for CLIP only"},
		{"merges.txt", "#version: 0.2\nt h\nx\n", "merges.txt: line 3"},
		{"merges.txt", "t h\nt absent\n", `model.merges[1]: "absent"`},
		{"tokenizer_config.json", `{"tokenizer_class":"GPT2Tokenizer"}`, `"GPT2Tokenizer"`},
		{"tokenizer_config.json", `{"pad_token":"absent"}`, `pad_token: "absent"`},
		{"tokenizer_config.json", `{"pad_token":5}`, "tokenizer_config.json"},
		{"special_tokens_map.json", `{`, "special_tokens_map.json"},
	} {
		t.Run(fmt.Sprint(c.file, " ", c.want), func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS("testdata/clip_folder")); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, c.file), []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			refused(t, dir, dir, c.want)
		})
	}
}

// TestHostilePattern has a pattern that needs 2^40 steps: the text stays whole instead.
func TestHostilePattern(t *testing.T) {
	if testing.Short() {
		t.Skip("takes the three seconds that a pattern may take")
	}
	t.Parallel()
	tok := write(t, map[string]any{
		"pre_tokenizer": json.RawMessage(`{"type":"Split","pattern":{"Regex":"(a+)+b"},"behavior":"Isolated"}`),
		"model":         map[string]any{"type": "BPE", "vocab": map[string]int{"a": 0, "c": 1}, "merges": []string{}},
	})
	start := time.Now()
	if ids := tok.Encode(strings.Repeat("a", 40)+"c", true); len(ids) != 41 {
		t.Errorf("%d ids", len(ids))
	}
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("took %v", took)
	}
}
