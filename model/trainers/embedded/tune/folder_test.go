package tune_test

import (
	"fmt"
	"maps"
	"math"
	"testing"

	"github.com/promptmill/promptmill/model/onnx/build"
	"github.com/promptmill/promptmill/model/onnx/onnxfile"
	"github.com/promptmill/promptmill/model/onnx/onnxtest"
	"github.com/promptmill/promptmill/model/vlm/vlmtest"
)

// The model of testdata/steps.py.
const (
	width, heads, layers, window = 16, 2, 2, 160
	side, places                 = 8, 3
	vocabulary                   = 256 + 7
)

// folder writes the model; change alters or removes (nil) its files before.
func folder(tb testing.TB, change vlmtest.Files) string {
	tb.Helper()
	onnxtest.NeedLibrary(tb)
	half := func(m *onnxfile.Model) []byte {
		h, err := build.Half(m)
		if err != nil {
			tb.Fatal(err)
		}
		return h.Marshal()
	}
	all := vlmtest.New(window, side)
	all["onnx/vision_encoder.onnx"] = half(vision())
	all["onnx/embed_tokens.onnx"] = half(embedding())
	all["onnx/decoder_model_merged.onnx"] = half(decoder(true))
	all["onnx/embed_tokens_q4.onnx"] = []byte("of other weights")
	maps.Copy(all, change)
	return all.Write(tb)
}

// draw gives n numbers in -1..1 that depend on the name alone.
func draw(name string, n int) []float32 {
	x := uint32(2166136261)
	for _, c := range []byte(name) {
		x = (x ^ uint32(c)) * 16777619
	}
	out := make([]float32, n)
	for i := range out {
		x = x*1664525 + 1013904223
		out[i] = float32(float64(x>>8)/(1<<23) - 1)
	}
	return out
}

// net draws parameters in a graph.
type net struct{ *build.Builder }

func (n net) op(op string, in ...string) string { return n.Op(op, in) }

func (n net) weight(name string, scale float32, dims ...int64) string {
	size := int64(1)
	for _, d := range dims {
		size *= d
	}
	data := draw(name, int(size))
	for i := range data {
		data[i] *= scale
	}
	return n.Param(name, dims, data)
}

func (n net) norm(x, name string) string {
	return n.op("LayerNormalization", x, n.weight(name+".scale", 1, width), n.weight(name+".bias", .2, width))
}

func embedding() *onnxfile.Model {
	n := net{build.New()}
	ids := n.Input("input_ids", onnxfile.Int64, "batch", "length")
	n.Output("inputs_embeds", n.op("Gather", n.weight("table", 1, vocabulary, width), ids), onnxfile.Float, "batch", "length", width)
	return n.Model()
}

func vision() *onnxfile.Model {
	n := net{build.New()}
	x := n.op("Reshape", n.Input("pixel_values", onnxfile.Float, "batch", 3, side, side), n.Ints(-1, 3*side*side))
	x = n.op("MatMul", x, n.weight("project", .1, 3*side*side, places*width))
	n.Output("image_features", n.op("Reshape", x, n.Ints(-1, places, width)), onnxfile.Float, "batch", places, width)
	return n.Model()
}

// decoder has its head tied to the embeddings; keep says whether it gives only as many logits as asked for.
func decoder(keep bool) *onnxfile.Model {
	n := net{build.New()}
	x := n.Input("inputs_embeds", onnxfile.Float, "batch", "length", width)
	visible := n.Input("attention_mask", onnxfile.Int64, "batch", "total")
	at := n.Input("position_ids", onnxfile.Int64, "batch", "length")
	x = n.op("Add", x, n.op("Gather", n.weight("positions", .5, window, width), at))
	total := n.Op("Shape", []string{visible}, build.Int("start", 1), build.Int("end", 2))
	keys := n.op("Range", n.Index(0), n.op("Squeeze", total), n.Index(1))
	seen := n.op("LessOrEqual", keys, n.op("Unsqueeze", at, n.Ints(2)))
	seen = n.op("And", seen, n.Op("Cast", []string{n.op("Unsqueeze", visible, n.Ints(1))}, build.Int("to", int64(onnxfile.Bool))))
	bias := n.op("Unsqueeze", n.op("Where", seen, n.Scalar(0), n.Scalar(-1e9)), n.Ints(1))
	split := func(v string) string {
		return n.Op("Transpose", []string{n.op("Reshape", v, n.Ints(0, 0, heads, width/heads))}, build.Ints("perm", 0, 2, 1, 3))
	}
	for i := range layers {
		name := func(s string) string { return fmt.Sprintf("layers.%d.%s", i, s) }
		h := n.norm(x, name("norm1"))
		q := split(n.op("MatMul", h, n.weight(name("q"), .4, width, width)))
		kv := [2]string{}
		for j, s := range []string{"key", "value"} {
			past := n.Input(fmt.Sprintf("past_key_values.%d.%s", i, s), onnxfile.Float, "batch", heads, "past", width/heads)
			kv[j] = n.Op("Concat", []string{past, split(n.op("MatMul", h, n.weight(name(s), .4, width, width)))}, build.Int("axis", 2))
			n.Output(fmt.Sprintf("present.%d.%s", i, s), kv[j], onnxfile.Float, "batch", heads, "total", width/heads)
		}
		scores := n.op("Mul", n.op("MatMul", q, n.Op("Transpose", []string{kv[0]}, build.Ints("perm", 0, 1, 3, 2))), n.Scalar(float32(1/math.Sqrt(width/heads))))
		mixed := n.op("MatMul", n.Op("Softmax", []string{n.op("Add", scores, bias)}, build.Int("axis", -1)), kv[1])
		mixed = n.op("Reshape", n.Op("Transpose", []string{mixed}, build.Ints("perm", 0, 2, 1, 3)), n.Ints(0, 0, width))
		x = n.op("Add", x, n.op("MatMul", mixed, n.weight(name("o"), .4, width, width)))
		up := n.op("MatMul", n.norm(x, name("norm2")), n.weight(name("up"), .4, width, 4*width))
		x = n.op("Add", x, n.op("MatMul", n.op("Mul", up, n.op("Sigmoid", up)), n.weight(name("down"), .2, 4*width, width)))
	}
	if keep {
		last := n.op("Neg", n.op("Unsqueeze", n.Input("num_logits_to_keep", onnxfile.Int64), n.Ints(0)))
		x = n.op("Slice", x, last, n.Ints(1<<40), n.Ints(1))
	}
	x = n.norm(x, "norm")
	logits := n.op("MatMul", x, n.Op("Transpose", []string{n.weight("table", 1, vocabulary, width)}, build.Ints("perm", 1, 0)))
	n.Output("logits", logits, onnxfile.Float, "batch", "kept", vocabulary)
	return n.Model()
}
