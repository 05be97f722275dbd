package train

import (
	"cmp"
	"math"
	"slices"

	"github.com/promptmill/promptmill/model/scene"
)

// A picture of 32x32 pixels is a grid of 4x4 patches of 8x8 pixels; a patch is 192 numbers, and 48 in the latents.
const (
	grid      = 4
	patchSide = scene.Side / grid
	patchSize = patchSide * patchSide * 3
	channels  = 48
	positions = grid * grid
	// latentSize is the number of latents of a picture: [48,4,4].
	latentSize = channels * positions
)

// latentScale makes latents so much smaller than noise that, at the last of Stable Diffusion's timesteps, hardly
// any of the picture is left in the sample: sampling begins with noise alone.
const latentScale = 0.3

// A Codec turns pictures into latents and back, linearly: the principal components of patches. Components are divided by
// the fourth root of their variance, so that large ones lead but do not drown the others, and have a mean square of 1.
type Codec struct {
	// Mean is a patch, Encode and Decode are [192][48] and [48][192] row by row.
	Mean, Encode, Decode []float32
	// Explained is the share of the variance that the components have.
	Explained float64
}

// patchPixel is where number i of patch p is in a picture.
func patchPixel(p, i int) int {
	y, x := p/grid*patchSide+i/(patchSide*3), p%grid*patchSide+i/3%patchSide
	return 3*(y*scene.Side+x) + i%3
}

// NewCodec finds the components of pictures' patches.
func NewCodec(pictures []*scene.Image) *Codec {
	n := float64(len(pictures) * positions)
	mean := make([]float64, patchSize)
	for _, img := range pictures {
		for p := range positions {
			for i := range mean {
				mean[i] += float64(img[patchPixel(p, i)]) / n
			}
		}
	}
	covariance := make([][]float64, patchSize)
	for i := range covariance {
		covariance[i] = make([]float64, patchSize)
	}
	patch := make([]float64, patchSize)
	for _, img := range pictures {
		for p := range positions {
			for i := range patch {
				patch[i] = float64(img[patchPixel(p, i)]) - mean[i]
			}
			for i, a := range patch {
				row := covariance[i]
				for j, b := range patch[:i+1] {
					row[j] += a * b
				}
			}
		}
	}
	var total float64
	for i, row := range covariance {
		for j := range row[:i+1] {
			row[j] /= n
			covariance[j][i] = row[j]
		}
		total += row[i]
	}
	values, vectors := eigen(covariance)
	c := &Codec{Encode: make([]float32, patchSize*channels), Decode: make([]float32, channels*patchSize)}
	for _, m := range mean {
		c.Mean = append(c.Mean, float32(m))
	}
	var root float64 // the mean of the square roots is what is left of the variance
	for _, v := range values[:channels] {
		root += math.Sqrt(v) / channels
		c.Explained += v / total
	}
	for k, v := range values[:channels] {
		scale := math.Sqrt(math.Sqrt(v) * root)
		for i, u := range vectors[k] {
			c.Encode[i*channels+k] = float32(u / scale)
			c.Decode[k*patchSize+i] = float32(u * scale)
		}
	}
	return c
}

// Latents writes the latents [48,4,4] of a picture, times latentScale.
func (c *Codec) Latents(img *scene.Image, out []float32) {
	for p := range positions {
		var z [channels]float32
		for i, m := range c.Mean {
			x := img[patchPixel(p, i)] - m
			for k, e := range c.Encode[i*channels:][:channels] {
				z[k] += x * e
			}
		}
		for k, v := range z {
			out[k*positions+p] = v * latentScale
		}
	}
}

// eigen returns the eigenvalues of a symmetric matrix, the largest first, and their vectors, by Jacobi's rotations. It
// destroys the matrix.
func eigen(a [][]float64) (values []float64, vectors [][]float64) {
	n := len(a)
	v := make([][]float64, n) // rows are vectors
	for i := range v {
		v[i] = make([]float64, n)
		v[i][i] = 1
	}
	for range 30 {
		var off, all float64
		for i := range a {
			for j := range a {
				all += a[i][j] * a[i][j]
				if i != j {
					off += a[i][j] * a[i][j]
				}
			}
		}
		if off <= 1e-22*all {
			break
		}
		for p := range a {
			for q := p + 1; q < len(a); q++ {
				if a[p][q] != 0 {
					rotate(a, v, p, q)
				}
			}
		}
	}
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int { return cmp.Compare(a[j][j], a[i][i]) })
	for _, i := range order {
		values, vectors = append(values, a[i][i]), append(vectors, v[i])
	}
	return values, vectors
}

// rotate makes a[p][q] zero (Golub and Van Loan, section 8.5).
func rotate(a, v [][]float64, p, q int) {
	theta := (a[q][q] - a[p][p]) / (2 * a[p][q])
	t := 1 / (math.Abs(theta) + math.Sqrt(theta*theta+1))
	if theta < 0 {
		t = -t
	}
	c := 1 / math.Sqrt(t*t+1)
	s := t * c
	for k := range a {
		x, y := a[k][p], a[k][q]
		a[k][p], a[k][q] = c*x-s*y, s*x+c*y
	}
	turn := func(x, y []float64) {
		for k := range x {
			x[k], y[k] = c*x[k]-s*y[k], s*x[k]+c*y[k]
		}
	}
	turn(a[p], a[q])
	turn(v[p], v[q])
}
