package source

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Reasons of dead letters of stage "source".
const (
	BadJSON       = "bad_json"
	BadCSV        = "bad_csv"
	RaggedRow     = "ragged_row"
	LineTooLong   = "line_too_long"
	InvalidUTF8   = "invalid_utf8"
	MissingColumn = "missing_column"
	NotText       = "not_text"
	NotNumber     = "not_number"
	ControlChar   = "control_char"
	Empty         = "empty"
)

type kind uint8

const (
	absent kind = iota
	text
	number
	// other is null, a truth value, a list or an object.
	other
)

// A cell is what a record has in the column of one role. The bytes are good while the record is.
type cell struct {
	kind  kind
	bytes []byte
}

// A record is one row as a decoder found it. It is good until the decoder goes on.
type record struct {
	// pos is the byte offset in the (unpacked) file, or for Parquet the row number.
	pos   int64
	cells [roles]cell
	// raw is the row as it stood.
	raw []byte
	// reason and detail say why the row could not be decoded at all.
	reason, detail string
}

func (rec *record) reset(pos int64, raw []byte) {
	*rec = record{pos: pos, raw: raw}
}

func (rec *record) fault(reason, format string, args ...any) {
	rec.reason, rec.detail = reason, fmt.Sprintf(format, args...)
}

// A scan reads the records of one range of one file.
type scan struct {
	obj   object
	file  file
	cols  columns
	limit int
	// start is where the range begins: an offset for splittable files, a row group for Parquet.
	start int64
	// claim is asked with each position of the range before it is worked on; false ends the scan.
	claim func(pos int64) bool
	// yield takes the records; false ends the scan.
	yield func(*record) bool
}

// run reads to the end of the range. An error means that the file cannot be read, or is not what its format says.
func (s *scan) run() error {
	var err error
	switch s.file.Format {
	case JSONL:
		err = s.lines(s.decodeJSON)
	case Text:
		err = s.lines(s.decodeText)
	case TSV:
		err = s.tsv()
	case CSV:
		err = s.csv()
	case JSON:
		err = s.array()
	case Parquet:
		err = s.parquet()
	default:
		err = fmt.Errorf("no reader for format %q", s.file.Format)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", s.file.Path, err)
	}
	return nil
}

// lines hands each line that is not blank to decode, which fills in the record.
func (s *scan) lines(decode func(*record)) error {
	l, err := s.lineReader()
	if err != nil {
		return err
	}
	return s.linesFrom(l, decode)
}

func (s *scan) lineReader() (*lineReader, error) {
	if s.file.splittable() {
		return linesAt(s.obj, s.start, s.limit)
	}
	r, err := stream(s.obj, s.file)
	if err != nil {
		return nil, err
	}
	return linesOf(r, s.limit)
}

func (s *scan) linesFrom(l *lineReader, decode func(*record)) error {
	var rec record
	for s.claim(l.pos) {
		pos := l.pos
		line, long, err := l.next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case !long && blank(line):
			continue
		}
		rec.reset(pos, line)
		switch {
		case long:
			rec.fault(LineTooLong, "longer than %d bytes", s.limit)
		case !utf8.Valid(line):
			rec.fault(InvalidUTF8, "not UTF-8: convert the file (iconv -f LATIN1 -t UTF-8)")
		default:
			decode(&rec)
		}
		if !s.yield(&rec) {
			return nil
		}
	}
	return nil
}

func (s *scan) decodeText(rec *record) {
	rec.cells[textRole] = cell{text, rec.raw}
}

// A header maps the fields of a CSV or TSV record to roles.
type header struct {
	index [roles]int
	width int
}

// header finds the columns. A missing one means that it is the wrong file.
func (c columns) header(names []string) (header, error) {
	h := header{width: len(names)}
	var errs []error
	for r, want := range c.names {
		h.index[r] = -1
		if want == "" {
			continue
		}
		for i, name := range names {
			if name != want {
				continue
			}
			if h.index[r] >= 0 {
				errs = append(errs, fmt.Errorf("column %q is there twice", want))
			}
			h.index[r] = i
		}
		if h.index[r] < 0 && c.required(role(r)) {
			errs = append(errs, noColumn(want, names))
		}
	}
	return h, errors.Join(errs...)
}

// noColumn says what there is instead: a column that differs only in case is the usual slip.
func noColumn(want string, names []string) error {
	for _, name := range names {
		if strings.EqualFold(name, want) {
			return fmt.Errorf("no column %q, but there is %q: names must agree in case; set the input's columns", want, name)
		}
	}
	return fmt.Errorf("no column %q: there is %s; set the input's columns", want, listNames(names))
}

func listNames(names []string) string {
	const most = 20
	if len(names) == 0 {
		return "none"
	}
	var b strings.Builder
	for i, name := range names[:min(len(names), most)] {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%.60q", name)
	}
	if len(names) > most {
		fmt.Fprintf(&b, " and %d more", len(names)-most)
	}
	return b.String()
}

// set puts field i of a record with header h into its cell.
func (rec *record) set(h *header, i int, field []byte) {
	for r, at := range h.index {
		if at == i {
			rec.cells[r] = cell{text, field}
		}
	}
}

func (s *scan) tsv() error {
	// Each range needs the header, which is the first line of the file.
	first, err := s.tsvHead()
	if err != nil {
		return err
	}
	line, long, err := first.next()
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return err
	case long:
		return fmt.Errorf("the header is longer than %d bytes: is it a TSV file? Else raise limits.max_line_bytes", s.limit)
	}
	var names []string
	for f := range bytes.SplitSeq(line, []byte{'\t'}) {
		names = append(names, string(f))
	}
	h, err := s.cols.header(names)
	if err != nil {
		return err
	}
	l := first
	if s.start > 0 {
		if l, err = s.lineReader(); err != nil {
			return err
		}
	}
	return s.linesFrom(l, func(rec *record) {
		i := 0
		for f := range bytes.SplitSeq(rec.raw, []byte{'\t'}) {
			rec.set(&h, i, f)
			i++
		}
		if i != h.width {
			rec.fault(RaggedRow, "%d fields, the header has %d", i, h.width)
		}
	})
}

func (s *scan) tsvHead() (*lineReader, error) {
	whole := *s
	whole.start = 0
	return whole.lineReader()
}
