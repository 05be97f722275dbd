package onnxfile_test

import (
	"bytes"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/promptmill/promptmill/model/onnx/onnxfile"
)

const decoder = "testdata/vae_decoder.onnx"

// everything is a model that uses each field that can be set from outside.
func everything() *onnxfile.Model {
	entry := []*onnxfile.Entry{{Key: "k", Value: "v"}}
	branch := func(name string) *onnxfile.Graph {
		return &onnxfile.Graph{
			Name:    name,
			Nodes:   []*onnxfile.Node{{Op: "Identity", Inputs: []string{"x"}, Outputs: []string{name + "_out"}}},
			Outputs: []*onnxfile.Value{onnxfile.NewValue(name+"_out", onnxfile.Float)},
		}
	}
	sparse := &onnxfile.Sparse{
		Values:  onnxfile.NewFloat32("sparse", []int64{1}, []float32{3}),
		Indices: onnxfile.NewInt64("", []int64{1}, []int64{5}),
		Dims:    []int64{9},
	}
	return &onnxfile.Model{
		IRVersion: 8, Producer: "p", ProducerVersion: "1", Domain: "d", Version: -3, Doc: "doc",
		Opsets:   []*onnxfile.Opset{{Version: 17}, {Domain: "com.example", Version: 1}},
		Metadata: entry,
		Functions: []*onnxfile.Function{{
			Domain: "com.example", Name: "Twice", Overload: "o", Inputs: []string{"a"}, Outputs: []string{"b"}, Attributes: []string{"n"},
			Defaults: []*onnxfile.Attribute{{Name: "to", Type: onnxfile.AttributeInt}},
			Nodes: []*onnxfile.Node{{Op: "Cast", Inputs: []string{"a"}, Outputs: []string{"b"}, Attributes: []*onnxfile.Attribute{
				{Name: "to", Type: onnxfile.AttributeInt, Ref: "to"},
			}}},
			Opsets: []*onnxfile.Opset{{Version: 17}}, Values: []*onnxfile.Value{onnxfile.NewValue("b", onnxfile.Float)}, Metadata: entry, Doc: "doc",
		}},
		Graph: &onnxfile.Graph{
			Name: "g", Doc: "doc", Metadata: entry,
			Inputs: []*onnxfile.Value{
				onnxfile.NewValue("x", onnxfile.Float, "batch", 0, 3), onnxfile.NewValue("cond", onnxfile.Bool),
				{Name: "w"},
				{Name: "typed", Type: &onnxfile.Type{Tensor: &onnxfile.TensorType{Elem: onnxfile.Int64}}, Doc: "doc", Metadata: entry},
			},
			Outputs: []*onnxfile.Value{onnxfile.NewValue("y", onnxfile.Float, "batch", 0, 3)},
			Values:  []*onnxfile.Value{onnxfile.NewValue("z", onnxfile.Float16, "batch")},
			Sparse:  []*onnxfile.Sparse{sparse},
			Initializers: []*onnxfile.Tensor{
				onnxfile.NewFloat32("w", []int64{2, 2}, []float32{1, -2, 3, 4}),
				{Name: "out", Type: onnxfile.Float, Dims: []int64{2}, Location: 1, External: []*onnxfile.Entry{{Key: "location", Value: "w.bin"}}, Doc: "d", Metadata: entry},
			},
			Nodes: []*onnxfile.Node{
				{Op: "Twice", Domain: "com.example", Overload: "o", Name: "n", Inputs: []string{"x", ""}, Outputs: []string{"z", ""}, Metadata: entry, Doc: "doc"},
				{Op: "If", Inputs: []string{"cond"}, Outputs: []string{"y"}, Attributes: []*onnxfile.Attribute{
					{Name: "then_branch", Type: onnxfile.AttributeGraph, Graph: branch("then")},
					{Name: "else_branch", Type: onnxfile.AttributeGraph, Graph: branch("else"), Doc: "doc"},
					{Name: "f", Type: onnxfile.AttributeFloat},
					{Name: "f1", Type: onnxfile.AttributeFloat, Float: 1.5},
					{Name: "i", Type: onnxfile.AttributeInt},
					{Name: "s", Type: onnxfile.AttributeString, String: []byte("nearest")},
					{Name: "t", Type: onnxfile.AttributeTensor, Tensor: onnxfile.NewInt64("", nil, []int64{-7})},
					{Name: "fs", Type: onnxfile.AttributeFloats, Floats: []float32{0, 1}},
					{Name: "is", Type: onnxfile.AttributeInts, Ints: []int64{0, -1}},
					{Name: "ss", Type: onnxfile.AttributeStrings, Strings: []string{"", "b"}},
					{Name: "ts", Type: onnxfile.AttributeTensors, Tensors: []*onnxfile.Tensor{onnxfile.NewBool("", []int64{2}, []bool{true, false})}},
					{Name: "gs", Type: onnxfile.AttributeGraphs, Graphs: []*onnxfile.Graph{branch("third")}},
					{Name: "sp", Type: onnxfile.AttributeSparse, Sparse: sparse},
					{Name: "sps", Type: onnxfile.AttributeSparses, Sparses: []*onnxfile.Sparse{sparse}},
				}},
			},
		},
	}
}

