package onnxfile

import (
	"encoding/binary"
	"fmt"
	"math"
)

// The wire types of protocol buffers (protobuf.dev/programming-guides/encoding). Groups, 3 and 4, are in no ONNX file.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

// maxDepth of nested messages is what protobuf's own C++ parser takes.
const maxDepth = 100

// A schema names the fields of a message that this package reads, by number; the others are kept as they are.
// Names of repeated fields end in [].
type schema []string

func (s schema) name(number uint64) string {
	if number < uint64(len(s)) {
		return s[number]
	}
	return ""
}

// reader is the part pos..end of a file, one message. Offsets are the file's.
type reader struct {
	data     []byte
	pos, end int
	depth    int
	memory   *int64 // left to spend on what is decoded
}

// field is one field of a message as it stands in the file.
type field struct {
	reader // of a wireBytes field: the body
	number uint64
	wire   int
	value  uint64 // of a varint, fixed64 or fixed32 field
	at     int    // where its tag begins
}

// raw is the whole field, tag included.
func (f field) raw() []byte { return f.data[f.at:f.end] }

// body of a wireBytes field, not copied.
func (f field) body() []byte { return f.data[f.pos:f.end:f.end] }

func (r reader) fault(at int, format string, args ...any) *CorruptError {
	return &CorruptError{Offset: int64(at), Problem: fmt.Sprintf(format, args...)}
}

// spend accounts for memory before it is allocated: small fields decode to much larger structs.
func (r reader) spend(bytes int) *CorruptError {
	if *r.memory -= int64(bytes); *r.memory < 0 {
		return r.fault(r.pos, "decoding needs more memory than Limits.Memory")
	}
	return nil
}

// varint reads at most ten bytes.
func (r *reader) varint() (uint64, *CorruptError) {
	v, n := binary.Uvarint(r.data[r.pos:r.end])
	switch {
	case n == 0:
		return 0, r.fault(r.pos, "the file or message ends within a number")
	case n < 0:
		return 0, r.fault(r.pos, "a number has more than 64 bits")
	}
	r.pos += n
	return v, nil
}

// next reads one field and moves behind it.
func (r *reader) next(s schema) (field, *CorruptError) {
	f := field{at: r.pos}
	tag, fault := r.varint()
	if fault != nil {
		return f, fault
	}
	f.number, f.wire = tag>>3, int(tag&7)
	if f.number == 0 || f.number >= 1<<29 {
		return f, r.fault(f.at, "field number %d", f.number)
	}
	size := uint64(0)
	switch f.wire {
	case wireVarint:
		f.value, fault = r.varint()
	case wireBytes:
		size, fault = r.varint()
	case wireFixed64:
		size = 8
	case wireFixed32:
		size = 4
	default:
		fault = r.fault(f.at, "wire type %d", f.wire)
	}
	if left := uint64(r.end - r.pos); fault == nil && size > left {
		fault = r.fault(r.pos, "%d bytes are said to follow, %d are there", size, left)
	}
	if fault != nil {
		return f, fault.in(s.name(f.number), 0)
	}
	f.reader = *r
	r.pos += int(size)
	f.end = r.pos
	switch f.wire {
	case wireFixed64:
		f.value = binary.LittleEndian.Uint64(f.body())
	case wireFixed32:
		f.value = uint64(binary.LittleEndian.Uint32(f.body()))
	}
	return f, nil
}

// each calls known with every field that the schema names, in the file's order, and keeps the others.
func (r reader) each(s schema, unknown *[]byte, known func(field) *CorruptError) *CorruptError {
	if r.depth > maxDepth {
		return r.fault(r.pos, "messages are nested more than %d deep", maxDepth)
	}
	var seen [32]int
	for r.pos < r.end {
		f, fault := r.next(s)
		if fault != nil {
			return fault
		}
		name := s.name(f.number)
		if name == "" {
			if fault := f.spend(2 * len(f.raw())); fault != nil {
				return fault
			}
			*unknown = append(*unknown, f.raw()...)
			continue
		}
		if fault := known(f); fault != nil {
			return fault.in(name, seen[f.number])
		}
		seen[f.number]++
	}
	return nil
}

func (f field) is(wire int) *CorruptError {
	if f.wire != wire {
		return f.fault(f.at, "wire type %d, want %d", f.wire, wire)
	}
	return nil
}

func (f field) text(to *string) *CorruptError {
	if fault := f.is(wireBytes); fault != nil {
		return fault
	}
	if fault := f.spend(f.end - f.pos); fault != nil {
		return fault
	}
	*to = string(f.body())
	return nil
}

func (f field) texts(to *[]string) *CorruptError {
	var v string
	if fault := f.text(&v); fault != nil {
		return fault
	}
	*to = append(*to, v)
	return f.spend(32)
}

