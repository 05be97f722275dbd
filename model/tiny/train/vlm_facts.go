package train

import (
	"math"
	"math/rand/v2"

	"github.com/promptmill/promptmill/model/scene"
	"github.com/promptmill/promptmill/schemas"
)

// Aspects are what pictures are judged by, in the order of their tokens.
var Aspects = []string{schemas.Aesthetic, schemas.Pick, schemas.Alignment}

// Statistics is how many numbers the vision tower is taught to tell of a picture.
const Statistics = 29

// Facts are what is true of a picture of a raw prompt.
type Facts struct {
	// Levels are the true scores by aspect, in the order of Aspects, spread over 0..5: the oracle's use only a part of it.
	Levels [3]float64
	// Statistics are of roughly unit scale: the oracle's numbers before it puts them together.
	Statistics [Statistics]float32
}

// Look measures a picture of a raw prompt.
func Look(img *scene.Image, raw string) Facts {
	m := scene.Measure(img)
	s := m.Scores(raw)
	var f Facts
	for i, aspect := range Aspects {
		f.Levels[i] = s.Level(aspect)
	}

	at := f.Statistics[:0]
	add := func(values ...float64) {
		for _, v := range values {
			at = append(at, float32(v))
		}
	}
	add((m.Colourfulness-30)/15, (m.Contrast-.1)*20, (m.Sharpness+2.6)*1.5, (m.Symmetry-.2)*4, (m.Brightness-.4)*8)
	for _, p := range m.Parts() {
		add(3 * (p - .4))
	}
	add(s.Aesthetic - 2)
	for _, r := range m.Shape {
		add(5 * (r - .4))
	}
	figure, ground := m.Figure[m.Seen()], m.Ground[m.Seen()]
	for k := range figure {
		add(4*(figure[k]-.4), 4*(ground[k]-.4))
	}
	return f
}

// A Comparison is two pictures of one raw prompt and what is true of them.
type Comparison struct {
	Raw      string
	Aspect   int // index into Aspects
	Pictures [2]*Picture
}

// Picture is a picture as the model sees it, 8 bits a channel, and the facts.
type Picture struct {
	Pixels *[3 * scene.Side * scene.Side]uint8
	Facts  Facts
}

// humanNoise is a standard deviation on the scale of 0..5; humans call what is nearer than tie a tie.
const (
	humanNoise = .4
	tie        = .25
)

// Prefers is what a human says: 1 or 2 for the better picture, 0 for a tie.
func (c *Comparison) Prefers(rng *rand.Rand) int {
	return prefers(c.Difference() + humanNoise*rng.NormFloat64())
}

func prefers(difference float64) int {
	switch {
	case math.Abs(difference) < tie:
		return 0
	case difference > 0:
		return 1
	}
	return 2
}

// Difference is the true score of the first picture less that of the second.
func (c *Comparison) Difference() float64 {
	return c.Pictures[0].Facts.Levels[c.Aspect] - c.Pictures[1].Facts.Levels[c.Aspect]
}

// Miss is how far two scores are from the truth, summed.
func (c *Comparison) Miss(first, second float64) float64 {
	truth := func(i int) float64 { return min(max(c.Pictures[i].Facts.Levels[c.Aspect], 0), 5) }
	return math.Abs(first-truth(0)) + math.Abs(second-truth(1))
}
