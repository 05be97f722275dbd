package embedded

import "github.com/promptmill/promptmill/model/onnx/onnxfile"

// A rule appends the gradients of a node's inputs, given that of its first output ("" if only others have one).
type rule func(t *tape, n *onnxfile.Node, dy string) error

// rules are the operators that can be differentiated.
var rules = map[string]rule{
	"Add":        addition,
	"Sub":        subtraction,
	"Mul":        product,
	"Div":        quotient,
	"Pow":        power,
	"Max":        larger("GreaterOrEqual"),
	"Min":        larger("LessOrEqual"),
	"Where":      choice,
	"Clip":       clip,
	"Cast":       cast,
	"Neg":        unary(func(t *tape, _, _, dy string) string { return t.op("Neg", dy) }),
	"Abs":        unary(func(t *tape, x, _, dy string) string { return t.op("Mul", dy, t.op("Sign", x)) }),
	"Sqrt":       unary(func(t *tape, _, y, dy string) string { return t.op("Div", t.op("Mul", dy, t.Scalar(.5)), y) }),
	"Reciprocal": unary(func(t *tape, _, y, dy string) string { return t.op("Mul", dy, t.op("Neg", t.op("Mul", y, y))) }),
	"Exp":        unary(func(t *tape, _, y, dy string) string { return t.op("Mul", dy, y) }),
	"Log":        unary(func(t *tape, x, _, dy string) string { return t.op("Div", dy, x) }),
	"Sin":        unary(func(t *tape, x, _, dy string) string { return t.op("Mul", dy, t.op("Cos", x)) }),
	"Cos":        unary(func(t *tape, x, _, dy string) string { return t.op("Mul", dy, t.op("Neg", t.op("Sin", x))) }),
	"Tanh":       unary(func(t *tape, _, y, dy string) string { return t.op("Sub", dy, t.op("Mul", dy, t.op("Mul", y, y))) }),
	"Sigmoid":    unary(func(t *tape, _, y, dy string) string { return t.op("Mul", dy, t.op("Sub", y, t.op("Mul", y, y))) }),
	"Softplus":   unary(func(t *tape, x, _, dy string) string { return t.op("Mul", dy, t.op("Sigmoid", x)) }),
	"Erf":        unary(erf),
	"Relu":       unary(relu),

	"ReduceSum":  reduction,
	"ReduceMean": reduction,
	"ReduceMax":  extremum,
	"ReduceMin":  extremum,

	"MatMul": matmul,
	"Gemm":   gemm,

	"Identity":  func(t *tape, n *onnxfile.Node, dy string) error { t.give(n.Inputs[0], dy); return nil },
	"Reshape":   reshaped,
	"Flatten":   reshaped,
	"Squeeze":   reshaped,
	"Unsqueeze": reshaped,
	"Transpose": transposed,
	"Concat":    concatenated,
	"Split":     split,
	"Slice":     slice,
	"Expand":    expanded,
	"Tile":      tiled,

	"Gather":         gather,
	"GatherElements": gatherElements,

	"Softmax":                 softmax,
	"LogSoftmax":              logSoftmax,
	"SoftmaxCrossEntropyLoss": crossEntropy,
	"LayerNormalization":      layerNormalization,
}
