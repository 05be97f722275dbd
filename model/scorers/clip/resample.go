package clip

import "math"

// What follows is Pillow's libImaging/Resample.c for 8-bit pixels: weights in fixed point, a horizontal
// pass rounded to 8 bits, then a vertical one.
const (
	// support is the radius of the bicubic filter.
	support = 2
	// precision is PRECISION_BITS: 8 are the result's, 2 are room for overshoot.
	precision = 32 - 8 - 2
)

// bicubic is Keys' kernel with a = -0.5. The conversions keep compilers from fusing a multiplication and an
// addition, which would round otherwise on some processors.
func bicubic(x float64) float64 {
	const a = -0.5
	x = math.Abs(x)
	switch {
	case x < 1:
		return float64(float64(float64(float64((a+2)*x)-(a+3))*x)*x) + 1
	case x < 2:
		return (float64((float64((x-5)*x)+8)*x) - 4) * a
	}
	return 0
}

// A tap says which input pixels make an output pixel: those from first on, weighted.
type tap struct {
	first   int
	weights []int32
}

// newTaps are the taps of Side output pixels from from on, where in pixels become out. Where in is out,
// Pillow leaves the pass out; a weight of one is the same.
func newTaps(in, out, from int) [Side]tap {
	var taps [Side]tap
	if in == out {
		for i := range taps {
			taps[i] = tap{from + i, []int32{1 << precision}}
		}
		return taps
	}
	scale := float64(in) / float64(out)
	stretch := max(scale, 1) // a filter for fewer pixels looks at more of them
	radius := support * stretch
	for i := range taps {
		center := float64((float64(from+i) + 0.5) * scale)
		first := max(int(center-radius+0.5), 0)
		end := min(int(center+radius+0.5), in)
		exact := make([]float64, end-first)
		var sum float64
		for k := range exact {
			exact[k] = bicubic((float64(k+first) - center + 0.5) * (1 / stretch))
			sum += exact[k]
		}
		weights := make([]int32, len(exact))
		for k, w := range exact {
			weights[k] = int32(math.Copysign(0.5, w) + float64(w/sum*(1<<precision)))
		}
		taps[i] = tap{first, weights}
	}
	return taps
}

// resample makes the two passes, each only over what the crop needs.
func resample(src raster, columns, rows [Side]tap) *Crop {
	top := rows[0].first
	last := rows[Side-1]
	narrow := make([][Side][3]uint8, last.first+len(last.weights)-top)
	for y := range narrow {
		line := src.pix[3*(top+y)*src.width:]
		for x, t := range columns {
			var sum [3]int
			for k, w := range t.weights {
				p := line[3*(t.first+k):]
				sum[0] += int(p[0]) * int(w)
				sum[1] += int(p[1]) * int(w)
				sum[2] += int(p[2]) * int(w)
			}
			narrow[y][x] = clip8(sum)
		}
	}
	var crop Crop
	for y, t := range rows {
		for x := range Side {
			var sum [3]int
			for k, w := range t.weights {
				p := narrow[t.first-top+k][x]
				sum[0] += int(p[0]) * int(w)
				sum[1] += int(p[1]) * int(w)
				sum[2] += int(p[2]) * int(w)
			}
			crop[y][x] = clip8(sum)
		}
	}
	return &crop
}

// clip8 rounds fixed point to 8 bits.
func clip8(sum [3]int) (p [3]uint8) {
	for c, s := range sum {
		p[c] = uint8(min(max((s+1<<(precision-1))>>precision, 0), 255))
	}
	return p
}
