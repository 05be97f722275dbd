package tune_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/promptmill/promptmill/model/onnx"
	"github.com/promptmill/promptmill/model/onnx/build"
	"github.com/promptmill/promptmill/model/onnx/onnxfile"
)

// The model of testdata/steps.py.
const (
	width, heads, layers, window = 16, 2, 2, 160
	side, places                 = 8, 3
	vocabulary                   = 256 + 7
)

// Tokens behind the bytes.
var specials = []string{"<pad>", "<bos>", "<eos>", "<image>", "<user>", "<system>", "<answer>"}

const template = `<bos>{% for m in messages %}{{ '<user>' if m['role'] == 'user' else '<system>' }}` +
	`{% for p in m['content'] %}{% if p['type'] == 'image' %}<image>{% else %}{{ p['text'] }}{% endif %}{% endfor %}{% endfor %}` +
	`{% if add_generation_prompt %}<answer>{% endif %}`

func needLibrary(tb testing.TB) {
	tb.Helper()
	if err := onnx.Start(); err != nil {
		tb.Skipf("not executed: %v", err)
	}
}

// A files is what is in a folder; change alters it, nil removes.
type files map[string]any

// folder writes the model; change alters or removes (nil) its files before.
func folder(tb testing.TB, change files) string {
	tb.Helper()
	needLibrary(tb)
	half := func(m *onnxfile.Model) []byte {
		h, err := build.Half(m)
		if err != nil {
			tb.Fatal(err)
		}
		return h.Marshal()
	}
	all := files{
		"config.json":            map[string]any{"text_config": map[string]any{"max_position_embeddings": window}},
		"generation_config.json": map[string]any{"eos_token_id": []int{258}},
		"tokenizer.json":         byteTokenizer(),
		"tokenizer_config.json":  map[string]any{"bos_token": "<bos>", "eos_token": "<eos>", "chat_template": template},
		"preprocessor_config.json": map[string]any{
			"size": map[string]int{"height": side, "width": side}, "resample": 3, "rescale_factor": 1. / 255,
			"image_mean": []float64{.5, .5, .5}, "image_std": []float64{.25, .25, .25},
		},
		"processor_config.json": map[string]any{"image_token": "<image>", "prompt_padding": map[string]any{"token": "<pad>", "multiple": 16, "side": "left"}},

		"onnx/vision_encoder.onnx":       half(vision()),
		"onnx/embed_tokens.onnx":         half(embedding()),
		"onnx/decoder_model_merged.onnx": half(decoder(true)),
		"onnx/embed_tokens_q4.onnx":      []byte("of other weights"),
	}
	maps.Copy(all, change)
	dir := tb.TempDir()
	for name, content := range all {
		var data []byte
		switch c := content.(type) {
		case nil:
			continue
		case []byte:
			data = c
		default:
			var err error
			if data, err = json.Marshal(content); err != nil {
				tb.Fatal(err)
			}
		}
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			tb.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			tb.Fatal(err)
		}
	}
	return dir
}

// byteTokenizer has a token for each byte, and special ones behind them.
func byteTokenizer() map[string]any {
	vocab := map[string]int{}
	next := 0
	for b := range 256 {
		r := rune(b)
		if b < '!' || b > '~' && b < 0xa1 || b == 0xad { // GPT-2's alphabet moves what is not printed
			r = rune(256 + next)
			next++
		}
		vocab[string(r)] = b
	}
	var added []map[string]any
	for i, s := range specials {
		added = append(added, map[string]any{"id": 256 + i, "content": s, "special": true, "normalized": false, "single_word": false, "lstrip": false, "rstrip": false})
	}
	return map[string]any{
		"version": "1.0", "added_tokens": added,
		"pre_tokenizer": map[string]any{"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
		"decoder":       map[string]any{"type": "ByteLevel"},
		"model":         map[string]any{"type": "BPE", "vocab": vocab, "merges": []string{}},
	}
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
