package vlm_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/promptmill/promptmill/model/onnx/build"
	"github.com/promptmill/promptmill/model/onnx/onnxfile"
	"github.com/promptmill/promptmill/model/onnx/onnxtest"
	"github.com/promptmill/promptmill/model/vlm"
	"github.com/promptmill/promptmill/model/vlm/vlmtest"
)

// shape is a small model of random weights in the layout of the real ones.
type shape struct {
	hidden, heads, layers, context int
	side, places                   int     // of pictures, and the vectors that one gives
	gain                           float64 // how far apart the logits are
	vocab                          int     // 0: as many as there are tokens
	optional                       bool    // whether the graphs take the inputs that some exports have
	files                          map[string]any
}

var small = shape{hidden: 32, heads: 2, layers: 2, context: 160, side: 16, places: 3, gain: 4}

// folder writes a model; change may alter or remove (nil) its files before.
func folder(tb testing.TB, s shape) string {
	tb.Helper()
	onnxtest.NeedLibrary(tb)
	files := vlmtest.New(s.context, s.side)
	files["onnx/vision_encoder.onnx"] = s.vision().Marshal()
	files["onnx/embed_tokens.onnx"] = s.embedding().Marshal()
	files["onnx/decoder_model_merged.onnx"] = s.decoder().Marshal()
	maps.Copy(files, s.files)
	return files.Write(tb)
}

