package diffusion

import "math"

// A source draws standard normal numbers as PyTorch's CPU generator does (torch.Generator().manual_seed, torch.randn),
// so that a seed means the picture that diffusers draws from it. The numbers agree to a few units in the last place:
// PyTorch's vectorised logarithm and cosine are not Go's.
//
// Sources: ATen/core/MT19937RNGEngine.h (the Mersenne Twister of Matsumoto and Nishimura 1998),
// aten/src/ATen/native/cpu/DistributionTemplates.h, normal_fill.
type source struct {
	state [624]uint32
	next  int
}

func newSource(seed int64) *source {
	s := &source{next: 624}
	s.state[0] = uint32(seed)
	for i := 1; i < len(s.state); i++ {
		s.state[i] = 1812433253*(s.state[i-1]^s.state[i-1]>>30) + uint32(i)
	}
	return s
}

func (s *source) bits() uint32 {
	const n, m = 624, 397
	if s.next == n {
		for i := range n {
			y := s.state[i]&0x80000000 | s.state[(i+1)%n]&0x7fffffff
			s.state[i] = s.state[(i+m)%n] ^ y>>1 ^ -(y&1)&0x9908b0df
		}
		s.next = 0
	}
	y := s.state[s.next]
	s.next++
	y ^= y >> 11
	y ^= y << 7 & 0x9d2c5680
	y ^= y << 15 & 0xefc60000
	return y ^ y>>18
}

// uniform is in [0, 1), of 24 bits.
func (s *source) uniform() float32 { return float32(s.bits()&(1<<24-1)) * (1.0 / (1 << 24)) }

// normal fills out, of 16 numbers or more, as randn does: blocks of 16 uniform numbers become normal ones (Box and
// Muller 1958), and where the length is no multiple of 16 the last 16 are drawn again.
func (s *source) normal(out []float32) {
	for i := range out {
		out[i] = s.uniform()
	}
	for i := 0; i+16 <= len(out); i += 16 {
		boxMuller(out[i : i+16])
	}
	if len(out)%16 != 0 && len(out) >= 16 {
		tail := out[len(out)-16:]
		for i := range tail {
			tail[i] = s.uniform()
		}
		boxMuller(tail)
	}
}

func boxMuller(block []float32) {
	for i := range 8 {
		radius := float32(math.Sqrt(float64(-2 * float32(math.Log(float64(1-block[i]))))))
		angle := 2 * float32(math.Pi) * block[i+8]
		block[i], block[i+8] = radius*float32(math.Cos(float64(angle))), radius*float32(math.Sin(float64(angle)))
	}
}
