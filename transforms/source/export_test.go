package source

import (
	"bytes"
	"fmt"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/io/rtrackers/offsetrange"
)

// A Row is what a decoder made of one record.
type Row struct {
	Pos              int64
	Text, ID, Reason string
}

type memory struct{ *bytes.Reader }

func (memory) Close() error { return nil }

// Ranges reads data of a format through a tracker for each range between cuts; after each after records
// (0: never) the tracker is asked to split, and the rest is read by another one. It returns the rows in
// order, and an error also for a tracker that is not done.
func Ranges(format string, data []byte, cuts []int64, limit, after int) (rows []Row, err error) {
	f := file{Path: "mem." + format, Format: format, Bytes: int64(len(data))}
	in := Input{Format: format}
	units := int64(1)
	if f.splittable() {
		units = f.Bytes
	} else if format == Parquet {
		if units, err = rowGroups(memory{bytes.NewReader(data)}); err != nil {
			return nil, err
		}
	}
	var queue []offsetrange.Restriction
	start := int64(0)
	for _, cut := range append(cuts, units) {
		queue = append(queue, offsetrange.Restriction{Start: start, End: cut})
		start = cut
	}
	for len(queue) > 0 {
		r := queue[0]
		queue = queue[1:]
		tr := offsetrange.NewTracker(r)
		claim := func(pos int64) bool { return tr.TryClaim(pos) }
		if units == 1 {
			if !tr.TryClaim(int64(0)) {
				continue
			}
			claim = func(int64) bool { return true }
		}
		seen := 0
		s := scan{
			obj: memory{bytes.NewReader(data)}, file: f, cols: in.columns(promptRows), limit: limit, start: r.Start, claim: claim,
			yield: func(rec *record) bool {
				rows = append(rows, Row{rec.pos, string(rec.cells[textRole].bytes), string(rec.cells[idRole].bytes), rec.reason})
				if seen++; seen == after {
					if _, rest, _ := tr.TrySplit(0.5); rest != nil {
						queue = append([]offsetrange.Restriction{rest.(offsetrange.Restriction)}, queue...)
					}
				}
				return true
			},
		}
		if err := s.run(); err != nil {
			return rows, err
		}
		if !tr.IsDone() {
			return rows, fmt.Errorf("tracker %v is not done", tr)
		}
	}
	return rows, nil
}

// Clean is clean.
func Clean(b []byte) (string, string) { return clean(b) }
