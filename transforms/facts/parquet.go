package facts

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/parquet-go/parquet-go"

	"github.com/promptmill/promptmill/schemas"
)

// openParquet opens a file; what is to be closed is the *os.File.
func openParquet(path string) (*parquet.File, *os.File, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	st, err := file.Stat()
	if err != nil {
		return nil, nil, errors.Join(err, file.Close())
	}
	// The page index, where a file has one, is what lets a reader jump to a row.
	f, err := parquet.OpenFile(file, st.Size(), parquet.SkipBloomFilters(true))
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("not a Parquet file, or cut short (fetch it again, compare the size): %w", err), file.Close())
	}
	return f, file, nil
}

// recovered turns a panic of the reader, which damaged files cause, into an error.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("the Parquet file is damaged (fetch it again, compare the size): %v", p)
	}
}

// leafIndex finds flat columns by name. One that is missing and required is a fault of the file.
func leafIndex(f *parquet.File, required []string, optional ...string) (map[string]int, error) {
	index := map[string]int{}
	var errs []error
	for i, name := range slices.Concat(required, optional) {
		leaf, ok := f.Schema().Lookup(name)
		switch {
		case !ok && i < len(required):
			var names []string
			for _, field := range f.Schema().Fields() {
				names = append(names, field.Name())
			}
			errs = append(errs, fmt.Errorf("no column %q: there is %.300s", name, strings.Join(names, ", ")))
		case ok && leaf.MaxRepetitionLevel > 0:
			errs = append(errs, fmt.Errorf("column %q is a list: one of plain values is wanted", name))
		case ok:
			index[name] = leaf.ColumnIndex
		}
	}
	return index, errors.Join(errs...)
}

// A column reads values of a column chunk by row, ascending.
type column struct {
	pages   parquet.Pages
	indexed bool
	page    parquet.Page
	// start and end are the rows of page.
	start, end int64
}

func openColumn(c parquet.ColumnChunk) *column {
	index, err := c.OffsetIndex()
	return &column{pages: c.Pages(), indexed: err == nil && index != nil && index.NumPages() > 0}
}

// at returns the value of a row, good until the next call. Pages before the row's are skipped without a
// look where the file has an index, else read and dropped.
func (c *column) at(row int64) (parquet.Value, error) {
	for row >= c.end {
		c.drop()
		if c.indexed && row > c.end {
			if err := c.pages.SeekToRow(row); err != nil {
				return parquet.Value{}, err
			}
			c.end = row
		}
		page, err := c.pages.ReadPage()
		if errors.Is(err, io.EOF) {
			return parquet.Value{}, io.ErrUnexpectedEOF
		} else if err != nil {
			return parquet.Value{}, err
		}
		c.page, c.start = page, c.end
		c.end += page.NumRows()
	}
	var v [1]parquet.Value
	one := c.page.Slice(row-c.start, row-c.start+1)
	defer parquet.Release(one)
	n, err := one.Values().ReadValues(v[:])
	if n != 1 {
		return parquet.Value{}, cmp.Or(err, io.ErrUnexpectedEOF)
	}
	return v[0], nil
}

func (c *column) drop() {
	if c.page != nil {
		parquet.Release(c.page)
		c.page = nil
	}
}

func (c *column) close() {
	c.drop()
	_ = c.pages.Close() // only read
}

// The small columns of Pick-a-Pic and the two of pictures, in the order of pickReader.columns.
var (
	pickSmall    = []string{"caption", "image_0_uid", "image_1_uid", "label_0", "label_1", "has_label"}
	pickOptional = []string{"best_image_uid", "ranking_id"}
	pickJPG      = [2]string{"jpg_0", "jpg_1"}
)

// A pickReader reads the small columns of one row group.
type pickReader struct {
	columns map[string]*column
}

func newPickReader(g parquet.RowGroup, index map[string]int) pickReader {
	r := pickReader{map[string]*column{}}
	for _, name := range slices.Concat(pickSmall, pickOptional) {
		if i, ok := index[name]; ok {
			r.columns[name] = openColumn(g.ColumnChunks()[i])
		}
	}
	return r
}

func (r pickReader) close() {
	for _, c := range r.columns {
		c.close()
	}
}

// read fills row with the values at i. What is null stays empty, or a label of -1: fact refuses both.
func (r pickReader) read(i int64, row *pickRow) error {
	row.Labels = [2]float64{-1, -1}
	for name, c := range r.columns {
		v, err := c.at(i)
		if err != nil {
			return fmt.Errorf("column %q: %w", name, err)
		}
		if v.IsNull() {
			continue
		}
		switch name {
		case "caption":
			row.Caption = text(v)
		case "image_0_uid":
			row.UID[0] = text(v)
		case "image_1_uid":
			row.UID[1] = text(v)
		case "label_0":
			row.Labels[0] = number(v)
		case "label_1":
			row.Labels[1] = number(v)
		case "has_label":
			row.HasLabel = v.Kind() == parquet.Boolean && v.Boolean()
		case "best_image_uid":
			row.Best = text(v)
		case "ranking_id":
			row.Ranking = text(v)
		}
	}
	return nil
}

