package onnxfile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// NewFloat32 is a float tensor of a copy of values.
func NewFloat32(name string, dims []int64, values []float32) *Tensor {
	t := &Tensor{Name: name, Type: Float, Dims: dims, Raw: make([]byte, 0, 4*len(values))}
	for _, v := range values {
		t.Raw = binary.LittleEndian.AppendUint32(t.Raw, math.Float32bits(v))
	}
	return t
}

// NewFloat16 is a float16 tensor of values rounded to nearest, ties to even; what is too large becomes infinite.
func NewFloat16(name string, dims []int64, values []float32) *Tensor {
	t := &Tensor{Name: name, Type: Float16, Dims: dims, Raw: make([]byte, 0, 2*len(values))}
	for _, v := range values {
		t.Raw = binary.LittleEndian.AppendUint16(t.Raw, toHalf(v))
	}
	return t
}

// NewInt64 is an int64 tensor of a copy of values.
func NewInt64(name string, dims []int64, values []int64) *Tensor {
	t := &Tensor{Name: name, Type: Int64, Dims: dims, Raw: make([]byte, 0, 8*len(values))}
	for _, v := range values {
		t.Raw = binary.LittleEndian.AppendUint64(t.Raw, uint64(v))
	}
	return t
}

// NewBool is a bool tensor of a copy of values.
func NewBool(name string, dims []int64, values []bool) *Tensor {
	t := &Tensor{Name: name, Type: Bool, Dims: dims, Raw: make([]byte, len(values))}
	for i, v := range values {
		if v {
			t.Raw[i] = 1
		}
	}
	return t
}

// Float32s are the elements of a float, float16 or double tensor that is within the model file.
func (t *Tensor) Float32s() ([]float32, error) {
	var read func(v uint64) float32
	switch t.Type {
	case Float:
		read = func(v uint64) float32 { return math.Float32frombits(uint32(v)) }
	case Float16:
		read = func(v uint64) float32 { return fromHalf(uint16(v)) }
	case Double:
		read = func(v uint64) float32 { return float32(math.Float64frombits(v)) }
	default:
		return nil, fmt.Errorf("onnxfile: tensor %q: %v where floats are wanted", t.Name, t.Type)
	}
	return numbers(t, read)
}

// Int64s are the elements of a tensor of integers or bools, but for uint64, that is within the model file.
func (t *Tensor) Int64s() ([]int64, error) {
	var read func(v uint64) int64
	switch t.Type {
	case Int64, Uint8, Uint16, Uint32, Bool:
		read = func(v uint64) int64 { return int64(v) }
	case Int32:
		read = func(v uint64) int64 { return int64(int32(v)) }
	case Int16:
		read = func(v uint64) int64 { return int64(int16(v)) }
	case Int8:
		read = func(v uint64) int64 { return int64(int8(v)) }
	default:
		return nil, fmt.Errorf("onnxfile: tensor %q: %v where integers are wanted", t.Name, t.Type)
	}
	return numbers(t, read)
}

func numbers[T any](t *Tensor, read func(uint64) T) ([]T, error) {
	if t.Location != 0 {
		return nil, fmt.Errorf("onnxfile: tensor %q: its data is in another file", t.Name)
	}
	if err := t.checkInline(); err != nil {
		return nil, fmt.Errorf("onnxfile: tensor %q: %w", t.Name, err)
	}
	n, err := t.Elements() // No more than there is data for, or the check had failed.
	if err != nil {
		return nil, err
	}
	out := make([]T, 0, n)
	if t.Raw == nil {
		fault := t.eachTyped(func(v uint64) { out = append(out, read(v)) })
		if fault != nil {
			return nil, fault
		}
		return out, nil
	}
	size := kinds[t.Type].bits / 8
	for b := t.Raw; len(b) > 0; b = b[size:] {
		var word [8]byte
		copy(word[:], b[:size])
		out = append(out, read(binary.LittleEndian.Uint64(word[:])))
	}
	return out, nil
}

