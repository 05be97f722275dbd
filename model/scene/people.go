package scene

import (
	"math/rand/v2"

	"github.com/promptmill/promptmill/model"
)

// Level is the score of an aspect on the scale that people and judges use: pictures of this world fill 0
// to 5 of it, and a few lie outside. Differences of levels, unlike those of Scores, weigh the aspects alike.
func (s Scores) Level(aspect string) float64 { return level(s, aspect) }

// Rewrite appends to a prompt one to eight modifiers as often as real prompts of its category have them.
// Equal seeds give equal answers.
func Rewrite(prompt string, seed int64) string {
	rng := rand.New(rand.NewPCG(uint64(seed), 0x70656f706c65)) // "people"
	return newRewriter(prompt, model.Sampling{Temperature: 1}).answer(rng)
}
