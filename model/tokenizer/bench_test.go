package tokenizer_test

import (
	"strings"
	"testing"
)

// BenchmarkEncode is one thread over the first 2,000 committed prompts; "word" is one word of 1 MB.
func BenchmarkEncode(b *testing.B) {
	prompts := committed(b)[:2000]
	n := 0
	for _, p := range prompts {
		n += len(p)
	}
	for _, name := range []string{"clip", "bytelevel", "qwen2style", "llama2style", "gemmastyle"} {
		tok := open(b, name+"_tokenizer.json")
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				for _, p := range prompts {
					tok.Encode(p, true)
				}
			}
		})
		b.Run(name+"/word", func(b *testing.B) {
			word := strings.Repeat("abracadabra", 1<<20/11)
			b.SetBytes(int64(len(word)))
			for b.Loop() {
				tok.Encode(word, true)
			}
		})
	}
}
