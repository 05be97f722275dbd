package embedded

import (
	"errors"
	"math"

	"github.com/promptmill/promptmill/model/onnx/onnxfile"
)

// unary is the rule of an operator with one input of its output's shape.
func unary(back func(t *tape, x, y, dy string) string) rule {
	return func(t *tape, n *onnxfile.Node, dy string) error {
		t.give(n.Inputs[0], back(t, n.Inputs[0], n.Outputs[0], dy))
		return nil
	}
}

func addition(t *tape, n *onnxfile.Node, dy string) error {
	shape := t.shapes[n.Outputs[0]]
	t.fold(n.Inputs[0], dy, shape)
	t.fold(n.Inputs[1], dy, shape)
	return nil
}

func subtraction(t *tape, n *onnxfile.Node, dy string) error {
	shape := t.shapes[n.Outputs[0]]
	t.fold(n.Inputs[0], dy, shape)
	if t.needed[n.Inputs[1]] {
		t.fold(n.Inputs[1], t.op("Neg", dy), shape)
	}
	return nil
}

func product(t *tape, n *onnxfile.Node, dy string) error {
	a, b, shape := n.Inputs[0], n.Inputs[1], t.shapes[n.Outputs[0]]
	if a == b {
		t.give(a, t.op("Mul", dy, t.op("Mul", a, t.Scalar(2))))
		return nil
	}
	if t.gates(b, a) || t.gates(a, b) {
		t.silu(n, dy)
		return nil
	}
	if t.needed[a] {
		t.fold(a, t.op("Mul", dy, b), shape)
	}
	if t.needed[b] {
		t.fold(b, t.op("Mul", dy, a), shape)
	}
	return nil
}

// gates says whether s is the sigmoid of x and made for nothing but one product.
func (t *tape) gates(s, x string) bool {
	n := t.makers[s]
	return n != nil && n.Op == "Sigmoid" && n.Inputs[0] == x && t.users[s] == 1
}

// silu is the gradient of y = x s, s the sigmoid of x: s + y - y s. It takes two thirds of the passes over memory that
// the rules for the product and the sigmoid take.
func (t *tape) silu(n *onnxfile.Node, dy string) {
	x, s, y := n.Inputs[0], n.Inputs[1], n.Outputs[0]
	if !t.gates(s, x) {
		x, s = s, x
	}
	t.give(x, t.op("Mul", dy, t.op("Add", s, t.op("Sub", y, t.op("Mul", y, s)))))
}

func quotient(t *tape, n *onnxfile.Node, dy string) error {
	a, b, y := n.Inputs[0], n.Inputs[1], n.Outputs[0]
	part := t.op("Div", dy, b)
	t.fold(a, part, t.shapes[y])
	if t.needed[b] {
		t.fold(b, t.op("Neg", t.op("Mul", part, y)), t.shapes[y])
	}
	return nil
}

func power(t *tape, n *onnxfile.Node, dy string) error {
	x, e := n.Inputs[0], n.Inputs[1]
	if t.needed[e] {
		return errors.New("the exponent depends on a parameter, which has no rule")
	}
	slope := ""
	if v := t.floats(e); len(v) == 1 && v[0] == 2 {
		slope = t.op("Mul", x, t.Scalar(2))
	} else {
		slope = t.op("Mul", e, t.op("Pow", x, t.op("Sub", e, t.Scalar(1))))
	}
	t.fold(x, t.op("Mul", dy, slope), t.shapes[n.Outputs[0]])
	return nil
}

// larger is the rule of Max, or of Min with the other comparison. Of equal inputs the first gets the gradient.
func larger(comparison string) rule {
	return func(t *tape, n *onnxfile.Node, dy string) error {
		if len(n.Inputs) != 2 {
			return errors.New("there is a rule for two inputs only")
		}
		a, b, shape, zero := n.Inputs[0], n.Inputs[1], t.shapes[n.Outputs[0]], t.Scalar(0)
		first := t.op(comparison, a, b)
		if t.needed[a] {
			t.fold(a, t.op("Where", first, dy, zero), shape)
		}
		if t.needed[b] {
			t.fold(b, t.op("Where", first, zero, dy), shape)
		}
		return nil
	}
}

func choice(t *tape, n *onnxfile.Node, dy string) error {
	condition, a, b, shape, zero := n.Inputs[0], n.Inputs[1], n.Inputs[2], t.shapes[n.Outputs[0]], t.Scalar(0)
	if t.needed[a] {
		t.fold(a, t.op("Where", condition, dy, zero), shape)
	}
	if t.needed[b] {
		t.fold(b, t.op("Where", condition, zero, dy), shape)
	}
	return nil
}

func clip(t *tape, n *onnxfile.Node, dy string) error {
	for _, bound := range n.Inputs[1:] {
		if t.needed[bound] {
			return errors.New("a bound depends on a parameter, which has no rule")
		}
	}
	t.give(n.Inputs[0], t.op("Where", t.op("Equal", n.Inputs[0], n.Outputs[0]), dy, t.Scalar(0)))
	return nil
}

// cast knows float to float, which graphs with stored halves come to when their weights are given.
func cast(t *tape, n *onnxfile.Node, dy string) error {
	if to := onnxfile.DataType(integer(n, "to", 0)); to != onnxfile.Float {
		return errors.New("a value that depends on parameters becomes " + to.String() + ": train in float")
	}
	t.give(n.Inputs[0], dy)
	return nil
}

func erf(t *tape, x, _, dy string) string {
	bell := t.op("Exp", t.op("Neg", t.op("Mul", x, x)))
	return t.op("Mul", dy, t.op("Mul", bell, t.Scalar(float32(2/math.Sqrt(math.Pi)))))
}

func relu(t *tape, _, y, dy string) string {
	return t.op("Where", t.op("Greater", y, t.Scalar(0)), dy, t.Scalar(0))
}
