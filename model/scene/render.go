package scene

import (
	"math"
	"math/rand/v2"
)

// Side is the width and height of every picture of this world, in pixels.
const Side = 32

const pixels = Side * Side

// An Image is a picture: rows from the top, red, green and blue of each pixel, in [0, 1].
type Image [pixels * 3]float32

// A Layout is what chance decides about a picture; the zero Layout is a legal one.
type Layout struct {
	// Left puts an off-centre subject left of the middle.
	Left bool
	// Offset in [0, 1) is how far off centre it stands, Lift and Swell are standard normal deviations
	// of its height and size.
	Offset, Lift, Swell float64
	// Clutter is drawn behind the subject, as many of it as the style asks.
	Clutter [8]Blob
}

// A Blob is a piece of clutter: place, size and hue, each in [0, 1).
type Blob struct{ X, Y, Size, Hue float64 }

// NewLayout draws a layout. Equal seeds give equal layouts, whatever is drawn into them.
func NewLayout(seed int64) Layout {
	rng := rand.New(rand.NewPCG(uint64(seed), 0x7363656e65)) // "scene"
	l := Layout{Left: rng.IntN(2) == 0, Offset: rng.Float64(), Lift: rng.NormFloat64(), Swell: rng.NormFloat64()}
	for i := range l.Clutter {
		l.Clutter[i] = Blob{rng.Float64(), rng.Float64(), rng.Float64(), rng.Float64()}
	}
	return l
}

// Draw is Paint of what the prompt alone says (its first comma segment is the subject) in the layout
// of the seed.
func Draw(prompt string, seed int64) *Image { return Paint(Parse(prompt, ""), NewLayout(seed)) }

// Paint renders a state in a layout.
func Paint(st State, l Layout) *Image {
	s := &st.Style
	offset := (1 - s[sym]) * 6.5 * (.7 + .3*l.Offset)
	if l.Left {
		offset = -offset
	}
	cx, cy := 16+offset, 16.5+.7*l.Lift
	r := 5.5 + 9.5*s[scale] + .3*l.Swell
	soft := .25 + 2.6*math.Pow(1-s[sharp], 1.5)

	ground := hueTurn(st.Hue + 150 + 120*s[fantasy])
	subject := hueTurn(st.Hue)
	blobs := l.Clutter[:int(math.RoundToEven(s[clut]*10))]
	var paints [len(l.Clutter)]rgb
	for i, b := range blobs {
		paints[i] = hsv(hueTurn(b.Hue*360), min(1, s[sat]+.2), min(1, s[bri]+.25))
	}
	grain := s[det] * .34 * (.35 + .65*s[sharp])

	var img Image
	for i := range pixels {
		x, y := float64(i%Side)+.5, float64(i/Side)+.5
		light := s[glow] * math.Exp(-((x-16)*(x-16)+(y-13)*(y-13))/(2*11*11))
		cover := coverage(st.Category, x, y, cx, cy, r, soft) * st.Alpha

		value := clip(s[bri]-s[con]*.60-(y/Side-.5)*.35*s[con], .02, 1)
		back := hsv(ground, clip(s[sat]*.85, 0, 1), clip(value+.45*light, 0, 1))
		shade := 1 - .45*s[con]*clip((y-cy)/(r+1e-3), -1, 1)*.6
		front := hsv(subject, clip(s[sat]*1.15, 0, 1), clip(clip(s[bri]+s[con]*.80, .02, 1)*shade, 0, 1))
		for j, b := range blobs {
			m := edge(disc(x, y, b.X*Side, b.Y*Side, 1.5+2*b.Size), soft) * .85
			back, front = mix(back, paints[j], m), mix(front, paints[j], .5*m)
		}
		p := mix(back, front, cover)
		for k := range p {
			p[k] = (p[k] + grain*texture[i]*(.45+.55*cover)) * (1 + .25*light)
		}
		develop(s, p, img[3*i:3*i+3])
	}
	return &img
}

// develop is what warmth, fade and monochrome do to the whole picture, pixel by pixel.
func develop(s *Style, p rgb, out []float32) {
	w := s[warm]
	tint := rgb{.95, .55, .2}
	if w < 0 {
		tint = rgb{.25, .35, .85}
	}
	for k, g := range (rgb{.55, .10, -.55}) {
		p[k] *= 1 + g*w
	}
	p = mix(p, tint, .35*max(0, math.Abs(w)-.2))
	p = mix(p, rgb{.62, .62, .62}, .75*s[fade])
	grey := .299*p[0] + .587*p[1] + .114*p[2]
	p = mix(p, rgb{grey, grey, grey}, s[mono])
	for k := range p {
		out[k] = float32(clip(p[k], 0, 1))
	}
}

type rgb [3]float64

func mix(a, b rgb, t float64) rgb {
	for k := range a {
		a[k] = a[k]*(1-t) + b[k]*t
	}
	return a
}

func clip(x, low, high float64) float64 { return min(max(x, low), high) }

// hueTurn brings degrees to sextants in [0, 6).
func hueTurn(degrees float64) float64 { return math.Mod(degrees/60, 6) }

// hsv is the colour of a hue in sextants, a saturation and a value.
func hsv(h, s, v float64) rgb {
	var c rgb
	for i, n := range [3]float64{5, 3, 1} {
		k := math.Mod(n+h, 6)
		c[i] = v * (1 - s*clip(min(k, 4-k), 0, 1))
	}
	return c
}

// texture is the pattern that detail adds: a checkered wave and diagonal stripes. On a quarter of the
// diagonals the stripes' sine crosses zero, and its sign there is that of 2*pi*k/8 in 32 bits.
var texture = func() (t [pixels]float64) {
	for i := range t {
		x, y := float64(i%Side)+.5, float64(i/Side)+.5
		wave := math.Sin(2*math.Pi*x/4) * math.Sin(2*math.Pi*y/4)
		const turn = float32(2 * math.Pi)
		stripe := math.Sin(float64(turn * float32(x+y) / 8))
		t[i] = wave + .6*math.Copysign(1, stripe)
	}
	return t
}()
