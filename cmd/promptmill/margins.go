package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/promptmill/promptmill/schemas"
)

// writeMargins draws the histogram of the pairs' margins, which prefer keeps as counts "margin_BOUND".
func writeMargins(w io.Writer, counts []schemas.Count) {
	type bin struct {
		bound string
		at    float64
		n     int64
	}
	var bins []bin
	var most int64
	for _, c := range counts {
		bound, ok := strings.CutPrefix(c.Reason, "margin_")
		if c.Outcome != schemas.Used || !ok {
			continue
		}
		at, err := strconv.ParseFloat(bound, 64) // "inf" parses
		if err != nil {
			continue
		}
		bins = append(bins, bin{bound, at, c.N})
		most = max(most, c.N)
	}
	if len(bins) == 0 {
		return
	}
	slices.SortFunc(bins, func(a, b bin) int {
		if a.at < b.at {
			return -1
		}
		return 1
	})
	fmt.Fprintln(w, "\n  margin of best over worst, up to")
	const width = 40
	for _, b := range bins {
		fmt.Fprintf(w, "  %6s %s %d\n", b.bound, strings.Repeat("#", int((b.n*width+most-1)/most)), b.n)
	}
}
