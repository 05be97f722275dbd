package txt2img

import (
	"regexp"
	"strings"
)

var (
	// escapes are the characters that AUTOMATIC1111's prompt parser (modules/prompt_parser.py) and
	// stable-diffusion.cpp's give a meaning to, and that both take literally after a backslash.
	escapes = strings.NewReplacer(`\`, `\\`, `(`, `\(`, `)`, `\)`, `[`, `\[`, `]`, `\]`)
	// element is what begins an extra network such as <lora:name:1>, or stable-diffusion.cpp's
	// arguments; it has no escape.
	element = regexp.MustCompile(`<(\w)`)
	// keyword joins prompts or begins a new chunk, but only in capitals; text encoders take no notice of case.
	keyword = regexp.MustCompile(`\b(AND|BREAK)\b`)
)

// plain writes a text so that the server's prompt language reads it as that text.
func plain(text string) string {
	if !strings.ContainsAny(text, `\()[]<AB`) {
		return text
	}
	text = element.ReplaceAllString(text, "< $1")
	text = keyword.ReplaceAllStringFunc(text, strings.ToLower)
	return escapes.Replace(text)
}
