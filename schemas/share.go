package schemas

import "math"

// A Share is a part of a number of trials with its 95% interval (Wilson 1927).
type Share struct {
	Value float64 `json:"value"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
	Of    int64   `json:"of"`
}

// NewShare is count of a number of trials; count may have halves. Of no trials nothing is known.
func NewShare(count float64, of int64) Share {
	if of == 0 {
		return Share{High: 1}
	}
	const z = 1.959964
	n := float64(of)
	p := count / n
	middle, wide := p+z*z/(2*n), z*math.Sqrt(p*(1-p)/n+z*z/(4*n*n))
	return Share{p, (middle - wide) / (1 + z*z/n), (middle + wide) / (1 + z*z/n), of}
}
