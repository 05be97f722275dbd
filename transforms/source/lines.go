package source

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
)

const readBuffer = 256 << 10

var bom = []byte("\xef\xbb\xbf")

// stream reads a whole file from its start, unpacked.
func stream(obj object, f file) (*bufio.Reader, error) {
	var r io.Reader = io.NewSectionReader(obj, 0, obj.Size())
	if f.Gzip && obj.Size() > 0 {
		z, err := gzip.NewReader(bufio.NewReaderSize(r, readBuffer))
		if err != nil {
			return nil, fmt.Errorf("not a gzip file, or cut short: %w", err)
		}
		r = z
	}
	return bufio.NewReaderSize(r, readBuffer), nil
}

// skipBOM drops a byte order mark and returns its length.
func skipBOM(r *bufio.Reader) (int64, error) {
	head, err := r.Peek(len(bom))
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	if !bytes.Equal(head, bom) {
		return 0, nil
	}
	n, err := r.Discard(len(bom))
	return int64(n), err
}

// firstByte is the first byte after white space and a byte order mark, which stays unread.
func firstByte(r *bufio.Reader) (byte, error) {
	if _, err := skipBOM(r); err != nil {
		return 0, err
	}
	for {
		c, err := r.ReadByte()
		if err != nil {
			return 0, err
		}
		if !isSpace(c) {
			return c, r.UnreadByte()
		}
	}
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// A lineReader cuts a stream at line feeds, with a bound on memory.
type lineReader struct {
	r *bufio.Reader
	// pos is the offset of the next line; a byte order mark belongs to the first one.
	pos, mark int64
	limit     int
	// spill holds a line that is longer than the reader's buffer.
	spill []byte
}

// linesAt reads the lines that begin at or after start: a record belongs to the range its first byte
// is in. So the reader starts one byte early and skips to the next line break.
func linesAt(obj object, start int64, limit int) (*lineReader, error) {
	l := &lineReader{limit: limit}
	from := max(start-1, 0)
	l.r = bufio.NewReaderSize(io.NewSectionReader(obj, from, obj.Size()-from), readBuffer)
	if start == 0 {
		return l, l.begin()
	}
	l.pos = from
	return l, l.skip()
}

func linesOf(r *bufio.Reader, limit int) (*lineReader, error) {
	l := &lineReader{r: r, limit: limit}
	return l, l.begin()
}

func (l *lineReader) begin() (err error) {
	l.mark, err = skipBOM(l.r)
	return err
}

// skip drops the rest of the line. The end of the file ends a line.
func (l *lineReader) skip() error {
	for {
		b, err := l.r.ReadSlice('\n')
		l.pos += int64(len(b))
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF):
			return nil
		default:
			return err
		}
	}
}

// next returns a line without its line break. Of a line over the limit it returns the beginning and
// long. The bytes are good until the next call. After the last line the error is io.EOF.
func (l *lineReader) next() (line []byte, long bool, err error) {
	b, err := l.r.ReadSlice('\n')
	l.pos += l.mark + int64(len(b))
	l.mark = 0
	if err == nil && len(b) <= l.limit {
		return chop(b), false, nil
	}
	l.spill = append(l.spill[:0], b...)
	for errors.Is(err, bufio.ErrBufferFull) && len(l.spill) <= l.limit {
		b, err = l.r.ReadSlice('\n')
		l.pos += int64(len(b))
		l.spill = append(l.spill, b...)
	}
	if errors.Is(err, bufio.ErrBufferFull) {
		err = l.skip()
	}
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return nil, false, err
	case len(l.spill) == 0:
		return nil, false, io.EOF
	}
	if line = chop(l.spill); len(line) > l.limit {
		return line[:l.limit], true, nil
	}
	return line, false, nil
}

func chop(b []byte) []byte {
	if n := len(b); n > 0 && b[n-1] == '\n' {
		b = b[:n-1]
	}
	if n := len(b); n > 0 && b[n-1] == '\r' {
		b = b[:n-1]
	}
	return b
}

func blank(b []byte) bool { return len(bytes.TrimSpace(b)) == 0 }
