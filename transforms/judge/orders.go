package judge

// What the scores that two things got in both orders say together.
const (
	// Same: one thing is better in both orders.
	Same = "same"
	// FirstPlace and SecondPlace: whatever stands there is better both times.
	FirstPlace  = "image_1"
	SecondPlace = "image_2"
	// Undecided: in one order neither is better.
	Undecided = "undecided"
	// Unread: in one order there is no answer of use.
	Unread = "unread"
)

// BothOrders says what two leads mean: how far the thing in the first place was ahead, before and after the two
// things changed places.
func BothOrders(before, after float64) string {
	switch {
	case before == 0 || after == 0:
		return Undecided
	case before > 0 && after > 0:
		return FirstPlace
	case before < 0 && after < 0:
		return SecondPlace
	}
	return Same
}

// Orders counts what pairs of things that were judged in both orders say about a judge's sense of place.
type Orders struct {
	// Same counts the pairs with one better thing in both orders, Image1 and Image2 those where that place won
	// both times, Undecided those with equal scores in one order, Unread those without two answers of use.
	Same      int64 `json:"same"`
	Image1    int64 `json:"image_1"`
	Image2    int64 `json:"image_2"`
	Undecided int64 `json:"undecided"`
	Unread    int64 `json:"unread"`
	// FlipRate is the part of the decided pairs, Same, Image1 and Image2, that are not Same; 0 if there are none.
	FlipRate float64 `json:"flip_rate"`
}

// Add counts n pairs of one of the outcomes that BothOrders has, or Unread.
func (o *Orders) Add(outcome string, n int64) {
	switch outcome {
	case Same:
		o.Same += n
	case FirstPlace:
		o.Image1 += n
	case SecondPlace:
		o.Image2 += n
	case Undecided:
		o.Undecided += n
	case Unread:
		o.Unread += n
	}
	if decided := o.Same + o.Image1 + o.Image2; decided > 0 {
		o.FlipRate = float64(o.Image1+o.Image2) / float64(decided)
	}
}
