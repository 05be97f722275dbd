package tokenizer_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/promptmill/promptmill/model/tokenizer"
)

// FuzzRoundTrip: the byte-level tokenizers lose nothing of a valid text, and the others never fail.
func FuzzRoundTrip(f *testing.F) {
	for _, s := range []string{"", "a photo", " it's  \n\n x", "<|im_start|>é<|im_end|>", "\u0301\u0301", "東京 👩‍👩‍👧", "\xff\xfe", "▁<image> \u2028"} {
		f.Add(s)
	}
	exact := open(f, "bytelevel_tokenizer.json")
	var others []*tokenizer.Tokenizer
	for _, name := range []string{"clip", "qwen2style", "llama2style", "gemmastyle"} {
		others = append(others, open(f, name+"_tokenizer.json"))
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got, want := exact.Decode(exact.Encode(s, true), false), strings.ToValidUTF8(s, "\uFFFD"); got != want {
			t.Errorf("%q comes back as %q", want, got)
		}
		for _, tok := range others {
			ids := tok.Encode(s, true)
			for _, id := range ids {
				if id < 0 || int(id) >= tok.Vocab() {
					t.Errorf("%q gives the id %d of %d", s, id, tok.Vocab())
				}
			}
			tok.Decode(ids, true)
		}
	})
}

// FuzzOpen: any file is a tokenizer that works or an error.
func FuzzOpen(f *testing.F) {
	const model = `"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2,"<0x20>":3,"u":4},"merges":["a b"],"byte_fallback":true,"unk_token":"u","fuse_unk":true}`
	for _, steps := range []string{
		``,
		`"pre_tokenizer":{"type":"Split","pattern":{"Regex":"(?i:'s)|[^\\r\\n\\p{L}]?+\\p{L}+|\\s+(?!\\S)"},"behavior":"MergedWithNext","invert":true},`,
		`"normalizer":{"type":"Replace","pattern":{"Regex":"(?<=a)b*|[^x-z\\w]{1,3}"},"content":"_"},"decoder":{"type":"ByteLevel"},`,
		`"added_tokens":[{"id":5,"content":"<s>","lstrip":true,"rstrip":true,"normalized":true,"single_word":true}],"decoder":{"type":"Metaspace","replacement":"_"},`,
		`"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"s"}},{"Sequence":{"id":"A"}}],"special_tokens":{"s":{"ids":[1]}}},`,
		`"truncation":{"max_length":3},"padding":{"pad_id":1,"direction":"Left"},"pre_tokenizer":{"type":"Metaspace","replacement":"_"},`,
	} {
		f.Add([]byte("{"+steps+model+"}"), "ab <s> A's  b")
	}
	f.Fuzz(func(t *testing.T, file []byte, text string) {
		path := filepath.Join(t.TempDir(), "tokenizer.json")
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		tok, err := tokenizer.Open(path)
		if err != nil {
			if !strings.Contains(err.Error(), path) {
				t.Errorf("%v does not name the file", err)
			}
			return
		}
		if len(text) > 64 {
			text = text[:64]
		}
		ids := tok.Encode(text, true)
		tok.Decode(ids, false)
		if ids, mask := tok.Window(text, 5); len(ids) != 5 || len(mask) != 5 {
			t.Errorf("a window of 5 has %d ids and %d of mask", len(ids), len(mask))
		}
	})
}
