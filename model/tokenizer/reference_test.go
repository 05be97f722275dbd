package tokenizer_test

import (
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/promptmill/promptmill/model/tokenizer"
)

func open(tb testing.TB, path string) *tokenizer.Tokenizer {
	tb.Helper()
	t, err := tokenizer.Open(filepath.Join("testdata", path))
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

func readJSON(tb testing.TB, name string, v any) {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		tb.Fatal(err)
	}
}

func TestEncodings(t *testing.T) {
	type row struct {
		IDs       []int32 `json:"ids"`
		NoSpecial []int32 `json:"ids_nospecial"`
		Decoded   string  `json:"decoded"`
		Skip      *string `json:"decoded_skip"`
	}
	for _, file := range []string{"encodings.json", "sentencepiece.json"} {
		var want struct {
			Strings []string
			Enc     map[string][]row
		}
		readJSON(t, file, &want)
		for name, rows := range want.Enc {
			tok := open(t, name+"_tokenizer.json")
			if len(rows) != len(want.Strings) || len(rows) == 0 {
				t.Fatalf("%s: %d rows for %d strings", file, len(rows), len(want.Strings))
			}
			for i, s := range want.Strings {
				if got := tok.Encode(s, true); !equal(got, rows[i].IDs) {
					t.Errorf("%s: Encode(%q, true) = %v, want %v", name, s, got, rows[i].IDs)
				}
				if got := tok.Encode(s, false); !equal(got, rows[i].NoSpecial) {
					t.Errorf("%s: Encode(%q, false) = %v, want %v", name, s, got, rows[i].NoSpecial)
				}
				if got := tok.Count(s); got != len(rows[i].NoSpecial) {
					t.Errorf("%s: Count(%q) = %d, want %d", name, s, got, len(rows[i].NoSpecial))
				}
				if got := tok.Decode(rows[i].NoSpecial, false); got != rows[i].Decoded {
					t.Errorf("%s: Decode(%v) = %q, want %q", name, rows[i].NoSpecial, got, rows[i].Decoded)
				}
				if skip := rows[i].Skip; skip != nil {
					if got := tok.Decode(rows[i].IDs, true); got != *skip {
						t.Errorf("%s: Decode(%v, true) = %q, want %q", name, rows[i].IDs, got, *skip)
					}
				}
			}
		}
	}
}

func equal(a, b []int32) bool {
	return len(a) == len(b) && cmp.Equal(append([]int32{}, a...), append([]int32{}, b...))
}

// TestSteps compares each normalizer, pre-tokenizer and kind of added token alone, over a vocabulary of bytes
// whose ids spell the words that came out.
func TestSteps(t *testing.T) {
	var want struct {
		Strings []string
		Steps   []struct {
			Name         string
			Normalizer   json.RawMessage `json:"normalizer"`
			PreTokenizer json.RawMessage `json:"pre_tokenizer"`
			AddedTokens  json.RawMessage `json:"added_tokens"`
			Words        []string
		}
	}
	readJSON(t, "steps.json", &want)
	vocab := map[string]int{}
	for b := range 256 {
		vocab[fmt.Sprintf("<0x%02X>", b)] = b
	}
	for _, step := range want.Steps {
		t.Run(step.Name, func(t *testing.T) {
			tok := write(t, map[string]any{
				"version": "1.0", "normalizer": step.Normalizer, "pre_tokenizer": step.PreTokenizer, "added_tokens": step.AddedTokens,
				"model": map[string]any{"type": "BPE", "byte_fallback": true, "end_of_word_suffix": "</w>", "vocab": vocab, "merges": []string{}},
			})
			for i, s := range want.Strings {
				var got strings.Builder
				for _, id := range tok.Encode(s, true) {
					if id < 256 {
						got.WriteByte(byte(id))
					} else {
						fmt.Fprintf(&got, "{%d}", id)
					}
				}
				if got.String() != step.Words[i] {
					t.Errorf("%q gives %q, want %q", s, got.String(), step.Words[i])
				}
			}
		})
	}
}

