package recipe

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// maxFaults bounds how many faults are told at once: beyond it, one cause has many.
const maxFaults = 20

// A fault is something wrong at a place.
type fault struct {
	at  place
	err error
}

func (f *fault) Error() string { return f.at.String() + ": " + f.err.Error() }
func (f *fault) Unwrap() error { return f.err }

type faults []*fault

func (fs *faults) add(at place, format string, args ...any) {
	*fs = append(*fs, &fault{at, fmt.Errorf(format, args...)})
}

// err joins the faults in the order of the text: those of the file, of its bases, and then of flags as
// they were given; nil when there are none.
func (fs faults) err(file string) error {
	rank := func(f *fault) int {
		switch {
		case f.at.file == file:
			return 0
		case f.at.line > 0:
			return 1
		}
		return 2
	}
	slices.SortStableFunc(fs, func(a, b *fault) int {
		if rank(a) == 2 && rank(b) == 2 {
			return 0
		}
		return cmp.Or(
			cmp.Compare(rank(a), rank(b)),
			cmp.Compare(a.at.file, b.at.file),
			cmp.Compare(a.at.line, b.at.line),
			cmp.Compare(a.at.col, b.at.col))
	})
	var errs []error
	for i, f := range fs {
		if i == maxFaults {
			errs = append(errs, fmt.Errorf("and %d more", len(fs)-i))
			break
		}
		errs = append(errs, f)
	}
	return errors.Join(errs...)
}

// pathPattern is how a fault of a Validate method starts.
var pathPattern = regexp.MustCompile(`^([\pL_][\pL\pN_./\[\]-]*): `)

// Locate puts the place of its key before each fault that err joins: "my.yaml:12:16: " or "--set
// rewrite.temperature=3: ". A fault starts with the path of its key and a colon, as the Validate
// methods write it. A key that is written nowhere has its default: the place is then that of the
// nearest key around it, and the fault says "(default)". Errors wrapped by err stay reachable by
// errors.Is and errors.As. Locate of nil is nil.
func (d *Document) Locate(err error) error {
	var fs faults
	for _, leaf := range leaves(err) {
		m := pathPattern.FindStringSubmatch(leaf.Error())
		if m == nil {
			fs = append(fs, &fault{place{file: d.name}, leaf})
			continue
		}
		n, rest := d.root.find(m[1])
		if rest != "" {
			leaf = fmt.Errorf("(default) %w", leaf)
		}
		fs = append(fs, &fault{n.at, leaf})
	}
	return fs.err(d.name)
}

// leaves takes joined errors apart. An error that only wraps others in its own words stays whole.
func leaves(err error) []error {
	if err == nil {
		return nil
	}
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) {
		return []error{err}
	}
	var all []error
	var texts []string
	for _, e := range joined.Unwrap() {
		all = append(all, leaves(e)...)
		texts = append(texts, e.Error())
	}
	if strings.Join(texts, "\n") != err.Error() {
		return []error{err}
	}
	return all
}

// hint says which of the known names was meant, or lists them.
func hint(name string, known []string) string {
	best, least := "", (len(name)+1)/3+1
	for _, k := range known {
		if d := distance(name, k, least); d < least {
			best, least = k, d
		}
	}
	switch {
	case best != "":
		return "did you mean " + best + "?"
	case len(known) == 0:
		return "there are none"
	}
	return "there are " + strings.Join(known, ", ")
}

// distance counts the letters to insert, delete, replace or swap with their neighbour to make a into
// b; from limit on it only says limit.
func distance(a, b string, limit int) int {
	if max(len(a)-len(b), len(b)-len(a)) >= limit {
		return limit
	}
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			swap := rows[i-1][j-1]
			if a[i-1] != b[j-1] {
				swap++
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, swap)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return min(rows[len(a)][len(b)], limit)
}
