package onnxfile_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/promptmill/promptmill/model/onnx/onnxfile"
)

// folder has what everything's external tensor wants, something outside, and links.
func folder(t *testing.T) *os.Root {
	t.Helper()
	above := t.TempDir()
	dir := filepath.Join(above, "model")
	if err := errors.Join(
		os.Mkdir(dir, 0o700),
		os.Mkdir(filepath.Join(dir, "sub"), 0o700),
		os.WriteFile(filepath.Join(dir, "w.bin"), make([]byte, 8), 0o600),
		os.WriteFile(filepath.Join(above, "secret"), make([]byte, 8), 0o600),
		os.Symlink("../secret", filepath.Join(dir, "out")),
		os.Symlink("w.bin", filepath.Join(dir, "inside")),
		os.Symlink("..", filepath.Join(dir, "up")),
	); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	return root
}

func TestCheck(t *testing.T) {
	root := folder(t)
	if err := everything().Check(root); err != nil {
		t.Error(err)
	}
	if err := everything().Check(nil); err == nil || !strings.Contains(err.Error(), "opened from its folder") {
		t.Errorf("without a folder: %v", err)
	}
	type model = onnxfile.Model
	for _, tt := range []struct {
		name   string
		change func(*model)
		want   string
	}{
		{"no version", func(m *model) { m.IRVersion = 0 }, "ir_version 0"},
		{"no graph", func(m *model) { m.Graph = nil }, "no graph"},
		{"no opset", func(m *model) { m.Opsets = nil }, "imports no operator set"},
		{"old opset", func(m *model) { m.Opsets[0].Version = 6 }, `operator set "" has version 6, not in 7..100`},
		{"two opsets", func(m *model) { m.Opsets[1] = &onnxfile.Opset{Domain: "ai.onnx", Version: 18} }, "imported twice"},
		{"no outputs", func(m *model) { m.Graph.Outputs = nil }, "no outputs"},
		{"output not computed", func(m *model) { m.Graph.Outputs[0].Name = "q" }, `output "q" is not computed`},
		{"input type", func(m *model) { m.Graph.Inputs[0].Type.Tensor.Elem = 99 }, `"x": unknown data type 99`},
		{"input shape", func(m *model) { m.Graph.Inputs[0].Type.Tensor.Shape.Dims[1].Size = -4 }, "negative size"},
		{"input twice", func(m *model) { m.Graph.Inputs[1].Name = "x" }, `"x" is defined twice`},
		{"no operator", func(m *model) { m.Graph.Nodes[0].Op = "" }, `node 0 "n" has no operator`},
		{"unknown domain", func(m *model) { m.Graph.Nodes[0].Domain = "org" }, `domain "org", which is not imported`},
		{"undefined input", func(m *model) { m.Graph.Nodes[0].Inputs[0] = "nothing" }, `node 0 "n" (Twice): input "nothing" is not defined`},
		{"output twice", func(m *model) { m.Graph.Nodes[0].Outputs[0] = "y" }, `"y" is defined twice`},
		{"in a branch", func(m *model) { m.Graph.Nodes[1].Attributes[1].Graph.Nodes[0].Inputs[0] = "nothing" }, `attribute "else_branch": node 0 "" (Identity): input "nothing"`},
		{"no branch", func(m *model) { m.Graph.Nodes[1].Attributes[1].Graph = nil }, `attribute "else_branch": its value is missing`},
		{"in a function", func(m *model) { m.Functions[0].Nodes[0].Inputs[0] = "x" }, `function "Twice": node 0`},
		{"too few bytes", func(m *model) { m.Graph.Initializers[0].Raw = make([]byte, 15) }, `initializer "w": float[2 2] takes 16 bytes, the file has 15`},
		{"no data", func(m *model) { m.Graph.Initializers[0].Raw = nil }, `float[2 2] has 4 numbers, the file has 0`},
		{"huge shape", func(m *model) { m.Graph.Initializers[0].Dims = []int64{1 << 40, 1 << 40} }, "have no product"},
		{"huge size", func(m *model) { m.Graph.Initializers[0].Dims = []int64{1 << 62} }, "have no size"},
		{"negative shape", func(m *model) { m.Graph.Initializers[0].Dims = []int64{-2, -2} }, "negative"},
		{"weights twice", func(m *model) { m.Graph.Initializers[1].Name = "w" }, `"w" is defined twice`},
		{"raw strings", func(m *model) { m.Graph.Initializers[0].Type = onnxfile.String }, "strings cannot be raw"},
		{"constant", func(m *model) { m.Graph.Nodes[1].Attributes[6].Tensor.Type = 77 }, `attribute "t": unknown data type 77`},
		{"sparse", func(m *model) { m.Graph.Sparse[0].Indices = nil }, "no indices"},
		{"location", func(m *model) { m.Graph.Initializers[1].Location = 2 }, "data_location 2"},
		{"both", func(m *model) { m.Graph.Initializers[1].Raw = make([]byte, 8) }, "data twice"},
		{"hidden", func(m *model) { m.Graph.Initializers[1].Location = 0 }, "names external data"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := everything()
			tt.change(m)
			if err := m.Check(root); !errors.Is(err, onnxfile.ErrModel) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestExternalDataStaysInTheFolder(t *testing.T) {
	root := folder(t)
	for _, tt := range []struct{ location, offset, length, want string }{
		{"w.bin", "", "", ""},
		{"w.bin", "0", "8", ""},
		{"inside", "", "", ""},
		{"sub/../w.bin", "", "", ""},
		{"w.bin", "1", "", "has 8 bytes, 8 from 1 on are wanted"},
		{"w.bin", "9223372036854775807", "", "has 8 bytes"},
		{"w.bin", "-1", "", `offset "-1" is not a number of bytes`},
		{"w.bin", "", "4", "takes 8 bytes, length says 4"},
		{"w.bin", "", "many", `length "many"`},
		{"gone.bin", "", "", `there is no "gone.bin" in the model's folder: copy it there`},
		{"sub", "", "", "is not a file"},
		{"", "", "", "is not a file of the model's folder"},
		{"../secret", "", "", "is not a file of the model's folder"},
		{"sub/../../secret", "", "", "is not a file of the model's folder"},
		{filepath.Join(root.Name(), "w.bin"), "", "", "is not a file of the model's folder"},
		{`..\secret`, "", "", "is not a file of the model's folder"},
		{"out", "", "", "links may not leave"},
		{"up/secret", "", "", "links may not leave"},
		{"*/_ORT_MEM_ADDR_/*", "", "", "there is no"},
	} {
		m := everything()
		entries := []*onnxfile.Entry{{Key: "location", Value: tt.location}}
		if tt.offset != "" {
			entries = append(entries, &onnxfile.Entry{Key: "offset", Value: tt.offset})
		}
		if tt.length != "" {
			entries = append(entries, &onnxfile.Entry{Key: "length", Value: tt.length})
		}
		evil := &onnxfile.Tensor{Name: "out", Type: onnxfile.Float, Dims: []int64{2}, Location: 1, External: entries}
		// Wherever a tensor can be.
		for place, put := range map[string]func(){
			"initializer": func() { m.Graph.Initializers[1] = evil },
			"constant":    func() { m.Graph.Nodes[1].Attributes[6].Tensor = evil },
			"branch":      func() { m.Graph.Nodes[1].Attributes[0].Graph.Initializers = []*onnxfile.Tensor{evil} },
			"tensors":     func() { m.Graph.Nodes[1].Attributes[10].Tensors[0] = evil },
			"graphs":      func() { m.Graph.Nodes[1].Attributes[11].Graphs[0].Initializers = []*onnxfile.Tensor{evil} },
			"sparse": func() {
				m.Graph.Nodes[1].Attributes[13].Sparses[0] = &onnxfile.Sparse{Values: evil, Indices: onnxfile.NewInt64("", nil, []int64{0}), Dims: []int64{2}}
			},
			"function": func() {
				m.Functions[0].Nodes[0].Attributes = []*onnxfile.Attribute{{Name: "v", Type: onnxfile.AttributeTensor, Tensor: evil}}
			},
		} {
			m = everything()
			put()
			err := m.Check(root)
			if tt.want == "" && err != nil || tt.want != "" && (!errors.Is(err, onnxfile.ErrModel) || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("%s %+v: got %v", place, tt, err)
			}
		}
	}
	m := everything()
	evil := m.Graph.Initializers[1]
	evil.External = append(evil.External, evil.External[0])
	if err := m.Check(root); err == nil || !strings.Contains(err.Error(), `"location" is defined twice`) {
		t.Errorf("two locations: %v", err)
	}
}

// The older fields float_data, int32_data, int64_data and double_data, packed and not.
func TestTypedData(t *testing.T) {
	tensor := func(fields ...byte) *onnxfile.Tensor {
		data := lengthened(7<<3|2, lengthened(5<<3|2, fields))
		m := parse(t, data)
		if string(m.Marshal()) != string(data) {
			t.Errorf("%x came back as %x", data, m.Marshal())
		}
		return m.Graph.Initializers[0]
	}
	for _, tt := range []struct {
		name   string
		tensor *onnxfile.Tensor
		floats []float32
		ints   []int64
	}{
		{"packed floats", tensor(8, 2, 16, 1, 4<<3|2, 8, 0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0), []float32{1, -2}, nil},
		{"floats", tensor(8, 2, 16, 1, 4<<3|5, 0, 0, 0x80, 0x3f, 4<<3|5, 0, 0, 0, 0xc0), []float32{1, -2}, nil},
		{"halves", tensor(8, 1, 16, 10, 5<<3|2, 2, 0x80, 0x78), []float32{1}, nil},
		{"doubles", tensor(16, 11, 10<<3|2, 8, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f), []float32{1}, nil},
		{"int64", tensor(8, 2, 16, 7, 7<<3|2, 11, 5, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1), nil, []int64{5, -1}},
		{"bool", tensor(8, 2, 16, 9, 5<<3, 1, 5<<3, 0), nil, []int64{1, 0}},
		{"raw int32", &onnxfile.Tensor{Type: onnxfile.Int32, Dims: []int64{1}, Raw: []byte{0xfe, 0xff, 0xff, 0xff}}, nil, []int64{-2}},
		{"raw int8", &onnxfile.Tensor{Type: onnxfile.Int8, Dims: []int64{2}, Raw: []byte{1, 0xff}}, nil, []int64{1, -1}},
		{"raw int64", onnxfile.NewInt64("", []int64{2}, []int64{1, -1 << 63}), nil, []int64{1, -1 << 63}},
		{"empty", &onnxfile.Tensor{Type: onnxfile.Int64, Dims: []int64{0, 1 << 62, 1 << 62}}, nil, []int64{}},
	} {
		floats, floatErr := tt.tensor.Float32s()
		ints, intErr := tt.tensor.Int64s()
		if !reflect.DeepEqual(floats, tt.floats) || !reflect.DeepEqual(ints, tt.ints) || (floatErr == nil) == (intErr == nil) {
			t.Errorf("%s: %v, %v and %v, %v", tt.name, floats, floatErr, ints, intErr)
		}
	}
	for name, bad := range map[string]*onnxfile.Tensor{
		"too many":    tensor(8, 1, 16, 1, 4<<3|2, 8, 0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0),
		"other field": tensor(8, 1, 16, 1, 7<<3, 1),
		"odd packing": tensor(8, 1, 16, 1, 4<<3|2, 3, 0, 0, 0),
		"external":    {Type: onnxfile.Float, Location: 1},
	} {
		if got, err := bad.Float32s(); err == nil {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(everything().Marshal())
	small := everything()
	small.Functions, small.Graph.Nodes, small.Graph.Sparse = nil, small.Graph.Nodes[:1], nil
	f.Add(small.Marshal())
	f.Add([]byte("<!DOCTYPE html>"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := onnxfile.Parse(data, onnxfile.Limits{Memory: 4 << 20})
		if err != nil {
			var corrupt *onnxfile.CorruptError
			if !errors.As(err, &corrupt) || corrupt.Offset < 0 || corrupt.Offset > int64(len(data)) {
				t.Fatalf("not the place of a fault: %v", err)
			}
			return
		}
		_ = m.Check(nil)
		_ = m.Summary()
		again := m.Marshal()
		other, err := onnxfile.Parse(again, onnxfile.Limits{})
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		if string(other.Marshal()) != string(again) {
			t.Fatal("the second encoding differs from the first")
		}
		if m.Graph == nil {
			return
		}
		for _, tensor := range m.Graph.Initializers {
			floats, err := tensor.Float32s()
			if n, _ := tensor.Elements(); err == nil && int64(len(floats)) != n {
				t.Fatalf("%d floats of %d", len(floats), n)
			}
			_, _ = tensor.Int64s()
		}
	})
}
