package build

import (
	"fmt"

	"github.com/promptmill/promptmill/model/onnx/onnxfile"
)

// Half returns m with its float parameters of at least 64 elements stored in 16 bits, rounded to nearest, and a Cast after
// each: the file is half as large, what is computed is float32 as before. The parameters keep their names.
func Half(m *onnxfile.Model) (*onnxfile.Model, error) {
	const least = 64 // Below that, the node takes more room than it saves.
	graph := *m.Graph
	graph.Initializers, graph.Nodes, graph.Values = nil, nil, nil
	wide := map[string]string{}
	for _, t := range m.Graph.Initializers {
		n, err := t.Elements()
		if err != nil {
			return nil, err
		}
		if t.Type == onnxfile.Float && n >= least {
			values, err := t.Float32s()
			if err != nil {
				return nil, fmt.Errorf("store parameter %q in half precision: %w", t.Name, err)
			}
			wide[t.Name] = t.Name + "/float"
			t = onnxfile.NewFloat16(t.Name, t.Dims, values)
			graph.Nodes = append(graph.Nodes, &onnxfile.Node{
				Name: "widen/" + t.Name, Op: "Cast", Inputs: []string{t.Name}, Outputs: []string{wide[t.Name]},
				Attributes: []*onnxfile.Attribute{Int("to", int64(onnxfile.Float))},
			})
		}
		graph.Initializers = append(graph.Initializers, t)
	}
	for _, n := range m.Graph.Nodes {
		c := *n
		c.Inputs = make([]string, len(n.Inputs))
		for _, a := range n.Attributes {
			if a.Graph != nil || len(a.Graphs) > 0 {
				return nil, fmt.Errorf("node %q (%s) holds a graph, whose uses of parameters Half does not follow", n.Name, n.Op)
			}
		}
		for i, name := range n.Inputs {
			c.Inputs[i] = name
			if w, ok := wide[name]; ok {
				c.Inputs[i] = w
			}
		}
		graph.Nodes = append(graph.Nodes, &c)
	}
	out := *m
	out.Graph = &graph
	return &out, out.Check(nil)
}
