package vlm

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/promptmill/promptmill/model"
)

// chance is the generator of the answer with a seed to a prompt: no other request or answer bears on it.
func (p *prompt) chance(seed int64) *rand.Rand {
	h := sha256.New()
	b := binary.BigEndian.AppendUint64(nil, uint64(seed))
	b = binary.BigEndian.AppendUint64(b, uint64(len(p.ids)))
	for _, id := range p.ids {
		b = binary.BigEndian.AppendUint32(b, uint32(id))
	}
	h.Write(b)
	for _, digest := range p.pictures {
		h.Write([]byte(digest))
	}
	sum := h.Sum(nil)
	return rand.New(rand.NewPCG(binary.BigEndian.Uint64(sum), binary.BigEndian.Uint64(sum[8:])))
}

// A sampler draws tokens. It is not safe for concurrent use.
type sampler struct {
	weights []float64
	classes []uint16
	kept    []int32
	border  []int32
}

// A class is the weights within an eighth of an octave, counted down from the largest; smaller ones than those of all
// classes, 2^-64, count for nothing.
const classes = 8 * 64

// draw returns a token: with probabilities exp(logit/temperature), of the likeliest tokens that together reach topP the
// draw is among. Of equal logits the first token goes before. Temperature 0 takes the likeliest.
func (s *sampler) draw(logits []float32, how model.Sampling, rng *rand.Rand) (int32, error) {
	largest, top, err := argmax(logits)
	if err != nil {
		return 0, err
	}
	if how.Temperature < 1e-6 { // its inverse would not be a number
		return largest, nil
	}
	s.weights = slices.Grow(s.weights[:0], len(logits))[:len(logits)]
	s.classes = slices.Grow(s.classes[:0], len(logits))[:len(logits)]
	var sums [classes]float64
	by, all := math.Log2E/how.Temperature, 0.
	for i, l := range logits {
		s.weights[i], s.classes[i] = 0, classes
		if y := (float64(l) - top) * by; y > -classes/8 {
			w, c := exp2(y), uint16(-8*y)
			s.weights[i], s.classes[i] = w, c
			sums[c] += w
			all += w
		}
	}
	reach := all
	if how.TopP > 0 {
		reach *= how.TopP
	}
	return s.pick(rng.Float64() * s.keep(sums[:], reach)), nil
}

// exp2 is 2 to the power of y, for y in [-1000, 0]: to 10^-8, and four times faster than math.Exp2.
func exp2(y float64) float64 {
	n := int(y - .5)
	u := (y - float64(n)) * math.Ln2 // within .35 of 0
	p := 1 + u*(1+u*(1./2+u*(1./6+u*(1./24+u*(1./120+u*(1./720+u*(1./5040)))))))
	return p * math.Float64frombits(uint64(1023+n)<<52)
}

// keep keeps the likeliest tokens whose weights reach a sum together, and returns what theirs is. It puts only the class
// in order that the border runs through: sorting a vocabulary takes longer than a step of a small model.
func (s *sampler) keep(sums []float64, reach float64) float64 {
	within, through := 0., 0
	for ; through < classes-1 && within+sums[through] < reach; through++ {
		within += sums[through]
	}
	s.kept, s.border = s.kept[:0], s.border[:0]
	for i, c := range s.classes {
		if int(c) < through {
			s.kept = append(s.kept, int32(i))
		} else if int(c) == through {
			s.border = append(s.border, int32(i))
		}
	}
	slices.SortStableFunc(s.border, func(a, b int32) int { return order(s.weights[a], s.weights[b]) })
	for _, token := range s.border {
		if within >= reach {
			break
		}
		s.kept = append(s.kept, token)
		within += s.weights[token]
	}
	return within
}

// pick returns the token at a point of the sum of those that are kept.
func (s *sampler) pick(at float64) int32 {
	for _, token := range s.kept {
		if at -= s.weights[token]; at < 0 {
			return token
		}
	}
	return s.kept[len(s.kept)-1] // the sum was rounded
}

// argmax is the token with the largest logit, the first of equal ones, and that logit.
func argmax(logits []float32) (int32, float64, error) {
	best, largest := 0, logits[0]
	better := func(from int, among []float32) {
		for i, l := range among {
			if l > largest {
				best, largest = from+i, l
			}
		}
	}
	// Few are larger than all before them. To look at eight in a row takes two thirds of the time.
	i := 0
	for ; i+8 <= len(logits); i += 8 {
		v := (*[8]float32)(logits[i:])
		if v[0] > largest || v[1] > largest || v[2] > largest || v[3] > largest || v[4] > largest || v[5] > largest || v[6] > largest || v[7] > largest {
			better(i, v[:])
		}
	}
	better(i, logits[i:])
	top := float64(largest)
	if math.IsNaN(top) || math.IsInf(top, 0) {
		return 0, 0, errLogits
	}
	return int32(best), top, nil
}

var errLogits = errors.New("vlm: the decoder gave logits that are not numbers; half precision may have overflowed")

// logSoftmax returns the logarithms of the probabilities of a row of logits.
func logSoftmax(logits []float32) ([]float64, error) {
	_, top, err := argmax(logits)
	if err != nil {
		return nil, err
	}
	sum := 0.
	for _, l := range logits {
		sum += math.Exp(float64(l) - top)
	}
	out := make([]float64, len(logits))
	for i, l := range logits {
		out[i] = float64(l) - top - math.Log(sum)
	}
	return out, nil
}
