package rewrite_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/promptmill/promptmill/transforms/rewrite"
)

var answers = []struct{ in, want string }{
	{"a cat, soft light", "a cat, soft light"},
	{"  a cat,\n soft\tlight \r\n", "a cat, soft light"},
	{`"a cat, soft light"`, "a cat, soft light"},
	{"“a cat, soft light”", "a cat, soft light"},
	{"'a cat'", "a cat"},
	{"Prompt: a cat", "a cat"},
	{"**Prompt:** a cat", "a cat"},
	{"Improved prompt: \"a cat\"", "a cat"},
	{"The rewritten prompt: a cat", "a cat"},
	{"Sure! Here is the improved prompt: a cat", "a cat"},
	{"Sure, here's a more detailed version of your prompt:\n\n\"a cat, soft light\"", "a cat, soft light"},
	{"Certainly! Here is a rewritten prompt\n\na cat", "a cat"},
	{"Of course.\na cat", "a cat"},
	{"# Prompt\n> a cat", "Prompt a cat"},
	{"- a cat", "a cat"},
	{"```\na cat\n```", "a cat"},
	{"```text\na cat```", "text a cat"},
	{"`a cat`", "a cat"},
	{"*a cat*", "a cat"},
	{"**a cat**, __soft__ light", "a cat, soft light"},
	{"a cat\n\nExplanation: cats are soft.", "a cat"},
	{"a cat\nNote: I kept the cat.", "a cat"},
	{"a cat\nThis prompt adds light.", "a cat"},
	{"Cafe\u0301 in the rain", "Café in the rain"},
	{"a\u200b cat\x00", "a cat"},
	{"a cat \xff", "a cat"},
	// Left alone: what only looks like a wrapping.
	{`"cat" and "dog"`, `"cat" and "dog"`},
	{"portrait of a man, here is where he lives", "portrait of a man, here is where he lives"},
	{"okay-looking house", "okay-looking house"},
	{"great, sweeping plains", "great, sweeping plains"},
	{"a sign that says: prompt", "a sign that says: prompt"},
	{"Here is a cat", "Here is a cat"},
	{"(masterpiece:1.2), [dark], {a|b}", "(masterpiece:1.2), [dark], {a|b}"},
	{"\"\"", ""},
	{"Sure!", ""},
	{" \n ", ""},
}

func TestClean(t *testing.T) {
	for _, tt := range answers {
		if got := rewrite.Clean(tt.in); got != tt.want {
			t.Errorf("Clean(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestClipTokens(t *testing.T) {
	for _, tt := range []struct {
		text string
		want int
	}{
		{"", 2},
		{"a cat", 4},
		{"A cat, isn't it?", 9}, // a cat , isn 't it ?
		{"8k 1920x1080", 2 + 2 + 9},
		{"!!! ...", 4},
		{"<|endoftext|> héllo", 4},
	} {
		if got := rewrite.ClipTokens(tt.text); got != tt.want {
			t.Errorf("ClipTokens(%q) = %d, want %d", tt.text, got, tt.want)
		}
	}
}

func FuzzClean(f *testing.F) {
	for _, a := range answers {
		f.Add(a.in)
	}
	f.Fuzz(func(t *testing.T, answer string) {
		got := rewrite.Clean(answer)
		if again := rewrite.Clean(got); again != got {
			t.Errorf("Clean(%q) = %q, cleaned again %q", answer, got, again)
		}
		if got != strings.Join(strings.Fields(got), " ") || !utf8.ValidString(got) {
			t.Errorf("Clean(%q) = %q is not one folded line", answer, got)
		}
		if n := rewrite.ClipTokens(got); n < 2 || got != "" && n == 2 {
			t.Errorf("%q has %d tokens", got, n)
		}
	})
}
