package embedded

import (
	"errors"
	"slices"

	"github.com/promptmill/promptmill/model/onnx/build"
	"github.com/promptmill/promptmill/model/onnx/onnxfile"
)

func reshaped(t *tape, n *onnxfile.Node, dy string) error {
	t.give(n.Inputs[0], t.reshape(dy, t.shapes[n.Inputs[0]]))
	return nil
}

func transposed(t *tape, n *onnxfile.Node, dy string) error {
	rank := len(t.shapes[n.Inputs[0]])
	back := make([]int64, rank)
	for i := range back {
		back[i] = int64(rank - 1 - i) // Without perm the axes are reversed.
	}
	if a := n.Attribute("perm"); a != nil {
		for i, p := range a.Ints {
			back[p] = int64(i)
		}
	}
	t.give(n.Inputs[0], t.Op("Transpose", []string{dy}, build.Ints("perm", back...)))
	return nil
}

func concatenated(t *tape, n *onnxfile.Node, dy string) error {
	a := axis(integer(n, "axis", 0), len(t.shapes[n.Outputs[0]]))
	var sizes []int64
	for _, x := range n.Inputs {
		sizes = append(sizes, t.shapes[x][a])
	}
	for i, g := range t.Ops("Split", len(n.Inputs), []string{dy, t.Ints(sizes...)}, build.Int("axis", a)) {
		t.give(n.Inputs[i], g)
	}
	return nil
}

func split(t *tape, n *onnxfile.Node, _ string) error {
	var parts []string
	for _, y := range n.Outputs {
		g := t.gradient(y)
		if g == "" {
			g = t.op("ConstantOfShape", t.Ints(t.shapes[y]...))
		}
		parts = append(parts, g)
	}
	t.give(n.Inputs[0], t.Op("Concat", parts, build.Int("axis", integer(n, "axis", 0))))
	return nil
}

// slice puts zeros around the gradient.
func slice(t *tape, n *onnxfile.Node, dy string) error {
	shape := t.shapes[n.Inputs[0]]
	from, to := t.ints[n.Inputs[1]], t.ints[n.Inputs[2]]
	var axes, steps []int64
	if len(n.Inputs) > 3 {
		axes = t.ints[n.Inputs[3]]
	}
	if len(n.Inputs) > 4 {
		steps = t.ints[n.Inputs[4]]
	}
	if slices.ContainsFunc(steps, func(s int64) bool { return s != 1 }) {
		return errors.New("there is a rule for steps of 1 only")
	}
	pads := make([]int64, 2*len(shape))
	for i := range from {
		a := int64(i)
		if axes != nil {
			a = axis(axes[i], len(shape))
		}
		bound := func(v int64) int64 {
			if v < 0 {
				v += shape[a]
			}
			return min(max(v, 0), shape[a])
		}
		pads[a], pads[int(a)+len(shape)] = bound(from[i]), shape[a]-bound(to[i])
	}
	t.give(n.Inputs[0], t.op("Pad", dy, t.Ints(pads...)))
	return nil
}

func expanded(t *tape, n *onnxfile.Node, dy string) error {
	t.fold(n.Inputs[0], dy, t.shapes[n.Outputs[0]])
	return nil
}

// tiled sees each axis as (repeats, size) and sums over the repeats.
func tiled(t *tape, n *onnxfile.Node, dy string) error {
	x := n.Inputs[0]
	var pairs, axes []int64
	for i, d := range t.shapes[x] {
		pairs = append(pairs, t.ints[n.Inputs[1]][i], d)
		axes = append(axes, int64(2*i))
	}
	t.give(x, t.reshape(t.sum(t.reshape(dy, pairs), axes...), t.shapes[x]))
	return nil
}
