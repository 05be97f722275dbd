package judgment

import (
	"cmp"
	"slices"
	"sort"
)

// A Cell is a place of the histogram: the scores that a standard answer gives the two pictures.
type Cell struct {
	Score1 float64 `json:"score1"`
	Score2 float64 `json:"score2"`
}

// A Place is one judgment in the order by which rows are taken.
type Place struct {
	Rank uint64
	ID   string
	Cell Cell
}

// Compare orders by rank, then by ID.
func (p Place) Compare(o Place) int {
	return cmp.Or(cmp.Compare(p.Rank, o.Rank), cmp.Compare(p.ID, o.ID))
}

// Level chooses n of the places, all if there are fewer, so that the cells are as even as can be: no cell has
// more than one place beyond any cell from which places were left out. Within a cell the first by rank are
// taken, and what is over at the last level goes to the first by rank as well. The result is, for each cell
// that has any, the last place taken; it does not depend on the order of places, which it sorts.
func Level(places []Place, n int) map[Cell]Place {
	slices.SortFunc(places, Place.Compare)
	cells := map[Cell][]Place{}
	for _, p := range places {
		cells[p.Cell] = append(cells[p.Cell], p)
	}
	under := func(height int) (sum int) {
		for _, c := range cells {
			sum += min(len(c), height)
		}
		return sum
	}
	// The greatest height that does not take more than n.
	height := sort.Search(len(places), func(h int) bool { return under(h+1) > n })
	left := n - under(height)
	last := map[Cell]Place{}
	for cell, c := range cells {
		if height > 0 {
			last[cell] = c[min(len(c), height)-1]
		}
	}
	var next []Place
	for _, c := range cells {
		if len(c) > height {
			next = append(next, c[height])
		}
	}
	slices.SortFunc(next, Place.Compare)
	for _, p := range next[:min(max(left, 0), len(next))] {
		last[p.Cell] = p
	}
	return last
}
