package vlm

import "math"

// The numbers of the filters are Pillow's.
const (
	nearest  = 0
	lanczos  = 1
	bilinear = 2
	bicubic  = 3
)

// A filter weighs pixels by their distance, up to its support.
type filter struct {
	support float64
	weight  func(float64) float64
}

var filters = map[int]filter{
	lanczos: {3, func(x float64) float64 {
		if x <= -3 || x >= 3 {
			return 0
		}
		return sinc(x) * sinc(x/3)
	}},
	bilinear: {1, func(x float64) float64 { return max(0, 1-math.Abs(x)) }},
	bicubic: {2, func(x float64) float64 {
		const a = -0.5
		switch x = math.Abs(x); {
		case x < 1:
			return ((a+2)*x-(a+3))*x*x + 1
		case x < 2:
			return (((x-5)*x+8)*x - 4) * a
		}
		return 0
	}},
}

func sinc(x float64) float64 {
	if x == 0 {
		return 1
	}
	x *= math.Pi
	return math.Sin(x) / x
}

// fixed is the number of bits behind the point in the weights of Pillow's 8-bit resampling.
const fixed = 32 - 8 - 2

// A window is the pixels that one pixel of the result is made of.
type window struct {
	first   int
	weights []int64
}

// windows follows Pillow's precompute_coeffs and normalize_coeffs_8bpc (src/libImaging/Resample.c).
func windows(in, out int, f filter) []window {
	scale := float64(in) / float64(out)
	wide := max(scale, 1)
	narrow := 1 / wide // Pillow multiplies: the last bit may be another
	support := f.support * wide
	all := make([]window, out)
	for i := range all {
		center := (float64(i) + .5) * scale
		first := max(int(center-support+.5), 0)
		last := min(int(center+support+.5), in)
		weights := make([]float64, last-first)
		sum := 0.
		for j := range weights {
			weights[j] = f.weight((float64(j+first) - center + .5) * narrow)
			sum += weights[j]
		}
		w := window{first, make([]int64, len(weights))}
		for j, v := range weights {
			if sum != 0 {
				v /= sum
			}
			w.weights[j] = int64(math.Copysign(.5, v) + v*(1<<fixed))
		}
		all[i] = w
	}
	return all
}

// resize scales as Pillow's Image.resize does, bit for bit: lines first, then columns, 8 bits between them. (Pillow 13
// begins with the columns where it finds that cheaper.)
func (p pixels) resize(width, height, resample int) pixels {
	if resample == nearest {
		return p.pick(width, height)
	}
	f := filters[resample]
	if width != p.width {
		out := pixels{width, p.height, make([]uint8, 3*width*p.height)}
		all := windows(p.width, width, f)
		for y := range p.height {
			line := p.data[y*p.width*3:]
			for x, w := range all {
				weigh(out.data[(y*width+x)*3:], line[w.first*3:], 3, w.weights)
			}
		}
		p = out
	}
	if height != p.height {
		out := pixels{p.width, height, make([]uint8, 3*p.width*height)}
		for y, w := range windows(p.height, height, f) {
			for x := range p.width {
				weigh(out.data[(y*p.width+x)*3:], p.data[(w.first*p.width+x)*3:], p.width*3, w.weights)
			}
		}
		p = out
	}
	return p
}

// weigh writes one pixel, the sum of those at from, step apart.
func weigh(to, from []uint8, step int, weights []int64) {
	r, g, b := int64(1)<<(fixed-1), int64(1)<<(fixed-1), int64(1)<<(fixed-1)
	for i, w := range weights {
		o := i * step
		r += w * int64(from[o])
		g += w * int64(from[o+1])
		b += w * int64(from[o+2])
	}
	to[0], to[1], to[2] = clip(r), clip(g), clip(b)
}

func clip(v int64) uint8 { return uint8(min(max(v>>fixed, 0), 255)) }

// pick is resize with the nearest pixel.
func (p pixels) pick(width, height int) pixels {
	out := pixels{width, height, make([]uint8, 0, 3*width*height)}
	for y := range height {
		from := min(int((float64(y)+.5)*float64(p.height)/float64(height)), p.height-1)
		for x := range width {
			o := (from*p.width + min(int((float64(x)+.5)*float64(p.width)/float64(width)), p.width-1)) * 3
			out.data = append(out.data, p.data[o:o+3]...)
		}
	}
	return out
}
