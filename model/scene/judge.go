package scene

import (
	"fmt"
	"math"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"

	"github.com/promptmill/promptmill/schemas"
)

// unsure is the standard deviation of the judge's error, in levels.
const unsure = .35

// A judge answers one question about two pictures.
type judge struct {
	question
	pictures [2]*Measurement
	category Category
	hue      float64
	levels   [2]float64
}

func newJudge(q question, first, second *Measurement) *judge {
	j := &judge{question: q, pictures: [2]*Measurement{first, second}}
	j.category, j.hue = Subject(q.prompt)
	for i, m := range j.pictures {
		j.levels[i] = level(m.Scores(q.prompt), q.aspect)
	}
	return j
}

// level brings the oracle's score of an aspect to a judge's levels: pictures of this world hold 1 to
// 3.8 of the aesthetic score and 1.2 to 4.6 of the alignment, a judge uses 0 to 5. It may lie outside.
func level(s Scores, aspect string) float64 {
	beauty := (s.Aesthetic - 1.0) / 2.8 * 5
	likeness := (s.Alignment - 1.2) / 3.4 * 5
	switch aspect {
	case schemas.Aesthetic:
		return beauty
	case schemas.Alignment:
		return likeness
	}
	return .5*beauty + .5*likeness
}

// scores writes a judgment of the two pictures; a nil rng gives it without error.
func (j *judge) scores(rng *rand.Rand) string {
	var b strings.Builder
	for i, m := range j.pictures {
		if i > 0 {
			b.WriteString("\n\n")
		}
		fmt.Fprintf(&b, "Output for Image %d:\nScore: %d\nExplanation: %s", i+1, grade(j.levels[i], 0, rng), j.explain(m))
	}
	return b.String()
}

// grade rounds a level, with the judge's error, to one of least to 5.
func grade(level, least float64, rng *rand.Rand) int {
	if rng != nil {
		level += unsure * rng.NormFloat64()
	}
	return int(math.Round(clip(level, least, 5)))
}

// explain names what was measured and bears on the aspect.
func (j *judge) explain(m *Measurement) string {
	switch j.aspect {
	case schemas.Aesthetic:
		return describeLook(m)
	case schemas.Alignment:
		return describeSubject(m, j.category, j.hue)
	}
	return describeSubject(m, j.category, j.hue) + " " + describeLook(m)
}

func describeLook(m *Measurement) string {
	return fmt.Sprintf("The colours are %s (colourfulness %.0f), the contrast is %s (%.2f), the detail is %s, the subject stands %s, and the light is %s.",
		say(m.Colourfulness, "almost grey", 20, "muted", 42, "rich", 85, "glaring"), m.Colourfulness,
		say(m.Contrast, "flat", .08, "soft", .13, "strong", .22, "harsh"), m.Contrast,
		say(m.Sharpness, "blurred", -3, "soft", -2.3, "crisp", -1.2, "noisy"),
		say(m.Symmetry, "off the centre", .15, "a little off the centre", .45, "in the centre", .8, "exactly in the centre"),
		say(m.Brightness, "dark", .3, "subdued", .4, "balanced", .58, "bright"))
}

func describeSubject(m *Measurement, want Category, hue float64) string {
	shape := fmt.Sprintf("The shape reads as a kind of %s, where the text asks for a kind of %s", m.Seen(), want)
	if m.Seen() == want {
		shape = fmt.Sprintf("The shape reads as a kind of %s, as the text asks", want)
	}
	got, chroma := hueOf(m.Figure[want])
	if chroma < .04 {
		return shape + "; it has hardly any colour."
	}
	off := math.Abs(math.Mod(got-hue+540, 360) - 180)
	return fmt.Sprintf("%s; its hue is %s (%.0f degrees from the one wanted).", shape,
		say(off, "right", 15, "close", 40, "off", 90, "wrong"), off)
}

// say puts a number in words: a below p, b below q, c below r, else d.
func say(x float64, a string, p float64, b string, q float64, c string, r float64, d string) string {
	switch {
	case x < p:
		return a
	case x < q:
		return b
	case x < r:
		return c
	}
	return d
}

// verdict writes a judgment of the two answers, 1 to 5 each: a level less for each level that the
// scores they state are off. An answer without a score from 0 to 5 for each picture gets 1.
func (j *judge) verdict(rng *rand.Rand) string {
	var b strings.Builder
	for i, answer := range j.answers {
		if i > 0 {
			b.WriteString("\n\n")
		}
		score, why := 1, "It does not give both pictures a number from 0 to 5."
		if stated, ok := statedScores(answer); ok {
			first := math.Abs(stated[0] - clip(j.levels[0], 0, 5))
			second := math.Abs(stated[1] - clip(j.levels[1], 0, 5))
			score = grade(5-first-second, 1, rng)
			why = fmt.Sprintf("It is off by %.1f levels on the first picture and by %.1f on the second.", first, second)
		}
		fmt.Fprintf(&b, "Output for Answer %c:\nScore: %d\nExplanation: %s", 'A'+i, score, why)
	}
	return b.String()
}

var (
	imageLabel  = regexp.MustCompile(`(?im)(?:\boutput (?:for|of) |^\W*)image ([12])\b`)
	statedScore = regexp.MustCompile(`(?i)\bscore\W*(-?\d+(?:\.\d+)?)`)
)

// statedScores finds the scores that an answer gives Image 1 and Image 2.
func statedScores(answer string) (scores [2]float64, ok bool) {
	var found [2]bool
	labels := imageLabel.FindAllStringSubmatchIndex(answer, -1)
	for n, at := range labels {
		end := len(answer)
		if n+1 < len(labels) {
			end = labels[n+1][0]
		}
		i := int(answer[at[2]] - '1')
		score := statedScore.FindStringSubmatch(answer[at[1]:end])
		if score == nil || found[i] {
			continue
		}
		v, err := strconv.ParseFloat(score[1], 64)
		if err != nil || v < 0 || v > 5 {
			return scores, false
		}
		scores[i], found[i] = v, true
	}
	return scores, found[0] && found[1]
}
