// Package dataset reads the rows that a training job names and writes them in the formats of trainers
// that do not take promptmill's Parquet as it is.
//
// # Design
//
// A trainer cares for two shapes of row, whatever else is in its columns: a preference pair (prompt,
// chosen, rejected) and a conversation (messages), either with pictures or without. Rows are read by
// those columns, so every row type of package schemas that has them can be trained on, now and later.
//
// A picture is referred to by Placeholder in the text. Rows whose texts have none refer to their
// pictures by position: all of them stand before the first user message, which is where TRL puts them.
package dataset

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/url"
	"slices"
	"strings"

	"github.com/parquet-go/parquet-go"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
)

// Placeholder stands for one picture in the text of a message (LLaVA, LLaMA-Factory).
const Placeholder = "<image>"

// ErrColumns says: a file does not have the columns of a training set.
var ErrColumns = errors.New("not the columns of a training set")

// A Row is what a trainer sees of one row.
type Row struct {
	// ID is the row's id, File and Number where it stands: the object's URL and a count from 0.
	ID     string
	File   string
	Number int64
	// Messages are the prompt of a preference pair, or a whole conversation that ends with the answer.
	Messages []schemas.Message
	// Chosen and Rejected are nil in a conversation.
	Chosen, Rejected []schemas.Message
	// Images are in the order in which Messages refer to them. Vision says that the set has the column.
	Images []schemas.Image
	Vision bool
	// Preference says that the set is one of pairs.
	Preference bool
}

// String names the row for people.
func (r Row) String() string {
	return fmt.Sprintf("%s: row %d (%s)", r.File[strings.LastIndexByte(r.File, '/')+1:], r.Number, r.ID)
}

// record is the union of the columns; parquet-go leaves those that a file lacks at zero.
type record struct {
	ID       string            `parquet:"id,optional"`
	Prompt   []schemas.Message `parquet:"prompt,optional,list" parquet-element:",optional"`
	Chosen   []schemas.Message `parquet:"chosen,optional,list" parquet-element:",optional"`
	Rejected []schemas.Message `parquet:"rejected,optional,list" parquet-element:",optional"`
	Messages []schemas.Message `parquet:"messages,optional,list" parquet-element:",optional"`
	Images   []schemas.Image   `parquet:"images,optional,list" parquet-element:",optional"`
}

// A shape is what the columns of a file amount to.
type shape struct{ preference, vision bool }

// shapeOf finds the shape of a file. parquet-go reads a column of another name, case or type as empty
// without a word, so every leaf is looked at.
func shapeOf(schema *parquet.Schema) (shape, error) {
	has := func(name string) bool {
		return slices.ContainsFunc(schema.Fields(), func(f parquet.Field) bool { return f.Name() == name })
	}
	s := shape{preference: has("prompt") || has("chosen") || has("rejected"), vision: has("images")}
	lists := []string{"messages"}
	switch {
	case s.preference && has("messages"):
		return s, fmt.Errorf("%w: messages beside prompt, chosen and rejected: a trainer cannot tell which to take", ErrColumns)
	case s.preference:
		lists = []string{"prompt", "chosen", "rejected"}
	}
	var errs []error
	for _, list := range lists {
		errs = append(errs, text(schema, list, "list", "element", "role"), text(schema, list, "list", "element", "content"))
	}
	if s.vision {
		errs = append(errs, text(schema, "images", "list", "element", "bytes"))
	}
	return s, errors.Join(errs...)
}

func text(schema *parquet.Schema, path ...string) error {
	column, ok := schema.Lookup(path...)
	name := strings.Join(path, ".")
	if !ok {
		return fmt.Errorf("%w: column %s is missing", ErrColumns, name)
	}
	if kind := column.Node.Type().Kind(); kind != parquet.ByteArray || column.MaxRepetitionLevel != 1 {
		return fmt.Errorf("%w: column %s is %s with %d levels of lists, not text or bytes in one list", ErrColumns, name, kind, column.MaxRepetitionLevel)
	}
	return nil
}

// Read yields the rows of Parquet files in order. All files have one shape: pairs or conversations, with
// pictures or without. It stops at the first error, which names the file; a file with other columns gives
// ErrColumns before any of its rows. A row and its slices stay valid.
func Read(ctx context.Context, urls []string) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		var first *shape
		for _, u := range urls {
			more, err := readFile(ctx, u, &first, yield)
			if err != nil {
				yield(Row{File: u}, fmt.Errorf("training data: %s: %w", u, err))
				return
			}
			if !more {
				return
			}
		}
	}
}

func readFile(ctx context.Context, u string, first **shape, yield func(Row, error) bool) (more bool, err error) {
	o, err := Open(ctx, u)
	if err != nil {
		return false, err
	}
	defer o.Close()
	f, err := parquet.OpenFile(o, o.Size(), parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return false, fmt.Errorf("not a Parquet file: %w", err)
	}
	s, err := shapeOf(f.Schema())
	if err == nil && *first != nil && **first != s {
		err = fmt.Errorf("%w: the files before it have another shape; train on one configuration at a time", ErrColumns)
	}
	if err != nil {
		return false, err
	}
	*first = &s
	r := parquet.NewGenericReader[record](f)
	defer r.Close()
	buf := make([]record, 32)
	for number := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		clear(buf)
		n, err := r.Read(buf)
		for _, rec := range buf[:n] {
			row := Row{ID: rec.ID, File: u, Number: number, Messages: rec.Messages, Images: rec.Images, Vision: s.vision, Preference: s.preference}
			if s.preference {
				row.Messages, row.Chosen, row.Rejected = rec.Prompt, rec.Chosen, rec.Rejected
			}
			if !yield(row, nil) {
				return false, nil
			}
			number++
		}
		switch {
		case errors.Is(err, io.EOF):
			return true, nil
		case err != nil:
			return false, fmt.Errorf("row %d: %w", number, err)
		}
	}
}

// Open opens the object at a URL: a path, file:///path or a URL of any store.
func Open(ctx context.Context, u string) (store.Object, error) {
	root, name, err := split(u)
	if err != nil {
		return nil, err
	}
	st, err := store.Open(ctx, root)
	if err != nil {
		return nil, err
	}
	return st.Open(ctx, name)
}

// split cuts an object's URL into that of a store and a name in it.
func split(u string) (root, name string, err error) {
	i := strings.LastIndexByte(u, '/')
	switch {
	case i < 0:
		root, name = ".", u
	case i == 0:
		root, name = "/", u[1:]
	default:
		root, name = u[:i], u[i+1:]
	}
	if strings.HasPrefix(u, "file://") { // only these are percent-encoded
		name, err = url.PathUnescape(name)
	}
	if err != nil || name == "" {
		return "", "", fmt.Errorf("%q does not name a file", u)
	}
	return root, name, nil
}
