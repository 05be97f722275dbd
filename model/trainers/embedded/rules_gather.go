package embedded

import (
	"github.com/promptmill/promptmill/model/onnx/build"
	"github.com/promptmill/promptmill/model/onnx/onnxfile"
)

// gather sees x as [before, d, after] around the axis and dy as [before, k, after].
//
// The sum over equal indices is ScatterElements's and not ScatterND's: with reduction=add and more than one thread
// ONNX Runtime's kernel of the latter writes without locks and loses updates (microsoft/onnxruntime#18048, #23396).
func gather(t *tape, n *onnxfile.Node, dy string) error {
	x, indices := n.Inputs[0], n.Inputs[1]
	shape := t.shapes[x]
	a := axis(integer(n, "axis", 0), len(shape))
	before, d, after := size(shape[:a]), shape[a], size(shape[a+1:])
	k := size(t.shapes[indices])
	if at, ok := t.only(indices); ok {
		at = axis(at, int(d))
		t.give(x, t.reshape(t.op("Pad", t.reshape(dy, []int64{before, 1, after}), t.Ints(0, at, 0, 0, d-1-at, 0)), shape))
		return nil
	}
	rows := t.reshape(dy, []int64{before, k, after})
	if before > 1 {
		rows = t.Op("Transpose", []string{rows}, build.Ints("perm", 1, 0, 2))
	}
	width := before * after
	into := t.op("ConstantOfShape", t.Ints(d, width))
	where := t.op("Expand", t.reshape(indices, []int64{k, 1}), t.Ints(k, width))
	g := t.scatter(into, where, t.reshape(rows, []int64{k, width}), 0)
	if before > 1 {
		g = t.Op("Transpose", []string{t.reshape(g, []int64{d, before, after})}, build.Ints("perm", 1, 0, 2))
	}
	t.give(x, t.reshape(g, shape))
	return nil
}

// only is the one index that a constant holds.
func (t *tape) only(indices string) (int64, bool) {
	c := t.fixed[indices]
	if c == nil || size(c.Dims) != 1 {
		return 0, false
	}
	v, err := c.Int64s()
	if err != nil {
		return 0, false
	}
	return v[0], true
}

func gatherElements(t *tape, n *onnxfile.Node, dy string) error {
	into := t.op("ConstantOfShape", t.Ints(t.shapes[n.Inputs[0]]...))
	t.give(n.Inputs[0], t.scatter(into, n.Inputs[1], dy, integer(n, "axis", 0)))
	return nil
}

// scatter adds rows to a copy of into.
func (t *tape) scatter(into, indices, rows string, axis int64) string {
	return t.Op("ScatterElements", []string{into, indices, rows}, build.Int("axis", axis), build.String("reduction", "add"))
}
