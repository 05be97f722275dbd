package onnxfile

import (
	"fmt"
	"math"
)

// DataType is a TensorProto.DataType.
type DataType int64

// The types of tensors.
const (
	Undefined  DataType = 0
	Float      DataType = 1
	Uint8      DataType = 2
	Int8       DataType = 3
	Uint16     DataType = 4
	Int16      DataType = 5
	Int32      DataType = 6
	Int64      DataType = 7
	String     DataType = 8
	Bool       DataType = 9
	Float16    DataType = 10
	Double     DataType = 11
	Uint32     DataType = 12
	Uint64     DataType = 13
	Complex64  DataType = 14
	Complex128 DataType = 15
	BFloat16   DataType = 16
)

// kinds are the names of the data types, their bits an element, and the field that holds them where not raw_data.
var kinds = []struct {
	name  string
	bits  int64
	field uint64
}{
	{"undefined", 0, 0},
	{"float", 32, 4},
	{"uint8", 8, 5},
	{"int8", 8, 5},
	{"uint16", 16, 5},
	{"int16", 16, 5},
	{"int32", 32, 5},
	{"int64", 64, 7},
	{"string", 0, 6},
	{"bool", 8, 5},
	{"float16", 16, 5},
	{"double", 64, 10},
	{"uint32", 32, 11},
	{"uint64", 64, 11},
	{"complex64", 64, 4},
	{"complex128", 128, 10},
	{"bfloat16", 16, 5},
	{"float8e4m3fn", 8, 5},
	{"float8e4m3fnuz", 8, 5},
	{"float8e5m2", 8, 5},
	{"float8e5m2fnuz", 8, 5},
	{"uint4", 4, 5},
	{"int4", 4, 5},
	{"float4e2m1", 4, 5},
	{"float8e8m0", 8, 5},
	{"uint2", 2, 5},
	{"int2", 2, 5},
}

func (d DataType) known() bool { return d > 0 && int(d) < len(kinds) }

// String is the type's name in ONNX, in lower case.
func (d DataType) String() string {
	if d == 0 || d.known() {
		return kinds[d].name
	}
	return fmt.Sprintf("data type %d", int64(d))
}

// Tensor is a TensorProto: numbers with a shape, row-major. They are in one of three places: Raw, little-endian; a
// file beside the model, which External names; or the older typed fields, which only Float32s and Int64s read.
type Tensor struct {
	Name string
	Type DataType
	// Dims are the sizes; none are a scalar.
	Dims []int64
	Raw  []byte
	// External are the keys location, offset and length; they count if Location is 1.
	External []*Entry
	Location int64
	Metadata []*Entry
	Doc      string

	typed   []byte // the fields 4 to 7, 10 and 11 as they stand in the file
	unknown []byte
}

// Sparse is a SparseTensorProto.
type Sparse struct {
	Values, Indices *Tensor
	Dims            []int64

	unknown []byte
}

// Elements is the number of elements; an error if a dimension is negative or the product has more than 63 bits.
func (t *Tensor) Elements() (int64, error) { return elements(t.Dims) }

func elements(dims []int64) (int64, error) {
	n := int64(1)
	empty := false
	for _, d := range dims {
		if d < 0 {
			return 0, fmt.Errorf("dimension %d of %v is negative", d, dims)
		}
		empty = empty || d == 0
	}
	if empty {
		return 0, nil
	}
	for _, d := range dims {
		if n > math.MaxInt64/d {
			return 0, fmt.Errorf("the dimensions %v have no product", dims)
		}
		n *= d
	}
	return n, nil
}

// bytes is the size of the elements in Raw or in a file; 0 for strings, which are never there.
func (t *Tensor) bytes() (int64, error) {
	n, err := t.Elements()
	if err != nil {
		return 0, err
	}
	bits := kinds[t.Type].bits
	if bits > 0 && n > (math.MaxInt64-7)/bits {
		return 0, fmt.Errorf("%d elements of %v have no size", n, t.Type)
	}
	return (n*bits + 7) / 8, nil
}

var tensorSchema = schema{
	1: "dims[]", 2: "data_type", 4: "float_data[]", 5: "int32_data[]", 6: "string_data[]", 7: "int64_data[]", 8: "name", 9: "raw_data",
	10: "double_data[]", 11: "uint64_data[]", 12: "doc_string", 13: "external_data[]", 14: "data_location", 16: "metadata_props[]",
}

func (t *Tensor) decode(r reader) *CorruptError {
	return r.each(tensorSchema, &t.unknown, func(f field) *CorruptError {
		switch f.number {
		case 1:
			return f.integers(&t.Dims)
		case 2:
			return f.integer((*int64)(&t.Type))
		case 8:
			return f.text(&t.Name)
		case 9:
			return f.bytes(&t.Raw)
		case 12:
			return f.text(&t.Doc)
		case 13:
			return many(f, &t.External)
		case 14:
			return f.integer(&t.Location)
		case 16:
			return many(f, &t.Metadata)
		}
		if fault := f.spend(2 * len(f.raw())); fault != nil {
			return fault
		}
		t.typed = append(t.typed, f.raw()...)
		return nil
	})
}

func (t *Tensor) encode(w *writer) {
	w.integers(1, t.Dims)
	w.integerSet(2, int64(t.Type))
	w.b = append(w.b, t.typed...)
	w.textSet(8, t.Name)
	if t.Raw != nil {
		w.bytes(9, t.Raw)
	}
	w.textSet(12, t.Doc)
	messages(w, 13, t.External)
	w.integerSet(14, t.Location)
	messages(w, 16, t.Metadata)
	w.b = append(w.b, t.unknown...)
}

var sparseSchema = schema{1: "values", 2: "indices", 3: "dims[]"}

func (s *Sparse) decode(r reader) *CorruptError {
	return r.each(sparseSchema, &s.unknown, func(f field) *CorruptError {
		switch f.number {
		case 1:
			return one(f, &s.Values)
		case 2:
			return one(f, &s.Indices)
		}
		return f.integers(&s.Dims)
	})
}

func (s *Sparse) encode(w *writer) {
	if s.Values != nil {
		w.message(1, s.Values)
	}
	if s.Indices != nil {
		w.message(2, s.Indices)
	}
	w.integers(3, s.Dims)
	w.b = append(w.b, s.unknown...)
}