func open(tb testing.TB, dir string, o vlm.Options) *vlm.Model {
	tb.Helper()
	m, err := vlm.Open(tb.Context(), dir, o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(m.Close)
	return m
}

func (s shape) tokens() int {
	if s.vocab > 0 {
		return s.vocab
	}
	return 256 + len(vlmtest.Specials)
}

// weights are the same for the same name.
func weights(b *build.Builder, name string, std float64, dims ...int64) string {
	n := int64(1)
	for _, d := range dims {
		n *= d
	}
	var seed uint64
	for _, c := range name {
		seed = seed*31 + uint64(c)
	}
	rng := rand.New(rand.NewPCG(seed, 1))
	data := make([]float32, n)
	for i := range data {
		data[i] = float32(rng.NormFloat64() * std)
	}
	return b.Param(name, dims, data)
}

func (s shape) embedding() *onnxfile.Model {
	b := build.New()
	ids := b.Input("input_ids", onnxfile.Int64, "batch", "length")
	table := weights(b, "table", 1, int64(s.tokens()), int64(s.hidden))
	b.Output("inputs_embeds", b.Op("Gather", []string{table, ids}), onnxfile.Float, "batch", "length", s.hidden)
	return b.Model()
}

func (s shape) vision() *onnxfile.Model {
	b := build.New()
	dims := []any{"batch", 3, s.side, s.side}
	if s.optional {
		dims = append([]any{"conversations"}, dims...)
	}
	x := b.Input("pixel_values", onnxfile.Float, dims...)
	if s.optional {
		mask := b.Input("pixel_attention_mask", onnxfile.Bool, "conversations", "batch", s.side, s.side)
		x = b.Op("Mul", []string{x, b.Op("Cast", []string{b.Op("Unsqueeze", []string{mask, b.Ints(2)})}, build.Int("to", 1))})
	}
	flat := b.Op("Reshape", []string{x, b.Ints(-1, int64(3*s.side*s.side))})
	out := b.Op("MatMul", []string{flat, weights(b, "project", .05, int64(3*s.side*s.side), int64(s.places*s.hidden))})
	b.Output("image_features", b.Op("Reshape", []string{out, b.Ints(-1, int64(s.places), int64(s.hidden))}), onnxfile.Float, "batch", s.places, s.hidden)
	return b.Model()
}

// decoder is a plain transformer: causal attention, learned positions, a cache.
func (s shape) decoder() *onnxfile.Model {
	b := build.New()
	d, heads := int64(s.hidden), int64(s.heads)
	x := b.Input("inputs_embeds", onnxfile.Float, "batch", "length", s.hidden)
	visible := b.Input("attention_mask", onnxfile.Int64, "batch", "total")
	places := b.Input("position_ids", onnxfile.Int64, "batch", "length")
	x = b.Op("Add", []string{x, b.Op("Gather", []string{weights(b, "positions", .5, int64(s.context), d), places})})
	// A token sees those at and before its place, unless they are masked.
	total := b.Op("Shape", []string{visible}, build.Int("start", 1), build.Int("end", 2))
	keys := b.Op("Range", []string{b.Index(0), b.Op("Squeeze", []string{total}), b.Index(1)})
	seen := b.Op("LessOrEqual", []string{keys, b.Op("Unsqueeze", []string{places, b.Ints(2)})})
	seen = b.Op("And", []string{seen, b.Op("Cast", []string{b.Op("Unsqueeze", []string{visible, b.Ints(1)})}, build.Int("to", 9))})
	bias := b.Op("Unsqueeze", []string{b.Op("Where", []string{seen, b.Scalar(0), b.Scalar(-1e9)}), b.Ints(1)})
	split := func(v string) string {
		v = b.Op("Reshape", []string{v, b.Ints(0, 0, heads, d/heads)})
		return b.Op("Transpose", []string{v}, build.Ints("perm", 0, 2, 1, 3))
	}
	for i := range s.layers {
		name := func(part string) string { return fmt.Sprintf("layers.%d.%s", i, part) }
		h := s.normal(b, x)
		q := split(b.Op("MatMul", []string{h, weights(b, name("q"), .2, d, d)}))
		kv := [2]string{}
		for j, part := range []string{"key", "value"} {
			past := b.Input(fmt.Sprintf("past_key_values.%d.%s", i, part), onnxfile.Float, "batch", s.heads, "past", s.hidden/s.heads)
			kv[j] = b.Op("Concat", []string{past, split(b.Op("MatMul", []string{h, weights(b, name(part), .2, d, d)}))}, build.Int("axis", 2))
			b.Output(fmt.Sprintf("present.%d.%s", i, part), kv[j], onnxfile.Float, "batch", s.heads, "total", s.hidden/s.heads)
		}
		scores := b.Op("Add", []string{b.Op("MatMul", []string{q, b.Op("Transpose", []string{kv[0]}, build.Ints("perm", 0, 1, 3, 2))}), bias})
		mixed := b.Op("MatMul", []string{b.Op("Softmax", []string{scores}, build.Int("axis", -1)), kv[1]})
		mixed = b.Op("Reshape", []string{b.Op("Transpose", []string{mixed}, build.Ints("perm", 0, 2, 1, 3)), b.Ints(0, 0, d)})
		x = b.Op("Add", []string{x, b.Op("MatMul", []string{mixed, weights(b, name("o"), .2, d, d)})})
		wide := b.Op("Relu", []string{b.Op("MatMul", []string{s.normal(b, x), weights(b, name("up"), .2, d, 4*d)})})
		x = b.Op("Add", []string{x, b.Op("MatMul", []string{wide, weights(b, name("down"), .1, 4*d, d)})})
	}
	x = s.normal(b, x)
	if s.optional {
		b.Input("cache_position", onnxfile.Int64, "length")
		b.Input("use_cache_branch", onnxfile.Bool, 1)
		keep := b.Input("num_logits_to_keep", onnxfile.Int64)
		from := b.Op("Unsqueeze", []string{b.Op("Neg", []string{keep}), b.Ints(0)})
		x = b.Op("Slice", []string{x, from, b.Ints(1 << 40), b.Ints(1)})
	}
	head := weights(b, "head", s.gain/float64(s.hidden), d, int64(s.tokens()))
	b.Output("logits", b.Op("MatMul", []string{x, head}), onnxfile.Float, "batch", "length", s.tokens())
	return b.Model()
}

func (s shape) normal(b *build.Builder, x string) string {
	one := make([]float32, s.hidden)
	for i := range one {
		one[i] = 1
	}
	return b.Op("LayerNormalization", []string{x, b.Floats(one...)}, build.Int("axis", -1), build.Float("epsilon", 1e-5))
}
