package embedded

import (
	"slices"

	"github.com/promptmill/promptmill/model/onnx/build"
	"github.com/promptmill/promptmill/model/onnx/onnxfile"
)

// reduced are the axes that n reduces, and the shape of its result with these axes kept.
func (t *tape) reduced(n *onnxfile.Node) (axes, kept []int64) {
	kept = slices.Clone(t.shapes[n.Inputs[0]])
	if a := n.Attribute("axes"); a != nil {
		axes = a.Ints
	} else if len(n.Inputs) > 1 && n.Inputs[1] != "" {
		axes = t.ints[n.Inputs[1]]
	}
	if len(axes) == 0 && integer(n, "noop_with_empty_axes", 0) == 0 {
		for i := range kept {
			axes = append(axes, int64(i))
		}
	}
	for _, a := range axes {
		kept[axis(a, len(kept))] = 1
	}
	return axes, kept
}

func reduction(t *tape, n *onnxfile.Node, dy string) error {
	x := n.Inputs[0]
	_, kept := t.reduced(n)
	g := t.reshape(dy, kept)
	if n.Op == "ReduceMean" {
		g = t.op("Mul", g, t.Scalar(float32(size(kept))/float32(size(t.shapes[x]))))
	}
	t.give(x, t.op("Expand", g, t.Ints(t.shapes[x]...)))
	return nil
}

// extremum gives equal elements equal shares, as PyTorch's amax does.
func extremum(t *tape, n *onnxfile.Node, dy string) error {
	x := n.Inputs[0]
	axes, kept := t.reduced(n)
	first := t.Op("Cast", []string{t.op("Equal", x, t.reshape(n.Outputs[0], kept))}, build.Int("to", int64(onnxfile.Float)))
	t.give(x, t.op("Mul", first, t.op("Div", t.reshape(dy, kept), t.sum(first, axes...))))
	return nil
}
