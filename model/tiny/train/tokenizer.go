package train

import (
	"strings"

	"github.com/promptmill/promptmill/model/scene"
)

// TextLength is how many ids the text encoder takes.
const TextLength = 48

// answers are the judge's forms of words: they must cost few tokens.
var answers = []string{
	"image 1 color 0 contrast 1 detail 2 centered 3 light 4. score 5\nimage 2 color 5 contrast 4 detail 3 centered 2 light 1. score 0",
	"image 1 shape 0 hue 1 match 2. score 3\nimage 2 shape 5 hue 4 match 3. score 2",
	"answer 1 score 3\nanswer 2 score 1",
}

// Tokenizer finds the vocabulary that the tiny models share, in the real prompts of the training part, the words that the
// world knows and the judge's words.
func Tokenizer(prompts []Prompt) (*BPE, error) {
	var texts []Weighted
	for _, p := range prompts {
		if PartOf(p.Raw) == Training {
			texts = append(texts, Weighted{p.Text(), 1})
		}
	}
	for _, m := range scene.Modifiers() {
		texts = append(texts, Weighted{m, 20})
	}
	for c := range scene.Category(scene.Categories) {
		texts = append(texts, Weighted{strings.Join(append(scene.Nouns(c), c.String()), " "), 20})
	}
	texts = append(texts, Weighted{strings.Join(scene.Colours(), " "), 20})
	for _, a := range answers {
		texts = append(texts, Weighted{a, 300})
	}
	return TrainBPE(texts, Vocabulary)
}
