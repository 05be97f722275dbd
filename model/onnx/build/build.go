// Package build makes ONNX graphs in Go: values are strings, and each call appends a node and returns the name of what
// it gives.
//
//	b := build.New()
//	x := b.Input("x", onnxfile.Float, "batch", 4)
//	w := b.Param("w", []int64{4, 2}, weights)
//	b.Output("y", b.Op("Softmax", []string{b.Op("MatMul", []string{x, w})}, build.Int("axis", -1)), onnxfile.Float, "batch", 2)
//	m := b.Model()
//
// # Design
//
// Graphs are of operator set 17 and file format 8, which ONNX Runtime has taken since 1.12. Parameters are initializers,
// constants are Constant nodes: what a trainer may change is told from what it may not by where it stands. A wrong
// graph is a fault of the program: Model panics.
package build

import (
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/promptmill/promptmill/model/onnx/onnxfile"
)

// Opset and IRVersion are the versions of what Model returns.
const (
	Opset     = 17
	IRVersion = 8
)

// A Builder grows one graph. It is not safe for concurrent use.
type Builder struct {
	graph     *onnxfile.Graph
	opsets    []*onnxfile.Opset
	ir        int64
	prefix    string
	made      int
	names     map[string]bool
	given     map[string]bool   // names that are not this builder's to change: inputs, parameters and those of From
	constants map[string]string // what is in them -> name
	renamed   map[string]string // generated name -> the output's
}

// New begins an empty graph.
func New() *Builder {
	return &Builder{
		graph:  &onnxfile.Graph{Name: "promptmill"},
		opsets: []*onnxfile.Opset{{Version: Opset}},
		ir:     IRVersion,
		names:  map[string]bool{}, given: map[string]bool{}, constants: map[string]string{}, renamed: map[string]string{},
	}
}

// From goes on with a copy of m, whose nodes and tensors it shares: values of m can be used by their names, and more nodes,
// inputs and outputs added. The names of new values begin with prefix.
func From(m *onnxfile.Model, prefix string) *Builder {
	b := New()
	b.prefix, b.opsets, b.ir = prefix, m.Opsets, m.IRVersion
	g := *m.Graph
	g.Nodes, g.Inputs, g.Outputs = slices.Clone(g.Nodes), slices.Clone(g.Inputs), slices.Clone(g.Outputs)
	g.Initializers = slices.Clone(g.Initializers)
	b.graph = &g
	for _, v := range g.Inputs {
		b.given[v.Name] = true
	}
	for _, t := range g.Initializers {
		b.given[t.Name] = true
	}
	for _, n := range g.Nodes {
		for _, o := range n.Outputs {
			b.given[o] = true
		}
	}
	for name := range b.given {
		b.names[name] = true
	}
	return b
}

// Input adds an input of the graph and returns its name. A dimension is an int, or a string for a size that is known
// when the graph runs.
func (b *Builder) Input(name string, kind onnxfile.DataType, dims ...any) string {
	b.graph.Inputs = append(b.graph.Inputs, onnxfile.NewValue(b.give(name), kind, dims...))
	return name
}

// Param adds a float parameter, an initializer of the graph, and returns its name. It copies data, which has as many
// elements as the product of dims, row by row.
func (b *Builder) Param(name string, dims []int64, data []float32) string {
	b.graph.Initializers = append(b.graph.Initializers, onnxfile.NewFloat32(b.give(name), dims, data))
	return name
}

// Output makes a value an output of the graph under a name. The value can still be used by its own name.
func (b *Builder) Output(name, value string, kind onnxfile.DataType, dims ...any) {
	_, taken := b.renamed[value]
	switch {
	case name == value:
	case b.given[value] || taken:
		b.node("Identity", []string{value}, []string{b.give(name)}, nil)
	default: // The value itself is called so in the end: no node for a name.
		b.renamed[value] = b.give(name)
	}
	b.graph.Outputs = append(b.graph.Outputs, onnxfile.NewValue(name, kind, dims...))
}

// Op adds a node with one output and returns the output's name. An empty name among inputs is an optional one that is
// left out.
func (b *Builder) Op(op string, inputs []string, attributes ...*onnxfile.Attribute) string {
	return b.Ops(op, 1, inputs, attributes...)[0]
}

