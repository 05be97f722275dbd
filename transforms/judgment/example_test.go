package judgment_test

import (
	"fmt"

	"github.com/promptmill/promptmill/transforms/judgment"
)

// Most pictures of rewritten prompts get 3 or 4; the histogram is cut from the top.
func ExampleLevel() {
	var pool []judgment.Place
	for i, score := range []float64{4, 4, 3, 4, 3, 4, 1, 4} {
		pool = append(pool, judgment.Place{Rank: uint64(i), ID: fmt.Sprint(i), Cell: judgment.Cell{Score1: 2, Score2: score}})
	}
	last := judgment.Level(pool, 5)
	for _, score := range []float64{1, 3, 4} {
		fmt.Println(score, "up to rank", last[judgment.Cell{Score1: 2, Score2: score}].Rank)
	}
	// Output:
	// 1 up to rank 6
	// 3 up to rank 4
	// 4 up to rank 1
}
