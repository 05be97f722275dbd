package train

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"

	"github.com/promptmill/promptmill/model/scene"
	"github.com/promptmill/promptmill/schemas"
)

// Aspects are what pictures are judged by, in the order of their tokens.
var Aspects = []string{schemas.Aesthetic, schemas.Pick, schemas.Alignment}

// Statistics is how many numbers the vision tower is taught to tell of a picture.
const Statistics = 29

// Facts are what is true of a picture of a raw prompt: what the teacher answers from.
type Facts struct {
	// Levels are the true scores by aspect, in the order of Aspects, spread over 0..5: the oracle's use only a part of it.
	Levels [3]float64
	// Parts are colour, contrast, detail, balance and light, Shape and Hue the two parts of alignment, Wanted and Best how
	// well the silhouettes of the subject and of the likest category match: all in 0..1.
	Parts         [5]float64
	Shape, Hue    float64
	Wanted, Best  float64
	Subject, Seen scene.Category
	// Statistics are of roughly unit scale: the oracle's numbers before it puts them together.
	Statistics [Statistics]float32
}

// Look measures a picture of a raw prompt.
func Look(img *scene.Image, raw string) Facts {
	m := scene.Measure(img)
	s := m.Scores(raw)
	f := Facts{Parts: m.Parts(), Seen: m.Seen()}
	f.Subject, _ = scene.Subject(raw)
	f.Shape, f.Hue = m.Likeness(raw)
	f.Wanted, f.Best = m.Shape[f.Subject], m.Shape[f.Seen]
	a, l := (s.Aesthetic-1)/2.8*5, (s.Alignment-1.2)/3.4*5
	f.Levels = [3]float64{a, (a + l) / 2, l}

	at := f.Statistics[:0]
	add := func(values ...float64) {
		for _, v := range values {
			at = append(at, float32(v))
		}
	}
	add((m.Colourfulness-30)/15, (m.Contrast-.1)*20, (m.Sharpness+2.6)*1.5, (m.Symmetry-.2)*4, (m.Brightness-.4)*8)
	for _, p := range f.Parts {
		add(3 * (p - .4))
	}
	add(s.Aesthetic - 2)
	for _, r := range m.Shape {
		add(5 * (r - .4))
	}
	figure, ground := m.Figure[f.Seen], m.Ground[f.Seen]
	for k := range figure {
		add(4*(figure[k]-.4), 4*(ground[k]-.4))
	}
	return f
}

// nouns name the categories in answers, each a single token: what names none of the others is drawn as a plain form.
var nouns = func() (names [scene.Categories]string) {
	for c := range names {
		names[c] = scene.Category(c).String()
	}
	names[scene.Thing] = "abstract"
	return names
}()

// phrase states the facts that an aspect rests on, before the score: the judge reasons from them to the score, for
// everything that it says depends on what it has said. At each aspect all phrases have the same number of tokens.
func (f *Facts) phrase(aspect int) string {
	p := f.Parts
	switch Aspects[aspect] {
	case schemas.Aesthetic:
		return fmt.Sprintf("color %d contrast %d detail %d centered %d light %d", fifths(p[0]), fifths(p[1]), fifths(p[2]), fifths(p[3]), fifths(p[4]))
	case schemas.Pick:
		return fmt.Sprintf("color %d contrast %d detail %d shape %d hue %d", fifths(p[0]), fifths(p[1]), fifths(p[2]), fifths(f.Shape), fifths(f.Hue))
	}
	return fmt.Sprintf("%s %d %s %d shape %d hue %d", nouns[f.Seen], fifths(f.Best), nouns[f.Subject], fifths(f.Wanted), fifths(f.Shape), fifths(f.Hue))
}

func fifths(share float64) int { return level(5 * share) }

func level(x float64) int { return int(math.RoundToEven(min(max(x, 0), 5))) }

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

// teacherNoise and humanNoise are standard deviations on the scale of 0..5; humans call what is nearer than tie a tie.
const (
	teacherNoise = .35
	humanNoise   = .4
	tie          = .25
)

// scores are those of a teacher: the truth in whole numbers, with noise if there is chance.
func (c *Comparison) scores(rng *rand.Rand, noise float64) (s [2]int) {
	for i, p := range c.Pictures {
		x := p.Facts.Levels[c.Aspect]
		if rng != nil {
			x += noise * rng.NormFloat64()
		}
		s[i] = level(x)
	}
	return s
}

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

// answer is a judge's answer that states the facts and these scores.
func (c *Comparison) answer(s [2]int) string {
	var b strings.Builder
	for i, p := range c.Pictures {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "image %d %s. score %d", i+1, p.Facts.phrase(c.Aspect), s[i])
	}
	return b.String()
}

// careless is the answer of a reader who takes each number for another now and then, and the scores that it states.
func (c *Comparison) careless(rng *rand.Rand, share, noise float64) (string, [2]int) {
	misread := func(x *float64) {
		if rng.Float64() < share {
			*x += .2 * float64(1+rng.IntN(2)) * float64(2*rng.IntN(2)-1)
		}
	}
	said := *c
	for i, p := range c.Pictures {
		q := *p
		f := &q.Facts
		for _, x := range []*float64{&f.Parts[0], &f.Parts[1], &f.Parts[2], &f.Parts[3], &f.Parts[4], &f.Shape, &f.Hue, &f.Wanted, &f.Best} {
			misread(x)
		}
		said.Pictures[i] = &q
	}
	s := c.scores(rng, noise)
	return said.answer(s), s
}

// grades is the judgment of two answers that state these scores. For each picture it says what the answer states, what is
// true and how far that is; a point less for each step is the grade, from 5 to 1.
func (c *Comparison) grades(stated [2][2]int) string {
	own := c.scores(nil, 0)
	var b strings.Builder
	b.WriteString(c.answer(own))
	for i, s := range stated {
		var off [2]int
		for k := range off {
			off[k] = max(s[k]-own[k], own[k]-s[k])
		}
		fmt.Fprintf(&b, "\nanswer %c: %d for %d is %d, %d for %d is %d. score %d",
			'a'+i, s[0], own[0], off[0], s[1], own[1], off[1], max(1, 5-off[0]-off[1]))
	}
	return b.String()
}

// Miss is how far two scores are from the truth, summed.
func (c *Comparison) Miss(first, second float64) float64 {
	truth := func(i int) float64 { return min(max(c.Pictures[i].Facts.Levels[c.Aspect], 0), 5) }
	return math.Abs(first-truth(0)) + math.Abs(second-truth(1))
}
