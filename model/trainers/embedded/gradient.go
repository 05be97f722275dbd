package embedded

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/promptmill/promptmill/model/onnx"
	"github.com/promptmill/promptmill/model/onnx/onnxfile"
)

// A Gradient is a graph that computes a loss and what each weight adds to it. It is not safe for concurrent use, nor are
// two that share their Params. Close frees it.
type Gradient struct {
	session *onnx.Session
	params  *Params
	feeds   map[string][]int64 // the shapes it is compiled for
	scalars []string
	values  []*onnx.Tensor // of scalars
	reached []*param       // whose gradients it gives
}

// Compile differentiates loss, a value of one float in the forward graph, by those of p's weights that are initializers
// there, which p's take the place of. The other initializers are constants. The shapes of the feeds, one for each
// input of the graph, are those of all runs; their values may count where a shape depends on them. Results may depend
// on the number of threads in their last bits.
//
// The error names the node if an operator has no rule or is used in a way that the rule does not know. The operator
// set must be 16 to 21.
func Compile(forward *onnxfile.Model, loss string, p *Params, feeds map[string]*onnx.Tensor, threads int) (*Gradient, error) {
	known, err := probe(forward, feeds, p)
	if err != nil {
		return nil, fmt.Errorf("compile the gradient of %s: %w", loss, err)
	}
	m, scalars, reached, err := differentiate(forward, loss, p, known)
	if err != nil {
		return nil, fmt.Errorf("compile the gradient of %s: %w", loss, err)
	}
	g := &Gradient{params: p, feeds: map[string][]int64{}, scalars: scalars, reached: reached}
	for _, port := range forward.Summary().Inputs {
		g.feeds[port.Name] = slices.Clone(feeds[port.Name].Shape())
	}
	for range scalars {
		t, err := onnx.NewTensor(make([]float32, 1), 1)
		if err != nil {
			g.Close()
			return nil, err
		}
		g.values = append(g.values, t)
	}
	if g.session, err = onnx.Load(m, "gradient of "+loss, onnx.Options{Threads: threads}); err != nil {
		g.Close()
		return nil, err
	}
	return g, nil
}

// Run computes the loss for feeds, one for each input of the forward graph in the shape that was compiled for, and
// adds its gradients to those of the Params. It returns the loss and the graph's other outputs of one float, by
// name. After an error the gradients since the last Step are not to be used.
func (g *Gradient) Run(ctx context.Context, feeds map[string]*onnx.Tensor) (map[string]float32, error) {
	inputs, err := g.inputs(feeds)
	if err != nil {
		return nil, err
	}
	outputs := slices.Clone(g.values)
	for _, q := range g.reached {
		t := q.gradientTensor
		if q.reached {
			if q.scratchTensor == nil {
				if q.scratchTensor, err = onnx.NewTensor(make([]float32, len(q.weight)), q.dims...); err != nil {
					return nil, err
				}
			}
			t = q.scratchTensor
		}
		outputs = append(outputs, t)
	}
	if err := g.session.RunInto(ctx, inputs, outputs); err != nil {
		return nil, err
	}
	for _, q := range g.reached {
		if q.reached {
			add(q.gradient, onnx.Data[float32](q.scratchTensor))
		}
		q.reached = true
	}
	g.params.runs++
	out := make(map[string]float32, len(g.scalars))
	for i, name := range g.scalars {
		out[name] = onnx.Data[float32](g.values[i])[0]
	}
	return out, nil
}

// inputs are what the session takes: feeds, as far as the graph uses them, and weights.
func (g *Gradient) inputs(feeds map[string]*onnx.Tensor) ([]*onnx.Tensor, error) {
	for _, name := range slices.Sorted(maps.Keys(feeds)) {
		shape, ok := g.feeds[name]
		if !ok {
			return nil, fmt.Errorf("feed %s: the graph has no such input", name)
		}
		if !slices.Equal(shape, feeds[name].Shape()) {
			return nil, fmt.Errorf("feed %s: %v, but the graph is compiled for shape %v; compile another", name, feeds[name], shape)
		}
	}
	var inputs []*onnx.Tensor
	for _, port := range g.session.Inputs() {
		t := feeds[port.Name]
		if t == nil && g.params.index[port.Name] != nil {
			t = g.params.index[port.Name].weightTensor
		}
		if t == nil {
			return nil, fmt.Errorf("feed %s is missing", port.Name)
		}
		inputs = append(inputs, t)
	}
	return inputs, nil
}

func add(to, from []float32) {
	from = from[:len(to)]
	for i, v := range from {
		to[i] += v
	}
}

// Close frees the graph; the Params stay.
func (g *Gradient) Close() {
	for _, t := range g.values {
		t.Close()
	}
	if g.session != nil {
		g.session.Close()
	}
}
