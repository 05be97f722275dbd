package embedded

import (
	"fmt"
	"slices"

	"github.com/promptmill/promptmill/model/onnx/build"
	"github.com/promptmill/promptmill/model/onnx/onnxfile"
)

// A tape goes through a graph from its loss backward and appends, for each node, those that compute the gradients of its
// inputs from those of its outputs. The gradient of a value has exactly the value's shape.
type tape struct {
	*build.Builder
	*known
	makers map[string]*onnxfile.Node   // of each value
	users  map[string]int              // how many inputs of nodes a value is
	fixed  map[string]*onnxfile.Tensor // constants
	needed map[string]bool             // values whose gradient is asked for: those that depend on weights
	parts  map[string][]string         // the summands of a value's gradient
}

// differentiate returns the graph of the loss, of the other outputs of one float, and of the gradients: outputs in
// this order. Its inputs are what is left of the forward graph's, and weights.
func differentiate(forward *onnxfile.Model, loss string, p *Params, k *known) (m *onnxfile.Model, scalars []string, reached []*param, err error) {
	if _, ok := k.shapes[loss]; !ok || size(k.shapes[loss]) != 1 {
		return nil, nil, nil, fmt.Errorf("%q is not a value of one element of the graph; its shape is %v", loss, k.shapes[loss])
	}
	t, nodes := newTape(forward, loss, p, k)
	one := make([]int64, len(k.shapes[loss]))
	for i := range one {
		one[i] = 1
	}
	t.parts[loss] = []string{t.Constant(onnxfile.NewFloat32("", one, []float32{1}))}
	for _, n := range slices.Backward(nodes) {
		wanted := slices.ContainsFunc(n.Outputs, func(o string) bool { return t.needed[o] && len(t.parts[o]) > 0 })
		if !wanted {
			continue
		}
		back, ok := rules[n.Op]
		if !ok || n.Domain != "" && n.Domain != "ai.onnx" {
			return nil, nil, nil, fmt.Errorf("node %q: operator %s has no gradient here", n.Name, n.Op)
		}
		if err := back(t, n, t.gradient(n.Outputs[0])); err != nil {
			return nil, nil, nil, fmt.Errorf("node %q (%s): %w", n.Name, n.Op, err)
		}
	}
	scalars = []string{loss}
	for _, v := range forward.Graph.Outputs {
		float := v.Type != nil && v.Type.Tensor != nil && v.Type.Tensor.Elem == onnxfile.Float
		if v.Name != loss && float && size(k.shapes[v.Name]) == 1 {
			scalars = append(scalars, v.Name)
		}
	}
	for _, name := range scalars {
		t.Output("value/"+name, t.reshape(name, []int64{1}), onnxfile.Float, 1)
	}
	for _, q := range p.list {
		if g := t.gradient(q.name); g != "" {
			reached = append(reached, q)
			t.Output("gradient/"+q.name, g, onnxfile.Float, ints(q.dims)...)
		}
	}
	if len(reached) == 0 {
		return nil, nil, nil, fmt.Errorf("%s depends on none of the %d parameters", loss, len(p.list))
	}
	m = t.Model()
	prune(m.Graph)
	return m, scalars, reached, nil
}

// newTape returns a tape over a copy of forward in which weights are inputs and nothing is an output, and the nodes that
// the loss depends on, in an order in which they can run.
func newTape(forward *onnxfile.Model, loss string, p *Params, k *known) (*tape, []*onnxfile.Node) {
	t := &tape{
		known: k, makers: map[string]*onnxfile.Node{}, users: map[string]int{}, fixed: map[string]*onnxfile.Tensor{},
		needed: map[string]bool{}, parts: map[string][]string{},
	}
	graph := &onnxfile.Graph{Name: forward.Graph.Name}
	for _, n := range forward.Graph.Nodes {
		c := *n
		c.Inputs, c.Outputs = slices.Clone(n.Inputs), slices.Clone(n.Outputs) // A rule may ask for more outputs.
		graph.Nodes = append(graph.Nodes, &c)
		for _, o := range c.Outputs {
			t.makers[o] = &c
		}
		for _, i := range c.Inputs {
			t.users[i]++
		}
		if a := n.Attribute("value"); n.Op == "Constant" && a != nil && a.Tensor != nil {
			t.fixed[n.Outputs[0]] = a.Tensor
		}
	}
	for _, v := range forward.Graph.Outputs {
		t.users[v.Name]++
	}
	// With the sizes of the feeds in place of symbols the runtime plans its memory once.
	for _, v := range forward.Summary().Inputs {
		graph.Inputs = append(graph.Inputs, onnxfile.NewValue(v.Name, v.Type, ints(k.shapes[v.Name])...))
	}
	for _, w := range forward.Graph.Initializers {
		if q := p.index[w.Name]; q != nil {
			graph.Inputs = append(graph.Inputs, onnxfile.NewValue(w.Name, onnxfile.Float, ints(q.dims)...))
			t.needed[w.Name] = true
		} else {
			graph.Initializers = append(graph.Initializers, w)
			t.fixed[w.Name] = w
		}
	}
	nodes := sorted(graph.Nodes, loss)
	for _, n := range nodes {
		if flows(n) && slices.ContainsFunc(n.Inputs, func(i string) bool { return t.needed[i] }) {
			for _, o := range n.Outputs {
				t.needed[o] = true
			}
		}
	}
	m := *forward
	m.Graph = graph
	t.Builder = build.From(&m, "back/")
	return t, nodes
}

