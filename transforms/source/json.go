package source

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// decodeJSON takes the mapped columns out of a JSON object. The rest is checked, not decoded: decoding
// each line into a map costs several times as much.
func (s *scan) decodeJSON(rec *record) {
	if !json.Valid(rec.raw) {
		var v any
		rec.fault(BadJSON, "%v", json.Unmarshal(rec.raw, &v))
		return
	}
	body := bytes.TrimSpace(rec.raw)
	if body[0] != '{' {
		rec.fault(BadJSON, "not an object but %.20q", body)
		return
	}
	members(body, func(key, value []byte) {
		for r, want := range &s.cols.names {
			if want != "" && isKey(key, want) {
				rec.cells[r] = jsonCell(value)
			}
		}
	})
	for r, want := range &s.cols.names {
		if rec.cells[r].kind == absent && s.cols.required(role(r)) {
			var keys []string
			members(body, func(key, _ []byte) { keys = append(keys, string(unquote(key))) })
			rec.fault(MissingColumn, "%v", noColumn(want, keys))
			return
		}
	}
}

// members calls f with each key (still quoted) and value of an object that is known to be valid.
func members(b []byte, f func(key, value []byte)) {
	i := 1
	for {
		i = skipSpace(b, i)
		if b[i] == '}' {
			return
		}
		if b[i] == ',' {
			i = skipSpace(b, i+1)
		}
		end := valueEnd(b, i)
		key := b[i:end]
		i = skipSpace(b, end)
		i = skipSpace(b, i+1) // the colon
		end = valueEnd(b, i)
		f(key, b[i:end])
		i = end
	}
}

func skipSpace(b []byte, i int) int {
	for isSpace(b[i]) {
		i++
	}
	return i
}

// valueEnd returns the end of the value that begins at i.
func valueEnd(b []byte, i int) int {
	switch b[i] {
	case '"':
		return stringEnd(b, i)
	case '{', '[':
		depth := 0
		for {
			switch b[i] {
			case '"':
				i = stringEnd(b, i) - 1
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
			i++
		}
	}
	for i < len(b) && !isSpace(b[i]) && b[i] != ',' && b[i] != '}' && b[i] != ']' {
		i++
	}
	return i
}

func stringEnd(b []byte, i int) int {
	for i++; ; i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
}

func isKey(quoted []byte, want string) bool {
	if len(quoted) == len(want)+2 {
		return string(quoted[1:len(quoted)-1]) == want
	}
	return bytes.IndexByte(quoted, '\\') >= 0 && string(unquote(quoted)) == want
}

// unquote decodes a valid JSON string; it copies only where there is an escape.
func unquote(quoted []byte) []byte {
	inner := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return inner
	}
	var s string
	if err := json.Unmarshal(quoted, &s); err != nil {
		return nil
	}
	return []byte(s)
}

func jsonCell(value []byte) cell {
	switch c := value[0]; {
	case c == '"':
		return cell{text, unquote(value)}
	case c == '-' || '0' <= c && c <= '9':
		return cell{number, value}
	}
	return cell{other, value}
}

// array reads one JSON array of objects, an element at a time.
func (s *scan) array() error {
	r, err := stream(s.obj, s.file)
	if err != nil {
		return err
	}
	a := arrayReader{r: r, limit: s.limit}
	if ok, err := a.open(); err != nil || !ok {
		return err
	}
	var rec record
	if !s.claim(0) {
		return nil
	}
	for {
		element, pos, long, err := a.next()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		rec.reset(pos, element)
		switch {
		case long:
			rec.fault(LineTooLong, "longer than %d bytes", s.limit)
		case !utf8.Valid(element):
			rec.fault(InvalidUTF8, "not UTF-8: convert the file (iconv -f LATIN1 -t UTF-8)")
		case blank(element):
			rec.fault(BadJSON, "nothing between two commas")
		default:
			s.decodeJSON(&rec)
		}
		if !s.yield(&rec) {
			return nil
		}
	}
}

// An arrayReader cuts the text of a JSON array into the texts of its elements, which may be invalid.
type arrayReader struct {
	r     *bufio.Reader
	pos   int64
	limit int
	buf   []byte
	some  bool
	done  bool
}

func (a *arrayReader) read() (byte, error) {
	c, err := a.r.ReadByte()
	if err == nil {
		a.pos++
	}
	return c, err
}

// open reads up to the bracket; it is false for a file with nothing in it.
func (a *arrayReader) open() (bool, error) {
	n, err := skipBOM(a.r)
	if err != nil {
		return false, err
	}
	a.pos = n
	for {
		c, err := a.read()
		switch {
		case errors.Is(err, io.EOF):
			return false, nil
		case err != nil:
			return false, err
		case c == '[':
			return true, nil
		case !isSpace(c):
			return false, fmt.Errorf("a JSON array of objects was expected, but it begins with %q: for one object a line set format jsonl", c)
		}
	}
}

// next returns an element and its offset, or the beginning of one over the limit and long. After the
// last one the error is io.EOF. The bytes are good until the next call.
func (a *arrayReader) next() (element []byte, pos int64, long bool, err error) {
	if a.done {
		return nil, 0, false, io.EOF
	}
	a.buf = a.buf[:0]
	depth, quoted, escaped := 0, false, false
	for {
		c, err := a.read()
		if errors.Is(err, io.EOF) {
			return nil, 0, false, fmt.Errorf("the array does not end: the file is cut short, or a quote is missing in the element at byte %d", pos)
		} else if err != nil {
			return nil, 0, false, err
		}
		if len(a.buf) == 0 {
			if isSpace(c) {
				continue
			}
			pos = a.pos - 1
		}
		switch {
		case escaped:
			escaped = false
		case quoted:
			escaped, quoted = c == '\\', c != '"'
		case c == '"':
			quoted = true
		case c == '{', c == '[':
			depth++
		case depth > 0 && (c == '}' || c == ']'):
			depth--
		case depth == 0 && c == ',':
			a.some = true
			return a.cut(pos)
		case depth == 0 && c == ']':
			a.done = true
			if err := a.end(); err != nil {
				return nil, 0, false, err
			}
			if len(a.buf) == 0 && !a.some {
				return nil, 0, false, io.EOF
			}
			return a.cut(pos)
		}
		// One byte more than the limit tells that it is over it.
		if len(a.buf) <= a.limit {
			a.buf = append(a.buf, c)
		}
	}
}

func (a *arrayReader) cut(pos int64) ([]byte, int64, bool, error) {
	if len(a.buf) > a.limit {
		return a.buf[:a.limit], pos, true, nil
	}
	return a.buf, pos, false, nil
}

// end checks that nothing comes after the array.
func (a *arrayReader) end() error {
	for {
		c, err := a.read()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case !isSpace(c):
			return fmt.Errorf("%s after the end of the array, at byte %d: a file holds one array", strings.ToValidUTF8(fmt.Sprintf("%q", c), "?"), a.pos-1)
		}
	}
}
