package train_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/promptmill/promptmill/model/scene"
	"github.com/promptmill/promptmill/model/tiny/train"
	"github.com/promptmill/promptmill/model/tokenizer"
)

func open(t *testing.T, b *train.BPE, use train.Use) *tokenizer.Tokenizer {
	t.Helper()
	data, err := b.JSON(use)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "tokenizer.json")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	tok, err := tokenizer.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func TestMergesAreTheMostFrequentPairs(t *testing.T) {
	texts := []train.Weighted{{Text: "abab abab cd", Weight: 2}, {Text: "CD ab", Weight: 1}}
	bytes := len(train.Special) + 256
	for _, c := range []struct {
		size int
		want [][2]string
	}{
		{bytes, nil},
		// ab: 2*4+1; then (Ġ,ab): 5 is more than (ab,ab) 4; then (c,d), (Ġ,c) and (Ġab,ab), 3, 3 and 4.
		{bytes + 1, [][2]string{{"a", "b"}}},
		{bytes + 4, [][2]string{{"a", "b"}, {"Ġ", "ab"}, {"Ġab", "ab"}, {"c", "d"}}},
	} {
		b, err := train.TrainBPE(texts, c.size)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(c.want, b.Merges); d != "" {
			t.Errorf("%d tokens: %s", c.size, d)
		}
		if len(b.Tokens) != c.size {
			t.Errorf("%d tokens, want %d", len(b.Tokens), c.size)
		}
	}
	for _, size := range []int{100, 5000} {
		if _, err := train.TrainBPE(texts, size); err == nil {
			t.Errorf("no error for a vocabulary of %d tokens from three words", size)
		}
	}
}

func TestTokenizerHasTheVocabulary(t *testing.T) {
	_, bpe := train.Load(t)
	tok := open(t, bpe, train.ForChat)
	if tok.Vocab() != train.Vocabulary {
		t.Errorf("%d tokens, want %d", tok.Vocab(), train.Vocabulary)
	}
	for want, s := range train.Special {
		if id, ok := tok.ID(s); !ok || id != int32(want) {
			t.Errorf("%s has id %d, %v; want %d", s, id, ok, want)
		}
	}
	for _, text := range []string{"image 1 color 3", "answer 1 score 4\nanswer 2 score 0", "naïve 貓 \x01", "a  b\tc"} {
		if got := tok.Decode(tok.Encode(text, true), true); got != " "+text {
			t.Errorf("%q comes back as %q", text, got)
		}
	}
	// What the judge says must cost a token a word.
	for text, most := range map[string]int{"color": 1, "contrast": 1, "detail": 1, "centered": 1, "score": 1, "image": 1, "highly detailed, sharp focus": 5} {
		if n := tok.Count(text); n > most {
			t.Errorf("%q has %d tokens, want %d", text, n, most)
		}
	}
}

func TestPicturesReadTextAsTheWorldDoes(t *testing.T) {
	prompts, bpe := train.Load(t)
	tok := open(t, bpe, train.ForPictures)
	check := func(text string) {
		ids, _ := tok.Window(text, 0)
		if len(ids) != train.TextLength || ids[0] != 1 || ids[len(ids)-1] != 2 {
			t.Fatalf("%q: ids %v are not <bos>, text, <eos> in %d", text, ids, train.TextLength)
		}
		if n := slices.Index(ids, 2); n < len(ids)-1 {
			if got, want := strings.TrimPrefix(tok.Decode(ids, true), " "), scene.Normalize(text); got != want {
				t.Errorf("%q is read as %q, want %q", text, got, want)
			}
		}
	}
	for _, text := range []string{"", "A Red  Cat| , 8 K, 3-D render", " café ", "x , y"} {
		check(text)
	}
	for i := 0; i < len(prompts); i += 40 {
		check(prompts[i].Text())
	}
}
