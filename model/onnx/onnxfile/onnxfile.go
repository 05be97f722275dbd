// Package onnxfile reads, checks and writes ONNX model files: plain structs in, plain structs out.
//
// # Design
//
// The codec is written by hand. Generated protobuf code registers its messages in a process-wide table, and two
// packages generated from onnx.proto, of which dependencies may bring one, panic at start. It also lets a model be
// looked at before ONNX Runtime, which is C++, sees the file: a truncated file, a wrong size or a path that leaves
// the folder is an error here, with the name of the field and its place, and not a crash there.
//
// Files come from outsiders: nothing is allocated because a file says so, nesting is bounded, and what decoding may
// allocate is bounded by Limits. Large data is not copied: Tensor.Raw lies in the bytes that Parse was given.
//
// Writing keeps the fields that this package does not know. A file whose fields come in the order of their numbers,
// as protobuf's own writers leave them, is rewritten byte for byte, but for explicit zeros and empty strings.
//
// The format is onnx.proto of github.com/onnx/onnx (field numbers as of IR version 13); its rules are
// docs/IR.md and docs/ExternalData.md there.
package onnxfile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// ErrModel is wrapped by every error that says that a file is not a model that can be run.
var ErrModel = errors.New("bad ONNX model")

// CorruptError says where a file stops making sense. It wraps ErrModel.
type CorruptError struct {
	// Field is the path of the field, such as graph.node[3].attribute[0].t; empty for the file itself.
	Field string
	// Offset is in bytes from the beginning of the file.
	Offset int64
	// Problem says what is wrong.
	Problem string
}

// Error implements error.
func (e *CorruptError) Error() string {
	name := e.Field
	if name == "" {
		name = "the model"
	}
	return fmt.Sprintf("%v: %s at byte %d: %s", ErrModel, name, e.Offset, e.Problem)
}

// Unwrap gives ErrModel.
func (e *CorruptError) Unwrap() error { return ErrModel }

// in puts a fault into the field of the message around it.
func (e *CorruptError) in(name string, index int) *CorruptError {
	if repeated, ok := strings.CutSuffix(name, "[]"); ok {
		name = fmt.Sprintf("%s[%d]", repeated, index)
	}
	if e.Field != "" && name != "" {
		name += "."
	}
	e.Field = name + e.Field
	return e
}

// Limits bound what a file may ask for. The zero value takes the defaults.
type Limits struct {
	// FileBytes bounds the model file, without its external data; 0 is 2 GiB, the most that protobuf can hold.
	FileBytes int64
	// Memory bounds what decoding allocates beside the file's own bytes; 0 is 512 MiB. A graph of 100,000 nodes
	// takes some 200 MiB by this count, which is on the safe side.
	Memory int64
}

// Open reads a model file and checks it together with its external data, which is looked for in the file's folder
// and nowhere else. The error names the file; it wraps ErrModel if the file can be read but not be run.
func Open(path string, limits Limits) (*Model, error) {
	m, err := open(path, limits)
	if err != nil {
		return nil, fmt.Errorf("onnxfile: %s: %w", path, err)
	}
	return m, nil
}

func open(path string, limits Limits) (*Model, error) {
	data, err := read(path, limits)
	if err != nil {
		return nil, err
	}
	m, err := Parse(data, limits)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return m, m.Check(root)
}

func read(path string, limits Limits) ([]byte, error) {
	// Looked at before it is opened: opening a pipe waits for a writer.
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: not a file", ErrModel)
	}
	if most := limits.fileBytes(); info.Size() > most {
		return nil, fmt.Errorf("%w: %d bytes, more than the limit of %d", ErrModel, info.Size(), most)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data := make([]byte, info.Size())
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, err
	}
	return data, nil
}

// Parse decodes a model without checking that it makes sense. It keeps data, which must not change while
// the model is used. Its errors are of type *CorruptError, or say that data is larger than limits allow.
func Parse(data []byte, limits Limits) (*Model, error) {
	if most := limits.fileBytes(); int64(len(data)) > most {
		return nil, fmt.Errorf("%w: %d bytes, more than the limit of %d", ErrModel, len(data), most)
	}
	memory := limits.Memory
	if memory == 0 {
		memory = 512 << 20
	}
	m := &Model{}
	if fault := m.decode(reader{data: data, end: len(data), memory: &memory}); fault != nil {
		return nil, fault
	}
	return m, nil
}

func (l Limits) fileBytes() int64 {
	if l.FileBytes == 0 {
		return 2 << 30
	}
	return l.FileBytes
}
