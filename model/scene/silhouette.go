package scene

import "math"

// distance is the signed distance, roughly, from (x, y) to the outline of a category's silhouette,
// in a frame where the subject fills [-1, 1]; y grows downwards, negative is inside.
func distance(c Category, x, y float64) float64 {
	switch c {
	case Person:
		return min(disc(x, y, 0, -.35, .38), max(disc(x, y*.8, 0, .85, .75), y-1.05))
	case City:
		return min(box(x, y, -.62, .35, .25, .65), box(x, y, 0, .05, .27, .95), box(x, y, .62, .5, .25, .5))
	case Mountain:
		return min(peak(x, y, -.25, -.75, .9, .95), peak(x, y, .6, -.15, .9, .65))
	case Tree:
		return min(disc(x, y, 0, -.3, .62), box(x, y, 0, .6, .13, .45))
	case Animal:
		return min(math.Hypot((x+.1)*.75, y-.35)-.45, disc(x, y, .55, -.25, .33),
			box(x, y, -.5, .8, .09, .25), box(x, y, .2, .8, .09, .25))
	case Vehicle:
		return min(box(x, y, 0, .2, .95, .22), box(x, y, -.05, -.15, .5, .22),
			disc(x, y, -.55, .5, .24), disc(x, y, .55, .5, .24))
	case Robot:
		return min(box(x, y, 0, -.55, .35, .3), box(x, y, 0, .35, .5, .5), box(x, y, 0, .2, .85, .12))
	case House:
		return min(box(x, y, 0, .45, .6, .5), peak(x, y, 0, -.85, 0, .85))
	case Flower:
		return math.Hypot(x, y) - (.58 + .28*math.Cos(6*math.Atan2(y, x)))
	case Planet:
		ring := math.Abs(math.Hypot(x*.7, (y+.25*x)*2.4)-.72) - .09
		return min(disc(x, y, 0, 0, .55), ring)
	case Monster:
		turn := math.Atan2(y, x) * 7 / (2 * math.Pi)
		spike := math.Abs((turn-math.Floor(turn))*2 - 1)
		return math.Hypot(x, y) - (.62 + .3*spike - .1)
	default:
		return math.Abs(x) + math.Abs(y) - .85
	}
}

func disc(x, y, cx, cy, r float64) float64 { return math.Hypot(x-cx, y-cy) - r }

func box(x, y, cx, cy, w, h float64) float64 { return max(math.Abs(x-cx)-w, math.Abs(y-cy)-h) }

// peak is a triangle with its apex at (cx, top), 2w wide at the bottom.
func peak(x, y, cx, top, bottom, w float64) float64 {
	slope := min(max((y-top)/(bottom-top+1e-6), 0), 1.2)
	return max(y-bottom, top-y, math.Abs(x-cx)-w*slope) * .8
}

// edge turns a distance in pixels into coverage in (0, 1) with an edge about 4 soft pixels wide.
func edge(d, soft float64) float64 {
	return 1 / (1 + math.Exp(min(max(d/soft, -30), 30)))
}

// coverage is how much of the pixel at (x, y) a silhouette of radius r at (cx, cy) covers.
func coverage(c Category, x, y, cx, cy, r, soft float64) float64 {
	return edge(distance(c, (x-cx)/r, (y-cy)/r)*r, soft)
}
