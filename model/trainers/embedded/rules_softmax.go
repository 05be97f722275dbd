package embedded

import (
	"errors"
	"fmt"

	"github.com/promptmill/promptmill/model/onnx/build"
	"github.com/promptmill/promptmill/model/onnx/onnxfile"
)

func softmax(t *tape, n *onnxfile.Node, dy string) error {
	y := n.Outputs[0]
	weighted := t.op("Mul", dy, y)
	// y dy - y sum(y dy): one pass less than y (dy - sum(y dy)) where the runtime computes in place.
	t.give(n.Inputs[0], t.op("Sub", weighted, t.op("Mul", y, t.sum(weighted, integer(n, "axis", -1)))))
	return nil
}

func logSoftmax(t *tape, n *onnxfile.Node, dy string) error {
	p := t.op("Exp", n.Outputs[0])
	t.give(n.Inputs[0], t.op("Sub", dy, t.op("Mul", p, t.sum(dy, integer(n, "axis", -1)))))
	return nil
}

// crossEntropy: the softmax of the scores less one at the label, times what the row counts for in the loss. The scores are
// [rows, classes].
func crossEntropy(t *tape, n *onnxfile.Node, dy string) error {
	scores, labels := n.Inputs[0], n.Inputs[1]
	if len(t.shapes[scores]) != 2 || len(n.Inputs) > 2 && n.Inputs[2] != "" {
		return errors.New("there is a rule for scores of [rows, classes] without weights of the classes")
	}
	if len(n.Outputs) > 1 && len(t.parts[n.Outputs[1]]) > 0 {
		return errors.New("its log-probabilities are used: take LogSoftmax for them")
	}
	if len(n.Outputs) == 1 {
		n.Outputs = append(n.Outputs, n.Outputs[0]+"/log_prob")
	}
	rows := t.shapes[scores][0]
	at, weight := t.reshape(labels, []int64{rows, 1}), ""
	share := "mean"
	if a := n.Attribute("reduction"); a != nil {
		share = string(a.String)
	}
	switch share {
	case "none":
		weight = t.reshape(dy, []int64{rows, 1})
	case "sum":
		weight = t.op("Expand", t.reshape(dy, []int64{1, 1}), t.Ints(rows, 1))
	case "mean":
		weight = t.op("Expand", t.op("Mul", t.reshape(dy, []int64{1, 1}), t.Scalar(1/float32(rows))), t.Ints(rows, 1))
	default:
		return fmt.Errorf("reduction %q", share)
	}
	if a := n.Attribute("ignore_index"); a != nil {
		keep := t.op("Not", t.op("Equal", at, t.Ints(a.Int)))
		at = t.op("Where", keep, at, t.Ints(0))
		count := t.Op("Cast", []string{keep}, build.Int("to", int64(onnxfile.Float)))
		if share == "mean" {
			weight = t.op("Mul", weight, t.op("Div", t.Scalar(float32(rows)), t.sum(count, 0)))
		}
		weight = t.op("Mul", weight, count)
	}
	p := t.op("Mul", t.op("Exp", n.Outputs[1]), weight)
	t.give(scores, t.scatter(p, at, t.op("Neg", weight), 1))
	return nil
}

// layerNormalization, with h = (x - mean) / deviation and y = h scale + bias:
//
//	dx = (g - mean(g) - h mean(g h)) / deviation, where g = dy scale
//
// The means over a row are products with a column, scale / width: mean(g) = dy (scale / width), and mean(g h) is the same
// of dy h, which the gradient of scale needs too.
func layerNormalization(t *tape, n *onnxfile.Node, dy string) error {
	for i := len(n.Outputs); i < 3; i++ {
		n.Outputs = append(n.Outputs, fmt.Sprintf("%s/statistic_%d", n.Outputs[0], i))
	}
	x, scale, mean, inverse := n.Inputs[0], n.Inputs[1], n.Outputs[1], n.Outputs[2]
	shape := t.shapes[x]
	a := axis(integer(n, "axis", -1), len(shape))
	width := size(shape[a:])
	if size(t.shapes[scale]) != width {
		return fmt.Errorf("the scale has shape %v, not that of the normalised axes %v", t.shapes[scale], shape[a:])
	}
	if len(n.Inputs) > 2 {
		t.fold(n.Inputs[2], dy, shape)
	}
	var h string
	plain := t.all(scale, 1) && (len(n.Inputs) < 3 || n.Inputs[2] == "" || t.all(n.Inputs[2], 0))
	if plain {
		h = n.Outputs[0]
	} else {
		h = t.op("Mul", t.op("Sub", x, mean), inverse)
	}
	along := t.op("Mul", dy, h)
	t.fold(scale, along, shape)
	if !t.needed[x] {
		return nil
	}
	column := t.reshape(t.op("Mul", scale, t.Scalar(1/float32(width))), []int64{width, 1})
	rowMean := func(v string) string {
		if int(a) == len(shape)-1 {
			return t.op("MatMul", v, column)
		}
		kept := append([]int64{}, shape...)
		for i := range kept[a:] {
			kept[int(a)+i] = 1
		}
		return t.reshape(t.op("MatMul", t.reshape(v, []int64{size(shape[:a]), width}), column), kept)
	}
	g := dy
	if !plain {
		g = t.op("Mul", dy, scale)
	}
	centred := t.op("Sub", t.op("Sub", g, t.op("Mul", h, rowMean(along))), rowMean(dy))
	t.give(x, t.op("Mul", inverse, centred))
	return nil
}

// all says whether value is a constant of nothing but v.
func (t *tape) all(value string, v float32) bool {
	elements := t.floats(value)
	for _, e := range elements {
		if e != v {
			return false
		}
	}
	return len(elements) > 0
}
