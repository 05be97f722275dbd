package source

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// csv reads a whole file: a line break may be inside quotes, so only the beginning tells where records
// begin, and the file is one range.
func (s *scan) csv() error {
	r, err := stream(s.obj, s.file)
	if err != nil {
		return err
	}
	c := csvReader{limit: s.limit}
	if c.pos, err = skipBOM(r); err != nil {
		return err
	}
	c.r = bufio.NewReaderSize(r, s.limit+readBuffer)
	if !s.claim(0) {
		return nil
	}
	fields, reason, err := c.next()
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return err
	case reason != "":
		return fmt.Errorf("the header is no CSV record (%s): is a quote missing, or is it another format?", reason)
	}
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = string(f)
	}
	h, err := s.cols.header(names)
	if err != nil {
		return err
	}
	var rec record
	for {
		fields, reason, err := c.next()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		rec.reset(c.at, c.raw)
		switch {
		case reason == LineTooLong:
			rec.fault(reason, "longer than %d bytes", s.limit)
		case reason != "":
			rec.fault(reason, "a quoted field does not end with a quote before a comma or a line break; the next line is read on its own")
		case !utf8.Valid(c.raw):
			rec.fault(InvalidUTF8, "not UTF-8: convert the file (iconv -f LATIN1 -t UTF-8)")
		case len(fields) != h.width:
			rec.fault(RaggedRow, "%d fields, the header has %d: is a comma not quoted?", len(fields), h.width)
		default:
			for i, f := range fields {
				rec.set(&h, i, f)
			}
		}
		if !s.yield(&rec) {
			return nil
		}
	}
}

// A csvReader reads RFC 4180 records. encoding/csv reads a quote that is never closed to the end of
// the file, without a bound; this one gives up the line the record began with and goes on after it.
type csvReader struct {
	r     *bufio.Reader // with room for a record of limit bytes
	limit int
	// at and raw are where the last record began and its bytes; pos is where the next begins.
	at, pos int64
	raw     []byte
	// used is how much of the reader's buffer raw takes: dropped at the next call.
	used   int
	fields [][]byte
}

// next returns the fields of a record, or the reason why there are none. Blank lines are passed over.
func (c *csvReader) next() (fields [][]byte, reason string, err error) {
	for {
		if _, err := c.r.Discard(c.used); err != nil {
			return nil, "", err
		}
		c.used, c.at = 0, c.pos
		b, n, ok, err := c.peek()
		if err != nil {
			return nil, "", err
		}
		if !ok {
			reason, err := c.giveUp(b)
			return nil, reason, err
		}
		c.raw, c.used, c.pos = chop(b[:n]), n, c.at+int64(n)
		if !blank(c.raw) {
			return c.fields, "", nil
		}
	}
}

// peek looks at more and more of the input until a record ends in it.
func (c *csvReader) peek() (b []byte, n int, ok bool, err error) {
	for size := 4 << 10; ; size *= 4 {
		size = min(size, c.limit+2)
		b, err = c.r.Peek(size)
		last := errors.Is(err, io.EOF)
		if err != nil && !last {
			return nil, 0, false, err
		}
		if len(b) == 0 {
			return nil, 0, false, io.EOF
		}
		n, more := c.parse(b, last)
		switch {
		case n > 0:
			return b, n, len(chop(b[:n])) <= c.limit, nil
		case !more || last || size == c.limit+2:
			return b, 0, false, nil
		}
	}
}

// giveUp drops the first line of the record that begins with b.
func (c *csvReader) giveUp(b []byte) (reason string, err error) {
	n := bytes.IndexByte(b, '\n') + 1
	if n == 0 && len(b) <= c.limit {
		n = len(b) // the last line
	}
	if n > 0 && len(chop(b[:n])) <= c.limit {
		c.raw, c.used, c.pos = chop(b[:n]), n, c.at+int64(n)
		return BadCSV, nil
	}
	c.raw = bytes.Clone(b[:min(len(b), c.limit)])
	l := lineReader{r: c.r, pos: c.at}
	err = l.skip()
	c.pos = l.pos
	return LineTooLong, err
}

// parse cuts a record at the beginning of b into c.fields and returns its length with the line break.
// A length of 0 says that there is none: more, that it may end after b.
func (c *csvReader) parse(b []byte, last bool) (n int, more bool) {
	c.fields = c.fields[:0]
	for i := 0; ; {
		if i < len(b) && b[i] == '"' {
			field, end, ok := quotedField(b, i)
			if !ok {
				return 0, true
			}
			c.fields = append(c.fields, field)
			i = end
			if i < len(b) && b[i] == '\r' && (i+1 == len(b) || b[i+1] == '\n') {
				i++
			}
			if i < len(b) && b[i] != ',' && b[i] != '\n' {
				return 0, false
			}
		} else {
			end := bytes.IndexAny(b[i:], ",\n")
			if end < 0 {
				end = len(b) - i
			}
			field := b[i : i+end]
			i += end
			if i == len(b) || b[i] == '\n' {
				field = bytes.TrimSuffix(field, []byte{'\r'})
			}
			c.fields = append(c.fields, field)
		}
		switch {
		case i == len(b) && last:
			return i, false
		case i == len(b):
			return 0, true
		case b[i] == '\n':
			return i + 1, false
		}
		i++ // the comma
	}
}

// quotedField decodes the field whose opening quote is at i and returns where it ends.
func quotedField(b []byte, i int) (field []byte, end int, ok bool) {
	i++
	from := i
	var copied []byte
	for {
		q := bytes.IndexByte(b[i:], '"')
		if q < 0 {
			return nil, 0, false
		}
		i += q
		if i+1 < len(b) && b[i+1] == '"' {
			copied = append(copied, b[from:i+1]...)
			i += 2
			from = i
			continue
		}
		if copied == nil {
			return b[from:i], i + 1, true
		}
		return append(copied, b[from:i]...), i + 1, true
	}
}
