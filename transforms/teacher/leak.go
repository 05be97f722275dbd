package teacher

import (
	"slices"
	"strings"
	"unicode"
)

// telling are words of someone who has seen a cue.
var telling = []string{
	"reference", "references", "referenced", "hint", "hints", "hinted", "rater", "raters", "annotator", "annotators", "cue", "cues",
}

// quoted is how many words of the cue in a row are a quotation.
const quoted = 5

// leaks says whether an answer gives away that its writer knew the preference: it names the reference, a hint or
// the raters, or quotes the cue. "A hint of blue" tells nothing. A picture's text that has such a word itself
// loses its pair, if the answer repeats it; that is cheaper than a cue in the set.
func leaks(answer, cue string) bool {
	words := wordsOf(answer)
	for i, w := range words {
		if !slices.Contains(telling, w) {
			continue
		}
		if strings.HasPrefix(w, "hint") && i+1 < len(words) && words[i+1] == "of" {
			continue
		}
		return true
	}
	known := map[string]bool{}
	for run := range runs(wordsOf(cue)) {
		known[run] = true
	}
	for run := range runs(words) {
		if known[run] {
			return true
		}
	}
	return false
}

// runs yields every run of quoted words.
func runs(words []string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for i := 0; i+quoted <= len(words); i++ {
			if !yield(strings.Join(words[i:i+quoted], " ")) {
				return
			}
		}
	}
}

func wordsOf(text string) []string {
	return strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
}
