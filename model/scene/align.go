package scene

import "math"

// A template is a silhouette at one place and size, as a matched filter. Pixels that it does not
// touch are left out: the pictures it is held against have mean zero, so that its own mean drops out
// of the product, and a third of the pixels remains.
type template struct {
	category Category
	spans    []span
	mask     []float32 // of the spans' pixels, one after the other
	norm     float32   // 1 / norm of the whole mask less its mean
	inside   []uint16  // pixels where the mask is above its mean
}

type span struct{ start, n int }

// templates has every category at five places and three sizes, in the order in which equal matches
// are preferred.
var templates = func() []template {
	var out []template
	for c := range Category(Categories) {
		for _, cx := range []float64{10, 13, 16, 19, 22} {
			for _, r := range []float64{8.5, 10.5, 12.5} {
				out = append(out, newTemplate(c, cx, r))
			}
		}
	}
	return out
}()

func newTemplate(c Category, cx, r float64) template {
	t := template{category: c}
	var all [pixels]float64
	var m moments
	for i := range all {
		all[i] = coverage(c, float64(i%Side)+.5, float64(i/Side)+.5, cx, 16.5, r, .9)
		m.add(all[i])
	}
	t.norm = float32(1 / (m.deviation() * math.Sqrt(pixels)))
	for i, v := range all {
		if v > m.mean() {
			t.inside = append(t.inside, uint16(i))
		}
		const untouched = 1e-5
		if v < untouched {
			continue
		}
		if n := len(t.spans); n > 0 && t.spans[n-1].start+t.spans[n-1].n == i {
			t.spans[n-1].n++
		} else {
			t.spans = append(t.spans, span{i, 1})
		}
		t.mask = append(t.mask, float32(v))
	}
	return t
}

// against is the correlation of the template with the better of two centred, normalized maps.
func (t *template) against(a, b *[pixels]float32) float32 {
	var a0, a1, b0, b1 float32
	mask := t.mask
	for _, s := range t.spans {
		w, p, q := mask[:s.n], a[s.start:s.start+s.n], b[s.start:s.start+s.n]
		mask = mask[s.n:]
		for len(w) >= 2 && len(p) >= 2 && len(q) >= 2 { // two sums each, or the additions wait for one another
			a0 += w[0] * p[0]
			b0 += w[0] * q[0]
			a1 += w[1] * p[1]
			b1 += w[1] * q[1]
			w, p, q = w[2:], p[2:], q[2:]
		}
		if len(w) == 1 {
			a0 += w[0] * p[0]
			b0 += w[0] * q[0]
		}
	}
	return max(a0+a1, b0+b1) * t.norm
}

// match sets Shape, Figure and Ground: every silhouette is tried on the distance from the border's
// median colour and on the luma.
func (m *Measurement) match(img *Image, luma *[pixels]float32) {
	border := borderMedian(img)
	var salient [pixels]float32
	for i := range salient {
		for k, b := range border {
			salient[i] += abs32(img[3*i+k] - b)
		}
	}
	level := *luma
	normalize(&salient)
	normalize(&level)

	var best [Categories]*template
	for i := range templates {
		t := &templates[i]
		if r := float64(t.against(&salient, &level)); best[t.category] == nil || r > m.Shape[t.category] {
			best[t.category], m.Shape[t.category] = t, r
		}
	}
	var total [3]float64
	for i, v := range img {
		total[i%3] += float64(v)
	}
	for c, t := range best {
		n := float64(len(t.inside))
		for k := range total {
			var in float64
			for _, i := range t.inside {
				in += float64(img[3*int(i)+k])
			}
			m.Figure[c][k], m.Ground[c][k] = in/n, (total[k]-in)/(pixels-n)
		}
	}
}

// borderMedian is the median colour of the outermost pixels, the corners counted twice.
func borderMedian(img *Image) (out [3]float32) {
	for k := range out {
		var v [4 * Side]float32
		for i := range Side {
			v[4*i] = img[3*i+k]
			v[4*i+1] = img[3*(pixels-Side+i)+k]
			v[4*i+2] = img[3*i*Side+k]
			v[4*i+3] = img[3*(i*Side+Side-1)+k]
		}
		out[k] = median(v[:])
	}
	return out
}

// normalize brings a map to mean 0 and norm 1; one that is almost flat stays small.
func normalize(v *[pixels]float32) {
	var m moments
	for _, x := range v {
		m.add(float64(x))
	}
	mean, norm := m.mean(), m.deviation()*math.Sqrt(pixels)
	for i, x := range v {
		v[i] = float32((float64(x) - mean) / (norm + 1e-3))
	}
}

// alignment, in [0, 5], says how much the picture is of a category in a hue: .6 the silhouette (how
// well it matches, and how much better than the other categories), .4 the hue inside it.
func (m *Measurement) alignment(c Category, hue float64) float64 {
	shape, colour := m.likeness(c, hue)
	return 5 * (.6*shape + .4*colour)
}

// likeness is how much the picture shows a category in a hue, in two parts, each in [0, 1]: its silhouette (how well it
// matches, and how much better than the others), and its hue.
func (m *Measurement) likeness(c Category, hue float64) (shape, colour float64) {
	top := m.Shape[m.Seen()]
	var sum float64
	for _, r := range m.Shape {
		sum += math.Exp((r - top) * 14)
	}
	share := math.Exp((m.Shape[c]-top)*14) / sum
	shape = .5*share + .5*clip((m.Shape[c]-.35)/.5, 0, 1)

	got, chroma := hueOf(m.Figure[c])
	off := math.Abs(math.Mod(got-hue+540, 360) - 180)
	return shape, bell(off, 0, 40) * clip(chroma/.12, 0, 1)
}

// Seen is the category whose silhouette matches the picture best.
func (m *Measurement) Seen() Category {
	best := 0
	for c, r := range m.Shape {
		if r > m.Shape[best] {
			best = c
		}
	}
	return Category(best)
}

// hueOf is the hue in degrees and the chroma of a colour; a grey has hue 0.
func hueOf(c [3]float64) (hue, chroma float64) {
	top := max(c[0], c[1], c[2])
	chroma = top - min(c[0], c[1], c[2])
	switch {
	case chroma < 1e-4:
		return 0, chroma
	case top == c[0]:
		return 60 * math.Mod((c[1]-c[2])/chroma+6, 6), chroma
	case top == c[1]:
		return 60 * ((c[2]-c[0])/chroma + 2), chroma
	default:
		return 60 * ((c[0]-c[1])/chroma + 4), chroma
	}
}