// bytes are those of the file, not a copy.
func (f field) bytes(to *[]byte) *CorruptError {
	*to = f.body()
	return f.is(wireBytes)
}

func (f field) integer(to *int64) *CorruptError {
	*to = int64(f.value)
	return f.is(wireVarint)
}

// integers takes both forms of a repeated number, packed and not.
func (f field) integers(to *[]int64) *CorruptError {
	if f.wire == wireVarint {
		*to = append(*to, int64(f.value))
		return f.spend(16)
	}
	r := f.reader
	for r.pos < r.end {
		v, fault := r.varint()
		if fault == nil {
			fault = r.spend(16)
		}
		if fault != nil {
			return fault
		}
		*to = append(*to, int64(v))
	}
	return f.is(wireBytes)
}

func (f field) float(to *float32) *CorruptError {
	*to = math.Float32frombits(uint32(f.value))
	return f.is(wireFixed32)
}

func (f field) floats(to *[]float32) *CorruptError {
	if f.wire == wireFixed32 {
		*to = append(*to, math.Float32frombits(uint32(f.value)))
		return f.spend(8)
	}
	b := f.body()
	if fault := f.spend(2 * len(b)); fault != nil {
		return fault
	}
	if len(b)%4 != 0 {
		return f.fault(f.pos, "%d bytes of packed 4-byte numbers", len(b))
	}
	for ; len(b) > 0; b = b[4:] {
		*to = append(*to, math.Float32frombits(binary.LittleEndian.Uint32(b)))
	}
	return f.is(wireBytes)
}

// message is a struct that reads itself, adding to what it already has: protobuf merges a message that comes twice,
// and so must a check that is to see what another reader will see.
type message[T any] interface {
	*T
	decode(reader) *CorruptError
}

func one[T any, M message[T]](f field, to **T) *CorruptError {
	if fault := f.is(wireBytes); fault != nil {
		return fault
	}
	if *to == nil {
		if fault := f.spend(structSize); fault != nil {
			return fault
		}
		*to = new(T)
	}
	f.depth++
	return M(*to).decode(f.reader)
}

func many[T any, M message[T]](f field, to *[]*T) *CorruptError {
	var v *T
	fault := one[T, M](f, &v)
	if fault == nil {
		*to = append(*to, v)
	}
	return fault
}

// structSize is what Limits.Memory is charged for a message: the largest struct, and its place in a slice.
const structSize = 352

// writer appends fields. Zero values are left out by the methods whose names end in Set.
type writer struct{ b []byte }

func (w *writer) tag(number, wire int) {
	w.b = binary.AppendUvarint(w.b, uint64(number)<<3|uint64(wire))
}

func (w *writer) bytes(number int, v []byte) {
	w.tag(number, wireBytes)
	w.b = binary.AppendUvarint(w.b, uint64(len(v)))
	w.b = append(w.b, v...)
}

func (w *writer) text(number int, v string) {
	w.tag(number, wireBytes)
	w.b = binary.AppendUvarint(w.b, uint64(len(v)))
	w.b = append(w.b, v...)
}

func (w *writer) textSet(number int, v string) {
	if v != "" {
		w.text(number, v)
	}
}

func (w *writer) texts(number int, v []string) {
	for _, s := range v {
		w.text(number, s)
	}
}

func (w *writer) integer(number int, v int64) {
	w.tag(number, wireVarint)
	w.b = binary.AppendUvarint(w.b, uint64(v))
}

func (w *writer) integerSet(number int, v int64) {
	if v != 0 {
		w.integer(number, v)
	}
}

func (w *writer) integers(number int, v []int64) {
	for _, n := range v {
		w.integer(number, n)
	}
}

func (w *writer) float(number int, v float32) {
	w.tag(number, wireFixed32)
	w.b = binary.LittleEndian.AppendUint32(w.b, math.Float32bits(v))
}

// message writes a nested message where it belongs and then moves it to make room for its length, so that no size
// has to be known before; each byte moves once for every message around it.
func (w *writer) message(number int, m interface{ encode(*writer) }) {
	w.tag(number, wireBytes)
	start := len(w.b)
	m.encode(w)
	size := len(w.b) - start
	var length [binary.MaxVarintLen64]byte
	n := binary.PutUvarint(length[:], uint64(size))
	w.b = append(w.b, length[:n]...)
	copy(w.b[start+n:], w.b[start:start+size])
	copy(w.b[start:], length[:n])
}

func messages[T any, M interface {
	*T
	encode(*writer)
}](w *writer, number int, v []*T,
) {
	for _, m := range v {
		w.message(number, M(m))
	}
}
