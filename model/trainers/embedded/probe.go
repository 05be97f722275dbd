package embedded

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/promptmill/promptmill/model/onnx"
	"github.com/promptmill/promptmill/model/onnx/build"
	"github.com/promptmill/promptmill/model/onnx/onnxfile"
)

// known is what one run of a graph told: the shape of every value, and the elements of the lists of integers that the
// rules ask for.
type known struct {
	shapes map[string][]int64
	ints   map[string][]int64
}

// listed says which inputs of an operator a rule wants the elements of.
func listed(n *onnxfile.Node) []string {
	switch n.Op {
	case "Slice", "Tile", "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin":
		return n.Inputs[1:]
	}
	return nil
}

// probe runs forward once.
func probe(forward *onnxfile.Model, feeds map[string]*onnx.Tensor, p *Params) (*known, error) {
	if err := forward.Check(nil); err != nil {
		return nil, err
	}
	for _, o := range forward.Opsets {
		if (o.Domain == "" || o.Domain == "ai.onnx") && (o.Version < 16 || o.Version > 21) {
			return nil, fmt.Errorf("operator set %d, where the rules are for 16 to 21: export the model again", o.Version)
		}
	}
	var inputs []*onnx.Tensor
	for _, port := range forward.Summary().Inputs {
		t := feeds[port.Name]
		if t == nil {
			return nil, fmt.Errorf("feed %s is missing", port.Name)
		}
		inputs = append(inputs, t)
	}
	if len(inputs) == 0 {
		return nil, errors.New("the graph has no inputs: give it the data to train on")
	}
	b := build.From(forward, "probe/")
	k := &known{shapes: map[string][]int64{}, ints: map[string][]int64{}}
	var outputs []string
	var answers []func(list []int64)
	// A list comes back with a 0 behind it: the runtime cannot return empty ones.
	ask := func(list string, into map[string][]int64, name string) {
		output := "probe/out/" + strconv.Itoa(len(outputs))
		outputs = append(outputs, output)
		answers = append(answers, func(list []int64) { into[name] = list })
		b.Output(output, b.Op("Concat", []string{list, b.Ints(0)}, build.Int("axis", 0)), onnxfile.Int64, "n")
	}
	asked := map[string]bool{}
	for _, n := range forward.Graph.Nodes {
		for _, v := range n.Outputs {
			if v != "" {
				ask(b.Op("Shape", []string{v}), k.shapes, v)
			}
		}
		for _, v := range listed(n) {
			if v != "" && !asked[v] {
				asked[v] = true
				flat := b.Op("Reshape", []string{v, b.Ints(-1)})
				ask(b.Op("Cast", []string{flat}, build.Int("to", int64(onnxfile.Int64))), k.ints, v)
			}
		}
	}
	s, err := onnx.Load(b.Model(), "forward graph", onnx.Options{Outputs: outputs})
	if err != nil {
		return nil, err
	}
	defer s.Close()
	results, err := s.Run(context.Background(), inputs)
	if err != nil {
		return nil, err
	}
	for i, t := range results {
		list := slices.Clone(onnx.Data[int64](t))
		answers[i](list[:len(list)-1])
		t.Close()
	}
	for i, port := range forward.Summary().Inputs {
		k.shapes[port.Name] = inputs[i].Shape()
	}
	for _, t := range forward.Graph.Initializers {
		k.shapes[t.Name] = t.Dims
		if q := p.index[t.Name]; q != nil && !slices.Equal(q.dims, t.Dims) {
			return nil, fmt.Errorf("parameter %q has shape %v, the graph wants %v", t.Name, q.dims, t.Dims)
		}
	}
	return k, nil
}