// sorted are those of the nodes that values depend on, each after those that it depends on itself.
func sorted(nodes []*onnxfile.Node, values ...string) []*onnxfile.Node {
	makers := map[string]*onnxfile.Node{}
	for _, n := range nodes {
		for _, o := range n.Outputs {
			makers[o] = n
		}
	}
	var out []*onnxfile.Node
	seen := map[*onnxfile.Node]bool{}
	var visit func(string)
	visit = func(v string) {
		n := makers[v]
		if v == "" || n == nil || seen[n] {
			return
		}
		seen[n] = true
		for _, i := range n.Inputs {
			visit(i)
		}
		out = append(out, n)
	}
	for _, v := range values {
		visit(v)
	}
	return out
}

// flows says whether an output of n changes smoothly with its inputs.
func flows(n *onnxfile.Node) bool {
	switch n.Op {
	case "Shape", "Size", "Greater", "Less", "Equal", "GreaterOrEqual", "LessOrEqual", "Not", "IsNaN", "IsInf",
		"ArgMax", "ArgMin", "NonZero", "Sign", "Floor", "Ceil", "Round", "ConstantOfShape", "OneHot":
		return false
	case "Cast":
		to := onnxfile.DataType(integer(n, "to", 0))
		return to == onnxfile.Float || to == onnxfile.Float16 || to == onnxfile.BFloat16 || to == onnxfile.Double
	}
	return true
}

// prune removes what no output depends on.
func prune(g *onnxfile.Graph) {
	used := map[string]bool{}
	var outputs []string
	for _, v := range g.Outputs {
		used[v.Name] = true
		outputs = append(outputs, v.Name)
	}
	g.Nodes = sorted(g.Nodes, outputs...)
	for _, n := range g.Nodes {
		for _, i := range n.Inputs {
			used[i] = true
		}
	}
	g.Initializers = slices.DeleteFunc(g.Initializers, func(t *onnxfile.Tensor) bool { return !used[t.Name] })
	g.Inputs = slices.DeleteFunc(g.Inputs, func(v *onnxfile.Value) bool { return !used[v.Name] })
}

// gradient is the sum of what was given to value, or "" if nothing was.
func (t *tape) gradient(value string) string {
	parts := t.parts[value]
	if len(parts) == 0 {
		return ""
	}
	sum := parts[0]
	for _, p := range parts[1:] {
		sum = t.op("Add", sum, p)
	}
	t.parts[value] = []string{sum}
	return sum
}

// give adds to the gradient of value.
func (t *tape) give(value, gradient string) {
	if t.needed[value] {
		t.parts[value] = append(t.parts[value], gradient)
	}
}

// fold is give for a gradient of a shape that value was broadcast to: it sums over what was repeated.
func (t *tape) fold(value, gradient string, shape []int64) {
	to := t.shapes[value]
	if !t.needed[value] {
		return
	}
	if !slices.Equal(shape, to) {
		added := len(shape) - len(to)
		var axes []int64
		for i, n := range shape {
			if i < added || to[i-added] == 1 && n != 1 {
				axes = append(axes, int64(i))
			}
		}
		if len(axes) > 0 {
			gradient = t.sum(gradient, axes...)
		}
		gradient = t.reshape(gradient, to)
	}
	t.give(value, gradient)
}

// op appends a node without attributes.
func (t *tape) op(op string, inputs ...string) string { return t.Op(op, inputs) }

func (t *tape) reshape(x string, shape []int64) string { return t.op("Reshape", x, t.Ints(shape...)) }

// sum keeps the axes that it sums over, with size 1.
func (t *tape) sum(x string, axes ...int64) string {
	return t.Op("ReduceSum", []string{x, t.Ints(axes...)}, build.Int("keepdims", 1))
}

// floats are the elements of a constant, or nil.
func (t *tape) floats(value string) []float32 {
	if c := t.fixed[value]; c != nil && c.Type == onnxfile.Float {
		if v, err := c.Float32s(); err == nil {
			return v
		}
	}
	return nil
}

func size(shape []int64) int64 {
	n := int64(1)
	for _, d := range shape {
		n *= d
	}
	return n
}

// ints is a shape as the builder takes it.
func ints(shape []int64) []any {
	out := make([]any, len(shape))
	for i, d := range shape {
		out[i] = int(d)
	}
	return out
}

// integer and number are attributes of n, or what ONNX takes when they are left out.
func integer(n *onnxfile.Node, name string, otherwise int64) int64 {
	if a := n.Attribute(name); a != nil {
		return a.Int
	}
	return otherwise
}

func number(n *onnxfile.Node, name string, otherwise float32) float32 {
	if a := n.Attribute(name); a != nil {
		return a.Float
	}
	return otherwise
}

// axis makes an axis count from the front.
func axis(a int64, rank int) int64 {
	if a < 0 {
		a += int64(rank)
	}
	return a
}
