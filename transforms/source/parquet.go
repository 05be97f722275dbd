package source

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/parquet-go/parquet-go"
)

// openParquet reads the footer. A damaged file is an error, also where the reader panics on it.
func openParquet(obj object) (f *parquet.File, err error) {
	defer recoverParquet(&err)
	if obj.Size() == 0 {
		return nil, errors.New("the file is empty: a Parquet file has a footer even without rows")
	}
	f, err = parquet.OpenFile(obj, obj.Size(), parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return nil, fmt.Errorf("not a Parquet file, or cut short (fetch it again, compare the size): %w", err)
	}
	return f, nil
}

func recoverParquet(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("the Parquet file is damaged (fetch it again, compare the size): %v", p)
	}
}

func rowGroups(obj object) (int64, error) {
	f, err := openParquet(obj)
	if err != nil {
		return 0, err
	}
	return int64(len(f.RowGroups())), nil
}

// leaves finds the mapped columns: -1 for those that are not asked for or optional and not there.
func (c columns) leaves(f *parquet.File) (index [roles]int, err error) {
	defer recoverParquet(&err)
	var names []string
	for _, field := range f.Schema().Fields() {
		names = append(names, field.Name())
	}
	h, err := c.header(names)
	errs := []error{err}
	for r := range index {
		index[r] = -1
		if h.index[r] < 0 {
			continue
		}
		name := c.names[r]
		leaf, ok := f.Schema().Lookup(name)
		switch {
		case !ok || leaf.MaxRepetitionLevel > 0:
			errs = append(errs, fmt.Errorf("column %q is a list or a struct: choose one of plain values", name))
		case role(r) <= rewrittenRole && leaf.Node.Type().Kind() != parquet.ByteArray:
			errs = append(errs, fmt.Errorf("column %q holds %s, not text: choose another", name, strings.ToLower(leaf.Node.Type().String())))
		default:
			index[r] = leaf.ColumnIndex
		}
	}
	return index, errors.Join(errs...)
}

// parquet reads row groups, and of these the mapped columns only.
func (s *scan) parquet() (err error) {
	defer recoverParquet(&err)
	f, err := openParquet(s.obj)
	if err != nil {
		return err
	}
	index, err := s.cols.leaves(f)
	if err != nil {
		return err
	}
	groups := f.RowGroups()
	row := int64(0)
	for i, g := range groups {
		if int64(i) < s.start {
			row += g.NumRows()
			continue
		}
		if !s.claim(int64(i)) {
			return nil
		}
		on, err := s.rowGroup(g, index, row)
		if err != nil {
			return fmt.Errorf("row group %d: %w", i, err)
		}
		if !on {
			return nil
		}
		row += g.NumRows()
	}
	return nil
}

func (s *scan) rowGroup(g parquet.RowGroup, index [roles]int, row int64) (on bool, err error) {
	var readers [roles]*columnReader
	chunks := g.ColumnChunks()
	for r, leaf := range index {
		if leaf >= 0 {
			c := &columnReader{pages: chunks[leaf].Pages()}
			defer c.close()
			readers[r] = c
		}
	}
	var rec record
	for n := g.NumRows(); n > 0; n-- {
		rec.reset(row, nil)
		for r, c := range readers {
			if c == nil {
				continue
			}
			v, err := c.next()
			if err != nil {
				return false, fmt.Errorf("column %q, row %d: %w", s.cols.names[r], row, err)
			}
			rec.cells[r] = parquetCell(v)
			if rec.cells[r].kind == text && len(rec.cells[r].bytes) > s.limit {
				rec.fault(LineTooLong, "column %q is longer than %d bytes", s.cols.names[r], s.limit)
			}
		}
		if !s.yield(&rec) {
			return false, nil
		}
		row++
	}
	return true, nil
}

func parquetCell(v parquet.Value) cell {
	switch {
	case v.IsNull():
		return cell{kind: other}
	case v.Kind() == parquet.ByteArray || v.Kind() == parquet.FixedLenByteArray:
		return cell{text, v.ByteArray()}
	case v.Kind() == parquet.Boolean:
		return cell{kind: other}
	}
	return cell{number, []byte(v.String())}
}

// A columnReader reads the values of a flat column, page by page.
type columnReader struct {
	pages  parquet.Pages
	page   parquet.Page
	values parquet.ValueReader
	buf    [64]parquet.Value
	i, n   int
}

func (c *columnReader) next() (parquet.Value, error) {
	for c.i == c.n {
		if err := c.fill(); err != nil {
			return parquet.Value{}, err
		}
	}
	v := c.buf[c.i]
	c.i++
	return v, nil
}

func (c *columnReader) fill() error {
	c.i, c.n = 0, 0
	if c.values == nil {
		page, err := c.pages.ReadPage()
		if errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF
		} else if err != nil {
			return err
		}
		c.page, c.values = page, page.Values()
	}
	n, err := c.values.ReadValues(c.buf[:])
	c.n = n
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err != nil {
		// The values may point into the page, so it is left to the collector, not released.
		c.page, c.values = nil, nil
	}
	return nil
}

func (c *columnReader) close() { _ = c.pages.Close() } // only read
