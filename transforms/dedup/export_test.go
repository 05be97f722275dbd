package dedup

import "fmt"

// Bucket compares sets in one bucket, given in order of rank, and returns the indexes of those dropped.
func Bucket(threshold float64, sets [][]uint32) (dropped []int) {
	fn := compareFn{Config: Config{Threshold: threshold}}
	entries := make([]entry, len(sets))
	for i, s := range sets {
		entries[i] = entry{rank: uint64(i), id: fmt.Sprint(i), set: s}
	}
	fn.bucket(entries, func(id string, _ bool) {
		var i int
		_, _ = fmt.Sscan(id, &i)
		dropped = append(dropped, i)
	})
	return dropped
}
