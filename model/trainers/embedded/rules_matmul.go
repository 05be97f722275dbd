package embedded

import (
	"errors"
	"slices"

	"github.com/promptmill/promptmill/model/onnx/build"
	"github.com/promptmill/promptmill/model/onnx/onnxfile"
)

// matmul: dA = dY B', dB = A' dY. With one matrix for the whole batch, the batch is rows of one large product.
func matmul(t *tape, n *onnxfile.Node, dy string) error {
	a, b, shape := n.Inputs[0], n.Inputs[1], t.shapes[n.Outputs[0]]
	as, bs := t.shapes[a], t.shapes[b]
	if len(as) < 2 || len(bs) < 2 {
		return errors.New("an input is a vector: reshape it to a matrix")
	}
	if len(bs) == 2 {
		rows := size(as) / bs[0]
		flat := func(x string, xs []int64, columns int64) string {
			if len(xs) == 2 {
				return x
			}
			return t.reshape(x, []int64{rows, columns})
		}
		dy := flat(dy, shape, bs[1])
		if t.needed[a] {
			da := t.gemm(dy, b, 0, 1)
			if len(as) > 2 {
				da = t.reshape(da, as)
			}
			t.give(a, da)
		}
		if t.needed[b] {
			t.give(b, t.gemm(flat(a, as, bs[0]), dy, 1, 0))
		}
		return nil
	}
	batch := shape[:len(shape)-2]
	if t.needed[a] {
		t.fold(a, t.op("MatMul", dy, t.flip(b)), slices.Concat(batch, as[len(as)-2:]))
	}
	if t.needed[b] {
		t.fold(b, t.op("MatMul", t.flip(a), dy), slices.Concat(batch, bs[len(bs)-2:]))
	}
	return nil
}

// flip exchanges the last two axes of x. The runtime takes that into the product that follows.
func (t *tape) flip(x string) string {
	perm := make([]int64, len(t.shapes[x]))
	for i := range perm {
		perm[i] = int64(i)
	}
	last := len(perm) - 1
	perm[last], perm[last-1] = perm[last-1], perm[last]
	return t.Op("Transpose", []string{x}, build.Ints("perm", perm...))
}

func (t *tape) gemm(a, b string, flipA, flipB int64) string {
	return t.Op("Gemm", []string{a, b}, build.Int("transA", flipA), build.Int("transB", flipB))
}

// gemm: Y = alpha A B + beta C, where A and B may be flipped.
func gemm(t *tape, n *onnxfile.Node, dy string) error {
	a, b := n.Inputs[0], n.Inputs[1]
	flipA, flipB := integer(n, "transA", 0), integer(n, "transB", 0)
	scaled := func(by float32) string {
		if by == 1 {
			return dy
		}
		return t.op("Mul", dy, t.Scalar(by))
	}
	if len(n.Inputs) > 2 && t.needed[n.Inputs[2]] {
		t.fold(n.Inputs[2], scaled(number(n, "beta", 1)), t.shapes[n.Outputs[0]])
	}
	dy = scaled(number(n, "alpha", 1))
	if t.needed[a] {
		if flipA == 0 {
			t.give(a, t.gemm(dy, b, 0, 1-flipB))
		} else {
			t.give(a, t.gemm(b, dy, flipB, 1))
		}
	}
	if t.needed[b] {
		if flipB == 0 {
			t.give(b, t.gemm(a, dy, 1-flipA, 0))
		} else {
			t.give(b, t.gemm(dy, a, 1, flipA))
		}
	}
	return nil
}
