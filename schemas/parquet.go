package schemas

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/parquet-go/parquet-go"
)

// A Table is the Parquet form of the row type T. It is immutable and safe for concurrent use.
type Table[T Row] struct {
	schema *parquet.Schema
	leaves []leaf
	blobs  [][]string
}

// A leaf is one column: the struct fields that lead to it, by index. Slices on the way are implied.
type leaf struct {
	column int
	path   []int
}

var tables sync.Map // reflect.Type -> *Table[T]

// TableOf is the Parquet form of T. It panics if a level of a column is not nullable or a field has a
// type that no column stands for: a fault in the tags of T.
func TableOf[T Row]() *Table[T] {
	typ := reflect.TypeFor[T]()
	if t, ok := tables.Load(typ); ok {
		return t.(*Table[T])
	}
	t := &Table[T]{schema: parquet.SchemaOf(new(T))}
	t.addLeaves(typ, nil, nil, 0)
	if len(t.leaves) != len(t.schema.Columns()) {
		panic(fmt.Sprintf("schemas: %v: %d fields for %d columns", typ, len(t.leaves), len(t.schema.Columns())))
	}
	actual, _ := tables.LoadOrStore(typ, t)
	return actual.(*Table[T])
}

// addLeaves walks the fields of a struct in the order of their columns; levels is how many definition
// levels the fields above have.
func (t *Table[T]) addLeaves(typ reflect.Type, path []int, names []string, levels int) {
	for i := range typ.NumField() {
		f := typ.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("parquet"), ",")
		path, names, levels, ft := append(slices.Clip(path), i), append(slices.Clip(names), name), levels+1, f.Type
		for isList(ft) {
			names, levels, ft = append(names, "list", "element"), levels+2, ft.Elem()
		}
		if ft.Kind() == reflect.Struct {
			t.addLeaves(ft, path, names, levels)
			continue
		}
		column, ok := t.schema.Lookup(names...)
		if !ok || column.MaxDefinitionLevel != levels || column.ColumnIndex != len(t.leaves) {
			panic(fmt.Sprintf("schemas: %v: column %s: every level must be optional in its tags", typ, strings.Join(names, ".")))
		}
		if ft.Kind() == reflect.Pointer {
			ft = ft.Elem()
		}
		valueOf(reflect.Zero(ft)) // panics now rather than at the first row
		t.leaves = append(t.leaves, leaf{column: len(t.leaves), path: path})
		if ft.Kind() == reflect.Slice {
			t.blobs = append(t.blobs, names)
		}
	}
}

// isList tells a list from a column of bytes.
func isList(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && t.Elem().Kind() != reflect.Uint8
}

// Schema is the schema of the files.
func (t *Table[T]) Schema() *parquet.Schema { return t.schema }

// Blobs are the paths of the columns of bytes (pictures): statistics of them are of no use and large.
func (t *Table[T]) Blobs() [][]string { return t.blobs }

// SchemaDigest is the hex SHA-256 of a schema's text: what a Shard records.
func SchemaDigest(s *parquet.Schema) string {
	sum := sha256.Sum256([]byte(s.String()))
	return hex.EncodeToString(sum[:])
}

// Append appends the values of v to row, in column order. They refer to the bytes of v.
//
// Only a nil pointer becomes a null: zeros, empty texts and empty lists are values, and a nil slice is
// an empty list. (parquet-go's own way with optional fields would turn a score of 0 into a null.) Text
// that is not UTF-8, which no reader of Parquet accepts, has its bad bytes replaced by U+FFFD; Validate
// refuses it in the rows of a set, a dead letter may hold it.
func (t *Table[T]) Append(row parquet.Row, v *T) parquet.Row {
	rv := reflect.ValueOf(v).Elem()
	for i := range t.leaves {
		l := &t.leaves[i]
		row = l.append(row, rv.Field(l.path[0]), l.path[1:], 0, 0, 0)
	}
	return row
}

// append adds what v, a value at a nullable level, has in column l. rep is the repetition level of the
// next value, depth that of the innermost list around v, def the definition level of what is around v.
func (l *leaf) append(row parquet.Row, v reflect.Value, path []int, rep, depth, def int) parquet.Row {
	switch {
	case v.Kind() == reflect.Pointer:
		if v.IsNil() {
			return append(row, parquet.NullValue().Level(rep, def, l.column))
		}
		return l.append(row, v.Elem(), path, rep, depth, def)
	case isList(v.Type()):
		if v.Len() == 0 {
			return append(row, parquet.NullValue().Level(rep, def+1, l.column))
		}
		for i := range v.Len() {
			row = l.append(row, v.Index(i), path, rep, depth+1, def+2)
			rep = depth + 1
		}
		return row
	case v.Kind() == reflect.Struct:
		return l.append(row, v.Field(path[0]), path[1:], rep, depth, def+1)
	}
	return append(row, valueOf(v).Level(rep, def+1, l.column))
}

func valueOf(v reflect.Value) parquet.Value {
	switch v.Kind() {
	case reflect.String:
		return parquet.ValueOf(strings.ToValidUTF8(v.String(), "\uFFFD"))
	case reflect.Int32:
		return parquet.Int32Value(int32(v.Int()))
	case reflect.Int64:
		return parquet.Int64Value(v.Int())
	case reflect.Float64:
		return parquet.DoubleValue(v.Float())
	case reflect.Bool:
		return parquet.BooleanValue(v.Bool())
	case reflect.Slice:
		return parquet.ByteArrayValue(v.Bytes())
	}
	panic(fmt.Sprintf("schemas: no column for a %v", v.Type()))
}
