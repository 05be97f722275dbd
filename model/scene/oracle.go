package scene

import (
	"math"

	"github.com/promptmill/promptmill/schemas"
)

// Scores are the oracle's, each in [0, 5].
type Scores struct{ Aesthetic, Pick, Alignment float64 }

// Total is the sum of the three, in [0, 15].
func (s Scores) Total() float64 { return s.Aesthetic + s.Pick + s.Alignment }

// Of returns the score of an aspect named as in schemas, or Total for any other name.
func (s Scores) Of(aspect string) float64 {
	switch aspect {
	case schemas.Aesthetic:
		return s.Aesthetic
	case schemas.Pick:
		return s.Pick
	case schemas.Alignment:
		return s.Alignment
	}
	return s.Total()
}

// Oracle measures how good a picture of the raw prompt img is, without noise. It is the truth of this
// world: no model inside a training loop may be given it as a reward.
func Oracle(img *Image, raw string) Scores { return Measure(img).Scores(raw) }

// A Measurement is all that the oracle knows of a picture, whatever text it was drawn for.
type Measurement struct {
	// Colourfulness is Hasler and Suesstrunk's (2003) on the scale of 8-bit pixels. Contrast is the
	// standard deviation of luma in 0..1, Sharpness log10 of the variance of its Laplacian, Symmetry
	// the correlation of the saliency map with its mirror image, Brightness the mean of luma.
	Colourfulness, Contrast, Sharpness, Symmetry, Brightness float64
	// Shape is how well the best placed silhouette of each category matches: a correlation.
	Shape [Categories]float64
	// Figure is the mean colour inside that silhouette, Ground the mean colour outside.
	Figure, Ground [Categories][3]float64
}

// Measure measures a picture.
func Measure(img *Image) *Measurement {
	var m Measurement
	luma := m.colour(img)
	m.focus(luma)
	m.balance(img)
	m.match(img, luma)
	return &m
}

// colour sets what rests on one pixel at a time and returns the luma.
func (m *Measurement) colour(img *Image) *[pixels]float32 {
	var rg, yb, l moments
	var luma [pixels]float32
	for i := range luma {
		r, g, b := float64(img[3*i]), float64(img[3*i+1]), float64(img[3*i+2])
		rg.add(255 * (r - g))
		yb.add(255 * (.5*(r+g) - b))
		y := .299*r + .587*g + .114*b
		l.add(y)
		luma[i] = float32(y)
	}
	m.Colourfulness = math.Hypot(rg.deviation(), yb.deviation()) + .3*math.Hypot(rg.mean(), yb.mean())
	m.Contrast = l.deviation()
	m.Brightness = l.mean()
	return &luma
}

// focus sets Sharpness: log10 of the variance of the Laplacian.
func (m *Measurement) focus(luma *[pixels]float32) {
	var v moments
	for y := 1; y < Side-1; y++ {
		for x := 1; x < Side-1; x++ {
			i := y*Side + x
			v.add(float64(luma[i]*4 - luma[i-Side] - luma[i+Side] - luma[i-1] - luma[i+1]))
		}
	}
	d := v.deviation()
	m.Sharpness = math.Log10(d*d + 1e-5)
}

// balance sets Symmetry, of the distance of each pixel from the median colour.
func (m *Measurement) balance(img *Image) {
	var buf [pixels]float32
	var middle [3]float32
	for k := range middle {
		for i := range buf {
			buf[i] = img[3*i+k]
		}
		middle[k] = median(buf[:])
	}
	var sum float64
	for i := range buf {
		buf[i] = abs32(img[3*i]-middle[0]) + abs32(img[3*i+1]-middle[1]) + abs32(img[3*i+2]-middle[2])
		sum += float64(buf[i])
	}
	mean := sum / pixels
	unit := 255 / (255*mean + 1e-6) // brings the map's mean to 1; a flat picture stays 0
	var same, mirrored float64
	for i := range buf {
		a := (float64(buf[i]) - mean) * unit
		b := (float64(buf[i^(Side-1)]) - mean) * unit
		same += a * a
		mirrored += a * b
	}
	m.Symmetry = mirrored / pixels / (same/pixels + 1e-6)
}

// Parts are the five components of the aesthetic score, each in [0, 1]: colourfulness, contrast,
// sharpness, symmetry, brightness.
func (m *Measurement) Parts() [5]float64 {
	return [5]float64{
		bell(m.Colourfulness, 62, 24),
		bell(m.Contrast, .17, .055),
		bell(m.Sharpness, -1.75, .6),
		clip((m.Symmetry+.2)/1.1, 0, 1),
		bell(m.Brightness, .47, .14),
	}
}

// Scores are the oracle's scores of the picture for a raw prompt.
func (m *Measurement) Scores(raw string) Scores {
	p := m.Parts()
	s := Scores{
		Aesthetic: 5 * (.28*p[0] + .22*p[1] + .20*p[2] + .18*p[3] + .12*p[4]),
		Alignment: m.alignment(Subject(raw)),
	}
	s.Pick = .5*s.Aesthetic + .5*s.Alignment
	return s
}

func bell(x, peak, width float64) float64 {
	return math.Exp(-.5 * (x - peak) * (x - peak) / (width * width))
}

func abs32(x float32) float32 { return max(x, -x) }

// moments sums a series.
type moments struct{ n, sum, squares float64 }

func (m *moments) add(x float64)      { m.n++; m.sum += x; m.squares += x * x }
func (m *moments) mean() float64      { return m.sum / m.n }
func (m *moments) deviation() float64 { return math.Sqrt(max(0, m.squares/m.n-m.mean()*m.mean())) }

// median returns the mean of the two middle values of an even number of them, and reorders v.
func median(v []float32) float32 {
	high := len(v) / 2
	partition(v, high)
	below := v[0]
	for _, x := range v[1:high] {
		below = max(below, x)
	}
	return (below + v[high]) / 2
}

// partition is Hoare's selection: it puts the k-th smallest value at k and none larger before it.
func partition(v []float32, k int) {
	for low, high := 0, len(v)-1; low < high; {
		pivot := v[k]
		i, j := low, high
		for i <= j {
			for v[i] < pivot {
				i++
			}
			for v[j] > pivot {
				j--
			}
			if i <= j {
				v[i], v[j] = v[j], v[i]
				i++
				j--
			}
		}
		if j < k {
			low = i
		}
		if k < i {
			high = j
		}
	}
}