// write makes a tokenizer of a tokenizer.json.
func write(t *testing.T, file map[string]any) *tokenizer.Tokenizer {
	t.Helper()
	b, err := json.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "tokenizer.json")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	tok, err := tokenizer.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func TestDecoders(t *testing.T) {
	var want struct {
		Tokens []string
		Cases  []struct {
			Decoder json.RawMessage
			Lists   [][]int32
			Texts   []string
			Skipped []string
		}
	}
	readJSON(t, "decoding.json", &want)
	vocab := map[string]int{}
	for i, token := range want.Tokens {
		vocab[token] = i
	}
	for _, c := range want.Cases {
		tok := write(t, map[string]any{
			"decoder":      c.Decoder,
			"added_tokens": []map[string]any{{"id": 12, "content": "<s>", "special": true}},
			"model":        map[string]any{"type": "BPE", "vocab": vocab, "merges": []string{}},
		})
		for i, ids := range c.Lists {
			if got := tok.Decode(ids, false); got != c.Texts[i] {
				t.Errorf("%s: Decode(%v) = %q, want %q", c.Decoder, ids, got, c.Texts[i])
			}
			if got := tok.Decode(ids, true); got != c.Skipped[i] {
				t.Errorf("%s: Decode(%v, true) = %q, want %q", c.Decoder, ids, got, c.Skipped[i])
			}
		}
	}
}

// TestRealPrompts compares the ids of every prompt of the repository with digests of the reference's.
func TestRealPrompts(t *testing.T) {
	var want struct {
		Prompts int
		Digests map[string]struct {
			IDs    int    `json:"ids"`
			SHA256 string `json:"sha256"`
		}
	}
	readJSON(t, "digests.json", &want)
	prompts := committed(t)
	if len(prompts) != want.Prompts {
		t.Fatalf("%d prompts, the digests are of %d: run testdata/reference.py", len(prompts), want.Prompts)
	}
	for name, digest := range want.Digests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tok := open(t, name+"_tokenizer.json")
			h, n := sha256.New(), 0
			for _, p := range prompts {
				ids := tok.Encode(p, true)
				n += len(ids)
				var line []byte
				for i, id := range ids {
					if i > 0 {
						line = append(line, ',')
					}
					line = strconv.AppendInt(line, int64(id), 10)
				}
				h.Write(append(line, '\n'))
			}
			if got := hex.EncodeToString(h.Sum(nil)); n != digest.IDs || got != digest.SHA256 {
				t.Errorf("%d ids, digest %s, want %d, %s", n, got, digest.IDs, digest.SHA256)
			}
		})
	}
}

// committed reads the prompts of the repository in the order of reference.py.
func committed(tb testing.TB) []string {
	tb.Helper()
	const root = "../../testdata/prompts"
	var out []string
	lines := func(name string) []string {
		f, err := os.Open(filepath.Join(root, name))
		if err != nil {
			tb.Fatal(err)
		}
		defer f.Close()
		r := io.Reader(f)
		if strings.HasSuffix(name, ".gz") {
			if r, err = gzip.NewReader(f); err != nil {
				tb.Fatal(err)
			}
		}
		b, err := io.ReadAll(r)
		if err != nil {
			tb.Fatal(err)
		}
		return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	}
	rows := func(name string) {
		for _, line := range lines(name) {
			var row struct{ Prompt, Raw, Rewritten string }
			if err := json.Unmarshal([]byte(line), &row); err != nil {
				tb.Fatalf("%s: %v", name, err)
			}
			if row.Raw != "" {
				out = append(out, row.Raw, row.Rewritten)
			} else {
				out = append(out, row.Prompt)
			}
		}
	}
	rows("sd_prompts.jsonl")
	rows("geneval.jsonl")
	rows("pairs.jsonl")
	for _, line := range lines("parti_prompts.tsv")[1:] {
		prompt, _, _ := strings.Cut(line, "\t")
		out = append(out, prompt)
	}
	rows("sd_prompts_all.jsonl.gz")
	return out
}
