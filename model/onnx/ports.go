package onnx

import (
	"fmt"
	"strings"

	"github.com/promptmill/promptmill/model/onnx/onnxfile"
)

// fits says what is wrong with t as the value of input p.
func fits(p onnxfile.Port, t *Tensor) error {
	switch {
	case t == nil || t.value == nil:
		return fmt.Errorf("input %v: no tensor", p)
	case p.Type != onnxfile.Undefined && p.Type != t.kind:
		return fmt.Errorf("input %v: got a tensor of %v", p, t)
	case p.Shape == nil:
		return nil
	case len(p.Shape.Dims) != len(t.shape):
		return fmt.Errorf("input %v: got %v: %d dimensions, want %d", p, t, len(t.shape), len(p.Shape.Dims))
	}
	for i, d := range p.Shape.Dims {
		if d.Symbol == "" && d.Size >= 0 && d.Size != t.shape[i] {
			return fmt.Errorf("input %v: got %v: dimension %d is %d, want %d", p, t, i, t.shape[i], d.Size)
		}
	}
	return nil
}

func portNames(ports []onnxfile.Port) []string {
	out := make([]string, len(ports))
	for i, p := range ports {
		out[i] = p.Name
	}
	return out
}

func names(ports []onnxfile.Port) string { return strings.Join(portNames(ports), ", ") }

// describe shows what was given, for errors.
func describe(ports []onnxfile.Port, tensors []*Tensor) string {
	var b strings.Builder
	for i, p := range ports {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s %v", p.Name, tensors[i])
	}
	return b.String()
}

// widen returns m with float32 where an input or output of it is float16, and whether it had to change it: a Cast
// stands between. The weights stay as they are.
func widen(m *onnxfile.Model) (*onnxfile.Model, bool) {
	graph := *m.Graph
	given := map[string]bool{}
	for _, t := range graph.Initializers {
		given[t.Name] = true
	}
	var before, after []*onnxfile.Node
	cast := func(from, to string, kind onnxfile.DataType) *onnxfile.Node {
		return &onnxfile.Node{
			Name: "widen/" + to, Op: "Cast", Inputs: []string{from}, Outputs: []string{to},
			Attributes: []*onnxfile.Attribute{{Name: "to", Type: onnxfile.AttributeInt, Int: int64(kind)}},
		}
	}
	rename := map[string]string{}
	wider := func(v *onnxfile.Value) *onnxfile.Value {
		tensor := *v.Type.Tensor
		tensor.Elem = onnxfile.Float
		return &onnxfile.Value{Name: v.Name, Type: &onnxfile.Type{Tensor: &tensor}}
	}
	graph.Inputs = append([]*onnxfile.Value(nil), graph.Inputs...)
	for i, v := range graph.Inputs {
		if half(v) && !given[v.Name] {
			graph.Inputs[i] = wider(v)
			rename[v.Name] = v.Name + "/half"
			before = append(before, cast(v.Name, v.Name+"/half", onnxfile.Float16))
		}
	}
	graph.Outputs = append([]*onnxfile.Value(nil), graph.Outputs...)
	for i, v := range graph.Outputs {
		if half(v) {
			graph.Outputs[i] = wider(v)
			rename[v.Name] = v.Name + "/half"
			after = append(after, cast(v.Name+"/half", v.Name, onnxfile.Float))
		}
	}
	if len(rename) == 0 {
		return m, false
	}
	graph.Nodes = append(before, append(renamed(graph.Nodes, rename), after...)...)
	graph.Values = nil // they only repeat what the runtime infers, under names that have changed
	out := *m
	out.Graph = &graph
	return &out, true
}

func half(v *onnxfile.Value) bool {
	return v.Type != nil && v.Type.Tensor != nil && v.Type.Tensor.Elem == onnxfile.Float16
}

// renamed copies nodes, and the graphs within them, with values renamed.
func renamed(nodes []*onnxfile.Node, to map[string]string) []*onnxfile.Node {
	each := func(names []string) []string {
		out := make([]string, len(names))
		for i, n := range names {
			out[i] = n
			if r, ok := to[n]; ok {
				out[i] = r
			}
		}
		return out
	}
	inner := func(g *onnxfile.Graph) *onnxfile.Graph {
		if g == nil {
			return nil
		}
		c := *g
		c.Nodes = renamed(g.Nodes, to)
		c.Outputs = append([]*onnxfile.Value(nil), g.Outputs...)
		for i, v := range c.Outputs {
			if r, ok := to[v.Name]; ok {
				d := *v
				d.Name = r
				c.Outputs[i] = &d
			}
		}
		return &c
	}
	out := make([]*onnxfile.Node, len(nodes))
	for i, n := range nodes {
		c := *n
		c.Inputs, c.Outputs = each(n.Inputs), each(n.Outputs)
		c.Attributes = append([]*onnxfile.Attribute(nil), n.Attributes...)
		for j, a := range c.Attributes {
			if a.Graph != nil {
				d := *a
				d.Graph = inner(a.Graph)
				c.Attributes[j] = &d
			}
		}
		out[i] = &c
	}
	return out
}
