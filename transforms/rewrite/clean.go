package rewrite

import (
	"regexp"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

const (
	thing  = `(?:prompt|rewrite|rewriting|rewritten|version|description)`
	better = `(?:new|rewritten|improved|enhanced|optimi[sz]ed|final|revised|refined|better|detailed|updated|expanded|output|image|text-to-image)`
)

var (
	yes      = regexp.MustCompile(`(?i)^(?:(?:sure(?: thing)?|certainly|of course|okay|ok)[!.,:;]+|(?:absolutely|great|no problem)!+)\s*`)
	hereIs   = regexp.MustCompile(`(?i)^(?:here(?:'s|’s| is| are)\b|(?:this|below|the following) is (?:your|the|an?)\b)[^:\n]{0,60}\b` + thing + `\b[^:\n]{0,60}:\s*`)
	label    = regexp.MustCompile(`(?i)^(?:the |your )?(?:` + better + ` )*(?:prompt|output|answer|result|rewrite|rewritten)\s*:\s*`)
	announce = regexp.MustCompile(`(?i)^(?:sure|certainly|of course|okay|here(?:'s|’s| is| are))\b.{0,120}\b` + thing + `\b.{0,60}$`)
	comment  = regexp.MustCompile(`(?i)^(?:explanation|notes?|reasoning|changes|comment)\s*:|^(?:this|the) (?:new |rewritten |improved |enhanced )?prompt (?:is|adds|keeps|includes|describes)\b`)
	bullet   = regexp.MustCompile(`^(?:[-*•>+]|#{1,6})\s+`)
	refusal  = regexp.MustCompile(`(?i)^(?:i(?:'|’| a)m (?:really |very |so )?(?:sorry|unable|not able|afraid)\b|sorry[,.]? (?:but |i )|i (?:cannot|can't|can’t|can not|won't|won’t|will not|am unable to|must decline)(?: to)? (?:assist|help|create|generate|provide|fulfil|write|rewrite|produce|comply|do|answer|support|engage|complete)|as an ai\b)`)

	// wrappers are what an answer is put between, beginning and end.
	wrappers = [][2]string{{`"`, `"`}, {"“", "”"}, {"„", "“"}, {"«", "»"}, {"'", "'"}, {"‘", "’"}, {"*", "*"}, {"_", "_"}}
)

// Clean takes off what models put around the prompt they were asked for: "Sure!", "Here is the new
// prompt:", the label "Prompt:", quotation marks, Markdown, comments below it. The result is one line in
// Unicode NFC, runs of white space folded, and Clean leaves it as it is.
func Clean(answer string) string {
	text := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && !unicode.IsSpace(r) || r == unicode.ReplacementChar || r == '\u200b' || r == '\ufeff' {
			return -1
		}
		return r
	}, answer)
	text = norm.NFC.String(strings.NewReplacer("```", "\n", "`", "", "**", "", "__", "").Replace(text))
	var lines []string
	for line := range strings.Lines(text) {
		line = strings.Join(strings.Fields(line), " ")
		line = bullet.ReplaceAllString(line, "")
		if len(lines) > 0 && comment.MatchString(line) {
			break
		}
		if line != "" {
			lines = append(lines, line)
		}
	}
	if len(lines) > 1 && announce.MatchString(lines[0]) {
		lines = lines[1:]
	}
	text = strings.Join(lines, " ")
	for {
		before := text
		for _, re := range []*regexp.Regexp{yes, hereIs, label, bullet} {
			text = re.ReplaceAllString(text, "")
		}
		text = strings.TrimSpace(unwrap(text))
		if text == before {
			return text
		}
	}
}

// unwrap takes off one pair of quotation marks around the whole of text.
func unwrap(text string) string {
	for _, w := range wrappers {
		inner, ok := strings.CutPrefix(text, w[0])
		if !ok {
			continue
		}
		if inner, ok = strings.CutSuffix(inner, w[1]); ok && !strings.Contains(inner, w[0]) && !strings.Contains(inner, w[1]) {
			return inner
		}
	}
	return text
}

// pieces is the pattern by which CLIP's tokenizer cuts text before it looks for byte pairs
// (openai/CLIP, clip/simple_tokenizer.py).
var pieces = regexp.MustCompile(`<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|\pL+|\pN|[^\s\pL\pN]+`)

// ClipTokens is a lower bound on the CLIP tokens of text, the two that mark its ends included: each
// piece of the pre-tokenization is at least one token, and most English words are exactly one.
func ClipTokens(text string) int {
	return 2 + len(pieces.FindAllStringIndex(strings.ToLower(text), -1))
}
