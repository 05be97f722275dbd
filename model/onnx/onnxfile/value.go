package onnxfile

import (
	"strconv"
	"strings"
)

// Value is a ValueInfoProto: the name of something that flows, and what is known of its type.
type Value struct {
	Name     string
	Type     *Type
	Doc      string
	Metadata []*Entry

	unknown []byte
}

// Type is a TypeProto. Tensor is nil for sequences, maps and optional values, which are kept but not read.
type Type struct {
	Tensor *TensorType

	unknown []byte
}

// TensorType is a TypeProto.Tensor. Shape is nil if not even the rank is known.
type TensorType struct {
	Elem  DataType
	Shape *Shape

	unknown []byte
}

// Shape is a TensorShapeProto. No dimensions are a scalar.
type Shape struct {
	Dims []*Dim

	unknown []byte
}

// Dim is a dimension: a size of 0 or more, or a Symbol for a size that is known when the model runs, or, with
// Size -1 and no symbol, nothing at all.
type Dim struct {
	Size   int64
	Symbol string

	unknown []byte
}

// NewValue describes a tensor. A dimension is an int, or a string for a symbol; NewValue panics on others.
func NewValue(name string, elem DataType, dims ...any) *Value {
	shape := &Shape{}
	for _, d := range dims {
		switch d := d.(type) {
		case int:
			shape.Dims = append(shape.Dims, &Dim{Size: int64(d)})
		case string:
			shape.Dims = append(shape.Dims, &Dim{Size: -1, Symbol: d})
		default:
			panic("onnxfile: a dimension is an int or a string")
		}
	}
	return &Value{Name: name, Type: &Type{Tensor: &TensorType{Elem: elem, Shape: shape}}}
}

// String shows a dimension as ONNX's tools do: 4, batch or ?.
func (d *Dim) String() string {
	switch {
	case d.Symbol != "":
		return d.Symbol
	case d.Size < 0:
		return "?"
	}
	return strconv.FormatInt(d.Size, 10)
}

// String shows a shape as in [batch,4,64,64].
func (s *Shape) String() string {
	if s == nil {
		return "[...]"
	}
	var dims []string
	for _, d := range s.Dims {
		dims = append(dims, d.String())
	}
	return "[" + strings.Join(dims, ",") + "]"
}

var valueSchema = schema{1: "name", 2: "type", 3: "doc_string", 4: "metadata_props[]"}

func (v *Value) decode(r reader) *CorruptError {
	return r.each(valueSchema, &v.unknown, func(f field) *CorruptError {
		switch f.number {
		case 1:
			return f.text(&v.Name)
		case 2:
			return one(f, &v.Type)
		case 3:
			return f.text(&v.Doc)
		}
		return many(f, &v.Metadata)
	})
}

func (v *Value) encode(w *writer) {
	w.textSet(1, v.Name)
	if v.Type != nil {
		w.message(2, v.Type)
	}
	w.textSet(3, v.Doc)
	messages(w, 4, v.Metadata)
	w.b = append(w.b, v.unknown...)
}

var typeSchema = schema{1: "tensor_type"}

func (t *Type) decode(r reader) *CorruptError {
	return r.each(typeSchema, &t.unknown, func(f field) *CorruptError { return one(f, &t.Tensor) })
}

func (t *Type) encode(w *writer) {
	if t.Tensor != nil {
		w.message(1, t.Tensor)
	}
	w.b = append(w.b, t.unknown...)
}

var tensorTypeSchema = schema{1: "elem_type", 2: "shape"}

func (t *TensorType) decode(r reader) *CorruptError {
	return r.each(tensorTypeSchema, &t.unknown, func(f field) *CorruptError {
		if f.number == 1 {
			return f.integer((*int64)(&t.Elem))
		}
		return one(f, &t.Shape)
	})
}

func (t *TensorType) encode(w *writer) {
	w.integerSet(1, int64(t.Elem))
	if t.Shape != nil {
		w.message(2, t.Shape)
	}
	w.b = append(w.b, t.unknown...)
}

var shapeSchema = schema{1: "dim[]"}

func (s *Shape) decode(r reader) *CorruptError {
	return r.each(shapeSchema, &s.unknown, func(f field) *CorruptError { return many(f, &s.Dims) })
}

func (s *Shape) encode(w *writer) {
	messages(w, 1, s.Dims)
	w.b = append(w.b, s.unknown...)
}

var dimSchema = schema{1: "dim_value", 2: "dim_param"}

func (d *Dim) decode(r reader) *CorruptError {
	d.Size = -1
	return r.each(dimSchema, &d.unknown, func(f field) *CorruptError {
		if f.number == 1 {
			d.Symbol = "" // Of the two, the later one holds.
			return f.integer(&d.Size)
		}
		d.Size = -1
		return f.text(&d.Symbol)
	})
}

func (d *Dim) encode(w *writer) {
	switch {
	case d.Symbol != "":
		w.text(2, d.Symbol)
	case d.Size != -1:
		w.integer(1, d.Size)
	}
	w.b = append(w.b, d.unknown...)
}