func text(v parquet.Value) string {
	if v.Kind() == parquet.ByteArray {
		return string(v.ByteArray())
	}
	return v.String()
}

// number is a value as a number; -1, which no label is, if it is none.
func number(v parquet.Value) float64 {
	switch v.Kind() {
	case parquet.Double:
		return v.Double()
	case parquet.Float:
		return float64(v.Float())
	case parquet.Int32:
		return float64(v.Int32())
	case parquet.Int64:
		return float64(v.Int64())
	}
	return -1
}

func pickIndex(f *parquet.File) (map[string]int, error) {
	index, err := leafIndex(f, slices.Concat(pickSmall, pickJPG[:]), pickOptional...)
	if err != nil {
		return nil, err
	}
	for _, name := range pickJPG {
		if f.Root().Column(name).Type().Kind() != parquet.ByteArray {
			return nil, fmt.Errorf("column %q does not hold bytes", name)
		}
	}
	return index, nil
}

// readRows yields the small columns of all rows of a Pick-a-Pic file, in order.
func readRows(path string, yield func(place, *pickRow) error) (err error) {
	defer recovered(&err)
	f, file, err := openParquet(path)
	if err != nil {
		return err
	}
	defer file.Close()
	index, err := pickIndex(f)
	if err != nil {
		return err
	}
	at := int64(0)
	for i, g := range f.RowGroups() {
		if err := readGroup(g, index, int32(i), &at, yield); err != nil {
			return err
		}
	}
	return nil
}

func readGroup(g parquet.RowGroup, index map[string]int, group int32, at *int64, yield func(place, *pickRow) error) error {
	r := newPickReader(g, index)
	defer r.close()
	for i := range g.NumRows() {
		row := pickRow{at: *at}
		*at++
		if err := r.read(i, &row); err != nil {
			return fmt.Errorf("row %d: %w", row.at, err)
		}
		if err := yield(place{group: group, row: int32(i)}, &row); err != nil {
			return err
		}
	}
	return nil
}

// readPictures keeps the pictures of a chunk's rows and yields each row with them. One column is read
// after the other: a page may hold hundreds of pictures, and two such pages need not be in memory.
func readPictures(ctx context.Context, c chunk, k keeper, maxBytes int64, yield func(*pickRow, [2]schemas.ImageRef, death) error) (err error) {
	defer recovered(&err)
	f, file, err := openParquet(c.Path)
	if err != nil {
		return err
	}
	defer file.Close()
	index, err := pickIndex(f)
	if err != nil {
		return err
	}
	groups := f.RowGroups()
	if c.Group >= int64(len(groups)) {
		return errors.New("it is gone: the file was written over while it was read; start again")
	}
	g := groups[c.Group]
	refs, deaths := make([][2]schemas.ImageRef, len(c.Rows)), make([]death, len(c.Rows))
	for side, name := range pickJPG {
		col := openColumn(g.ColumnChunks()[index[name]])
		for i, row := range c.Rows {
			ref, d, err := keepValue(ctx, col, row, k, maxBytes)
			if err != nil {
				col.close()
				return fmt.Errorf("column %q, row %d of the group: %w", name, row, err)
			}
			refs[i][side] = ref
			if d.reason != "" && deaths[i].reason == "" {
				d.detail = name + ": " + d.detail
				deaths[i] = d
			}
		}
		col.close()
	}
	r := newPickReader(g, index)
	defer r.close()
	for i, n := range c.Rows {
		var row pickRow
		if err := r.read(n, &row); err != nil {
			return fmt.Errorf("row %d of the group: %w", n, err)
		}
		if err := yield(&row, refs[i], deaths[i]); err != nil {
			return err
		}
	}
	return nil
}

func keepValue(ctx context.Context, col *column, row int64, k keeper, maxBytes int64) (schemas.ImageRef, death, error) {
	if err := context.Cause(ctx); err != nil {
		return schemas.ImageRef{}, death{}, err
	}
	v, err := col.at(row)
	switch {
	case err != nil:
		return schemas.ImageRef{}, death{}, err
	case v.IsNull():
		return schemas.ImageRef{}, dead(MissingPicture, "null"), nil
	case int64(len(v.ByteArray())) > maxBytes:
		return schemas.ImageRef{}, dead(TooManyBytes, "%d bytes, over %d", len(v.ByteArray()), maxBytes), nil
	}
	return k.keep(ctx, v.ByteArray())
}

func sortPlaces(places []place) {
	slices.SortFunc(places, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.file, b.file), cmp.Compare(a.group, b.group), cmp.Compare(a.row, b.row))
	})
}