func parse(t *testing.T, data []byte) *onnxfile.Model {
	t.Helper()
	m, err := onnxfile.Parse(data, onnxfile.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestRoundTrip(t *testing.T) {
	m := everything()
	data := m.Marshal()
	got := parse(t, data)
	if !reflect.DeepEqual(got, m) {
		t.Errorf("got %+v\nwant %+v", got, m)
	}
	if !bytes.Equal(got.Marshal(), data) {
		t.Error("the second encoding differs from the first")
	}
}

func TestExportedFileIsRewrittenByteForByte(t *testing.T) {
	data, err := os.ReadFile(decoder)
	if err != nil {
		t.Fatal(err)
	}
	m, err := onnxfile.Open(decoder, onnxfile.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(m.Marshal(), data) {
		t.Error("the file changed")
	}
}

func TestSummary(t *testing.T) {
	m, err := onnxfile.Open(decoder, onnxfile.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	s := m.Summary()
	if got, want := s.Inputs[0].String(), "latent_sample float [batch_size,4,latent_height,latent_width]"; len(s.Inputs) != 1 || got != want {
		t.Errorf("inputs %v, want %s", s.Inputs, want)
	}
	if got, want := s.Outputs[0].String(), "sample float [batch_size,3,latent_height * 8,latent_width * 8]"; len(s.Outputs) != 1 || got != want {
		t.Errorf("outputs %v, want %s", s.Outputs, want)
	}
	s.Inputs, s.Outputs = nil, nil
	want := onnxfile.Summary{IRVersion: 8, Producer: "pytorch 2.15.0", Opsets: map[string]int64{"": 18}, Nodes: 448, Initializers: 68, InitializerBytes: 196508}
	if !reflect.DeepEqual(s, want) {
		t.Errorf("got %+v\nwant %+v", s, want)
	}
	s = everything().Summary()
	var names []string
	for _, p := range s.Inputs {
		names = append(names, p.String())
	}
	// w has a default; float 4 + 1 + 2 elements and one int64 index.
	if got, want := strings.Join(names, "; "), "x float [batch,0,3]; cond bool []; typed int64 [...]"; got != want {
		t.Errorf("inputs %s, want %s", got, want)
	}
	if s.InitializerBytes != 4*7+8 || s.Initializers != 3 || !reflect.DeepEqual(s.ExternalFiles, []string{"w.bin"}) {
		t.Errorf("got %+v", s)
	}
}

// Fields of messages that this package does not know stay, in every message that can have them.
func TestUnknownFieldsStay(t *testing.T) {
	for name, wrap := range map[string][]byte{"model": nil, "graph": {7 << 3 & 0x7f}, "node": {7 << 3, 1 << 3}, "dim": {7 << 3, 11 << 3, 2 << 3, 1 << 3, 2 << 3, 1 << 3}} {
		t.Run(name, func(t *testing.T) {
			data := []byte{0xba, 0x06, 3, 'n', 'e', 'w'} // field 103, bytes
			for i := len(wrap) - 1; i >= 0; i-- {
				data = append([]byte{wrap[i] | 2, byte(len(data))}, data...)
			}
			if got := parse(t, data).Marshal(); !bytes.Equal(got, data) {
				t.Errorf("got %x, want %x", got, data)
			}
		})
	}
}

// A message that comes twice is one, as for protobuf: a second graph cannot hide behind a first.
func TestMessagesMerge(t *testing.T) {
	good := everything()
	bad := &onnxfile.Model{Graph: &onnxfile.Graph{Initializers: []*onnxfile.Tensor{{Name: "evil", Type: onnxfile.Float, Location: 1, External: []*onnxfile.Entry{{Key: "location", Value: "/etc/passwd"}}}}}}
	for _, data := range [][]byte{append(bad.Marshal(), good.Marshal()...), append(good.Marshal(), bad.Marshal()...)} {
		m := parse(t, data)
		if len(m.Graph.Nodes) != 2 || len(m.Graph.Initializers) != 3 {
			t.Errorf("%d nodes and %d initializers, want 2 and 3", len(m.Graph.Nodes), len(m.Graph.Initializers))
		}
	}
}

func TestCorrupt(t *testing.T) {
	for _, tt := range []struct {
		name string
		data []byte
		want string
	}{
		{"text", []byte("<!DOCTYPE html>"), "wire type 4"},
		{"git lfs pointer", []byte("version https://git-lfs.github.com/spec/v1\n"), "at byte 0: wire type 6"},
		{"length beyond the end", []byte{7<<3 | 2, 4, 5<<3 | 2, 100, 1, 1}, "graph.initializer[0] at byte 4: 100 bytes are said to follow, 2 are there"},
		{"length of 2^64-1", append([]byte{7<<3 | 2}, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1), "graph at byte 11: 18446744073709551615 bytes"},
		{"endless number", bytes.Repeat([]byte{0xff}, 20), "more than 64 bits"},
		{"number cut off", []byte{8, 0xff}, "ir_version at byte 1: the file or message ends within a number"},
		{"wrong wire type", []byte{8<<3 | 2, 4, 2 << 3, 1, 1 << 3, 1}, "opset_import[0].domain at byte 4: wire type 0, want 2"},
		{"second node", append([]byte{7<<3 | 2, 8, 1<<3 | 2, 0, 1<<3 | 2, 4}, 5<<3|2, 2, 20<<3&0x7f, 1), "graph.node[1].attribute[0]"},
		{"field 0", []byte{0, 0}, "field number 0"},
		{"packed floats", []byte{7<<3 | 2, 9, 1<<3 | 2, 7, 5<<3 | 2, 5, 7<<3 | 2, 3, 1, 2, 3}, "graph.node[0].attribute[0].floats[0] at byte 8: 3 bytes of packed 4-byte numbers"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := onnxfile.Parse(tt.data, onnxfile.Limits{})
			var corrupt *onnxfile.CorruptError
			if !errors.As(err, &corrupt) || !errors.Is(err, onnxfile.ErrModel) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// Every truncation of a model that ends with something it needs is an error of Parse or of Check.
func TestTruncated(t *testing.T) {
	root := folder(t)
	whole := everything()
	whole.Metadata, whole.Functions = nil, nil
	if err := whole.Check(root); err != nil {
		t.Fatal(err)
	}
	data := whole.Marshal()
	for n := range data {
		m, err := onnxfile.Parse(data[:n], onnxfile.Limits{})
		if err == nil {
			err = m.Check(root)
		}
		if !errors.Is(err, onnxfile.ErrModel) {
			t.Errorf("cut after %d bytes: %v", n, err)
		}
	}
}

// Whatever one byte becomes, there is no panic, and what is accepted can be written and read again.
func TestEveryByteDamaged(t *testing.T) {
	root := folder(t)
	whole := everything().Marshal()
	refused := 0
	for i := range whole {
		for _, b := range []byte{0, 1, 0x7f, 0x80, 0xff, whole[i] ^ 1, whole[i] ^ 8} {
			data := bytes.Clone(whole)
			data[i] = b
			m, err := onnxfile.Parse(data, onnxfile.Limits{Memory: 1 << 20})
			if err != nil || m.Check(root) != nil {
				refused++
				continue
			}
			_ = m.Summary()
			if _, err := onnxfile.Parse(m.Marshal(), onnxfile.Limits{}); err != nil {
				t.Errorf("byte %d as %#x: %v", i, b, err)
			}
		}
	}
	if refused < 4*len(whole) {
		t.Errorf("only %d of %d damages were seen", refused, 7*len(whole))
	}
}

func TestLimits(t *testing.T) {
	data := everything().Marshal()
	var deep []byte
	for range 200 {
		deep = lengthened(1<<3|2, lengthened(5<<3|2, lengthened(6<<3|2, deep))) // graph.node.attribute.g
	}
	deep = lengthened(7<<3|2, deep)
	nodes := lengthened(7<<3|2, bytes.Repeat([]byte{1<<3 | 2, 0}, 1<<20))
	for _, tt := range []struct {
		name   string
		data   []byte
		limits onnxfile.Limits
		want   string
	}{
		{"file", data, onnxfile.Limits{FileBytes: 10}, "more than the limit of 10"},
		{"memory", nodes, onnxfile.Limits{Memory: 1 << 20}, "decoding needs more memory than Limits.Memory"},
		{"depth", deep, onnxfile.Limits{}, "nested more than 100 deep"},
	} {
		if _, err := onnxfile.Parse(tt.data, tt.limits); !errors.Is(err, onnxfile.ErrModel) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := onnxfile.Parse(nodes, onnxfile.Limits{Memory: 8 << 20}); err == nil {
		t.Error("8 MiB were enough for a million nodes")
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 16<<20 {
		t.Errorf("%d bytes allocated under a limit of 8 MiB", n)
	}
}

func lengthened(tag byte, body []byte) []byte {
	out := []byte{tag}
	n := len(body)
	for ; n >= 128; n >>= 7 {
		out = append(out, byte(n)|0x80)
	}
	return append(append(out, byte(n)), body...)
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty.onnx")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		path string
		is   error
		want string
	}{
		{filepath.Join(dir, "none.onnx"), os.ErrNotExist, "none.onnx"},
		{dir, onnxfile.ErrModel, "not a file"},
		{empty, onnxfile.ErrModel, "ir_version 0: not an ONNX file"},
	} {
		if _, err := onnxfile.Open(tt.path, onnxfile.Limits{}); !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v", tt.path, err)
		}
	}
}

func TestHalves(t *testing.T) {
	raw := &onnxfile.Tensor{Type: onnxfile.Float16, Dims: []int64{1 << 16}}
	for h := range 1 << 16 {
		raw.Raw = append(raw.Raw, byte(h), byte(h>>8))
	}
	all, err := raw.Float32s()
	if err != nil {
		t.Fatal(err)
	}
	back := onnxfile.NewFloat16("", raw.Dims, all)
	for h, v := range all {
		got := int(back.Raw[2*h]) | int(back.Raw[2*h+1])<<8
		if got != h && v == v {
			t.Fatalf("half %#x is %v and comes back as %#x", h, v, got)
		}
	}
	// Between neighbours, the nearer; in the middle, the even one. Constants: IEEE 754.
	for v, want := range map[float32]float32{
		1 + 1.0/2048: 1, 1 + 3.0/2048: 1 + 2.0/1024, 1 + 1.1/2048: 1 + 1.0/1024, 65519: 65504, 65520: float32(math.Inf(1)),
		0x1p-25: 0, 0x1.8p-25: 0x1p-24, -0x1.8p-24: -0x1p-23, float32(math.Inf(-1)): float32(math.Inf(-1)),
	} {
		got, err := onnxfile.NewFloat16("", nil, []float32{v}).Float32s()
		if err != nil || got[0] != want {
			t.Errorf("%v became %v, %v, want %v", v, got, err, want)
		}
	}
	if got, err := onnxfile.NewFloat16("", nil, []float32{float32(math.NaN())}).Float32s(); err != nil || got[0] == got[0] {
		t.Errorf("NaN became %v, %v", got, err)
	}
}