// Ops adds a node with n outputs and returns their names.
func (b *Builder) Ops(op string, n int, inputs []string, attributes ...*onnxfile.Attribute) []string {
	outputs := make([]string, n)
	for i := range outputs {
		outputs[i] = b.fresh(op)
	}
	b.node(op, inputs, outputs, attributes)
	return outputs
}

// Ints is a constant: a list of int64, as operators take axes, shapes and sizes.
func (b *Builder) Ints(values ...int64) string {
	return b.Constant(onnxfile.NewInt64("", []int64{int64(len(values))}, values))
}

// Index is a constant: one int64 without dimensions.
func (b *Builder) Index(value int64) string {
	return b.Constant(onnxfile.NewInt64("", nil, []int64{value}))
}

// Floats is a constant: a list of float.
func (b *Builder) Floats(values ...float32) string {
	return b.Constant(onnxfile.NewFloat32("", []int64{int64(len(values))}, values))
}

// Scalar is a constant: one float without dimensions.
func (b *Builder) Scalar(value float32) string {
	return b.Constant(onnxfile.NewFloat32("", nil, []float32{value}))
}

// Constant is any constant; its name does not count. Equal constants are one.
func (b *Builder) Constant(t *onnxfile.Tensor) string {
	key := fmt.Sprintf("%v%v%s", t.Type, t.Dims, t.Raw)
	if name, ok := b.constants[key]; ok {
		return name
	}
	unnamed := *t
	unnamed.Name = ""
	name := b.Op("Constant", nil, Tensor("value", &unnamed))
	b.constants[key] = name
	return name
}

// Model returns the graph. It panics if the graph makes no sense: a name without a value, or a tensor with too few
// elements. The builder must not be used any more.
func (b *Builder) Model() *onnxfile.Model {
	for _, n := range b.graph.Nodes {
		for _, names := range [][]string{n.Inputs, n.Outputs} {
			for i, name := range names {
				if to, ok := b.renamed[name]; ok {
					names[i] = to
				}
			}
		}
	}
	m := &onnxfile.Model{IRVersion: b.ir, Producer: "promptmill", Graph: b.graph, Opsets: b.opsets}
	if err := m.Check(nil); err != nil {
		panic(fmt.Sprintf("build: %v", err))
	}
	return m
}

func (b *Builder) node(op string, inputs, outputs []string, attributes []*onnxfile.Attribute) {
	b.graph.Nodes = append(b.graph.Nodes, &onnxfile.Node{
		Name: "node/" + outputs[0], Op: op, Inputs: slices.Clone(inputs), Outputs: slices.Clone(outputs), Attributes: attributes,
	})
}

// give takes a name of the caller's.
func (b *Builder) give(name string) string {
	if name == "" || b.names[name] {
		panic(fmt.Sprintf("build: the name %q is empty or given twice", name))
	}
	b.names[name], b.given[name] = true, true
	return name
}

// fresh makes a name.
func (b *Builder) fresh(op string) string {
	for {
		b.made++
		if name := b.prefix + op + "_" + strconv.Itoa(b.made); !b.names[name] {
			b.names[name] = true
			return name
		}
	}
}

// Int is an integer attribute of a node.
func Int(name string, value int64) *onnxfile.Attribute {
	return &onnxfile.Attribute{Name: name, Type: onnxfile.AttributeInt, Int: value}
}

// Ints is an attribute of several integers.
func Ints(name string, values ...int64) *onnxfile.Attribute {
	return &onnxfile.Attribute{Name: name, Type: onnxfile.AttributeInts, Ints: values}
}

// Float is a float attribute of a node. It panics on what is not a number.
func Float(name string, value float32) *onnxfile.Attribute {
	if math.IsNaN(float64(value)) {
		panic("build: attribute " + name + " is not a number")
	}
	return &onnxfile.Attribute{Name: name, Type: onnxfile.AttributeFloat, Float: value}
}

// String is a text attribute of a node.
func String(name, value string) *onnxfile.Attribute {
	return &onnxfile.Attribute{Name: name, Type: onnxfile.AttributeString, String: []byte(value)}
}

// Tensor is an attribute that holds a tensor.
func Tensor(name string, value *onnxfile.Tensor) *onnxfile.Attribute {
	return &onnxfile.Attribute{Name: name, Type: onnxfile.AttributeTensor, Tensor: value}
}
