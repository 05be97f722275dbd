package onnx

import (
	"fmt"
	"slices"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/promptmill/promptmill/model/onnx/onnxfile"
)

// Element is what Tensors hold. Half precision stays within the runtime: Open turns a model's float16 inputs and
// outputs into float32.
type Element interface {
	float32 | float64 | int64 | int32 | uint8 | int8 | bool
}

// A Tensor is an array with a type and a shape. Close it when it is not used any more: the runtime holds a part of it
// that the garbage collector does not see.
type Tensor struct {
	value ort.Value
	kind  onnxfile.DataType
	shape []int64
}

// NewTensor makes a tensor of data, which it keeps: the elements row by row, as many as the product of the shape. A
// tensor without dimensions holds one element; a dimension may be 0.
func NewTensor[E Element](data []E, shape ...int64) (*Tensor, error) {
	n := int64(1)
	for _, d := range shape {
		if d < 0 {
			return nil, fmt.Errorf("tensor of shape %v: a dimension is negative", shape)
		}
		n *= d
	}
	if n != int64(len(data)) {
		return nil, fmt.Errorf("tensor of shape %v: %d elements, want %d", shape, len(data), n)
	}
	if err := Start(); err != nil {
		return nil, err
	}
	t := &Tensor{kind: kindOf[E](), shape: slices.Clone(shape)}
	var err error
	if len(shape) == 0 {
		t.value, err = ort.NewScalar(data[0])
	} else {
		t.value, err = ort.NewTensor(ort.Shape(t.shape), data)
	}
	if err != nil {
		return nil, fmt.Errorf("tensor of shape %v: %w", shape, err)
	}
	return t, nil
}

// Integers makes a tensor of whole numbers in the type that an input has: int32, float, or else int64. Only that of int64
// keeps values.
func Integers(kind onnxfile.DataType, values []int64, shape ...int64) (*Tensor, error) {
	switch kind {
	case onnxfile.Int32:
		narrow := make([]int32, len(values))
		for i, v := range values {
			narrow[i] = int32(v)
		}
		return NewTensor(narrow, shape...)
	case onnxfile.Float:
		wide := make([]float32, len(values))
		for i, v := range values {
			wide[i] = float32(v)
		}
		return NewTensor(wide, shape...)
	}
	return NewTensor(values, shape...)
}

func kindOf[E Element]() onnxfile.DataType {
	var e E
	switch any(e).(type) {
	case float32:
		return onnxfile.Float
	case float64:
		return onnxfile.Double
	case int64:
		return onnxfile.Int64
	case int32:
		return onnxfile.Int32
	case uint8:
		return onnxfile.Uint8
	case int8:
		return onnxfile.Int8
	}
	return onnxfile.Bool
}

// Shape is the size of each dimension. It must not be changed.
func (t *Tensor) Shape() []int64 { return t.shape }

// Type is the type of the elements.
func (t *Tensor) Type() onnxfile.DataType { return t.kind }

// String shows a tensor's type and shape, as in float [1 3 224 224].
func (t *Tensor) String() string { return fmt.Sprintf("%v %v", t.kind, t.shape) }

// Data are the elements, row by row: the tensor's own memory, valid until it is closed. It panics if they are not of
// type E.
func Data[E Element](t *Tensor) []E {
	switch v := t.value.(type) {
	case *ort.Tensor[E]:
		return v.GetData()
	case *ort.Scalar[E]:
		return []E{v.GetData()}
	}
	panic(fmt.Sprintf("onnx: a tensor of %v read as %T", t.kind, *new(E)))
}

// Close frees the tensor. Closing it twice, or a nil tensor, does nothing.
func (t *Tensor) Close() {
	if t != nil && t.value != nil {
		_ = t.value.Destroy() // it fails without an environment only, and there is one
		t.value = nil
	}
}

// CloseAll closes tensors, of which any may be nil.
func CloseAll(tensors []*Tensor) {
	for _, t := range tensors {
		t.Close()
	}
}

// received wraps what the runtime allocated.
func received(v ort.Value) (*Tensor, error) {
	t := &Tensor{value: v, shape: []int64(v.GetShape())}
	switch v.(type) {
	case *ort.Tensor[float32]:
		t.kind = onnxfile.Float
	case *ort.Tensor[float64]:
		t.kind = onnxfile.Double
	case *ort.Tensor[int64]:
		t.kind = onnxfile.Int64
	case *ort.Tensor[int32]:
		t.kind = onnxfile.Int32
	case *ort.Tensor[uint8]:
		t.kind = onnxfile.Uint8
	case *ort.Tensor[int8]:
		t.kind = onnxfile.Int8
	case *ort.Tensor[bool]:
		t.kind = onnxfile.Bool
	default:
		return nil, fmt.Errorf("a %T, which promptmill does not read", v)
	}
	return t, nil
}