// eachTyped visits the numbers of the older typed field that the type belongs into: the bits of floats, and what the
// varints are. Strings are visited as 0.
func (t *Tensor) eachTyped(visit func(uint64)) *CorruptError {
	want := kinds[t.Type].field
	memory := int64(math.MaxInt64)
	r := reader{data: t.typed, end: len(t.typed), memory: &memory}
	var none []byte
	return r.each(tensorSchema, &none, func(f field) *CorruptError {
		size, wire := 0, wireVarint
		switch want {
		case 4:
			size, wire = 4, wireFixed32
		case 10:
			size, wire = 8, wireFixed64
		case 6:
			wire = wireBytes
		}
		switch {
		case f.number != want:
			return f.fault(f.at, "does not hold %v", t.Type)
		case f.wire == wire:
			visit(f.value)
			return nil
		case f.wire != wireBytes:
			return f.is(wire)
		case size > 0 && (f.end-f.pos)%size != 0:
			return f.fault(f.pos, "%d bytes of packed %d-byte numbers", f.end-f.pos, size)
		}
		for f.pos < f.end {
			switch size {
			case 4:
				visit(uint64(binary.LittleEndian.Uint32(f.data[f.pos:])))
			case 8:
				visit(binary.LittleEndian.Uint64(f.data[f.pos:]))
			default:
				v, fault := f.varint()
				if fault != nil {
					return fault
				}
				visit(v)
			}
			f.pos += size
		}
		return nil
	})
}

// checkInline compares shape, type and the amount of data within the model file.
func (t *Tensor) checkInline() error {
	if !t.Type.known() {
		return fmt.Errorf("unknown %v", t.Type)
	}
	want, err := t.Elements()
	if err != nil {
		return err
	}
	if t.Raw != nil {
		if t.Type == String {
			return errors.New("strings cannot be raw data")
		}
		if len(t.typed) > 0 {
			return errors.New("has its data twice, raw and typed")
		}
		size, err := t.bytes()
		if err != nil {
			return err
		}
		if int64(len(t.Raw)) != size {
			return fmt.Errorf("%v%v takes %d bytes, the file has %d", t.Type, t.Dims, size, len(t.Raw))
		}
		return nil
	}
	got := int64(0)
	if fault := t.eachTyped(func(uint64) { got++ }); fault != nil {
		return errors.New(fault.Field + ": " + fault.Problem)
	}
	switch {
	case t.Type == Complex64 || t.Type == Complex128:
		want *= 2 // Cannot overflow unnoticed: got is what a file of 2 GiB has.
	case kinds[t.Type].bits > 0 && kinds[t.Type].bits < 8:
		return nil // Writers differ in how many elements they pack into one number.
	}
	if got != want {
		return fmt.Errorf("%v%v has %d numbers, the file has %d", t.Type, t.Dims, want, got)
	}
	return nil
}

// fromHalf widens an IEEE 754 half.
func fromHalf(h uint16) float32 {
	sign, exponent, fraction := uint32(h>>15)<<31, uint32(h>>10&31), uint32(h&1023)
	switch exponent {
	case 0:
		return math.Float32frombits(sign | math.Float32bits(float32(fraction)*0x1p-24))
	case 31:
		return math.Float32frombits(sign | 0xff<<23 | fraction<<13)
	}
	return math.Float32frombits(sign | (exponent+112)<<23 | fraction<<13)
}

// toHalf rounds to the nearest half, ties to even.
func toHalf(v float32) uint16 {
	bits := math.Float32bits(v)
	sign, magnitude := uint16(bits>>16&0x8000), bits&0x7fffffff
	switch {
	case magnitude > 0xff<<23:
		return sign | 0x7e00 // NaN
	case magnitude >= 0x477ff000: // 65520 and more
		return sign | 0x7c00
	case magnitude < 0x38800000: // below the smallest normal half: a multiple of 2^-24
		return sign | uint16(math.RoundToEven(float64(math.Float32frombits(magnitude))*0x1p24))
	}
	magnitude -= 112 << 23
	return sign | uint16((magnitude+0xfff+magnitude>>13&1)>>13)
}
