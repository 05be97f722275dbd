package train

import (
	"encoding/json"
	"fmt"
	"path/filepath"

	"github.com/promptmill/promptmill/model/onnx/build"
	"github.com/promptmill/promptmill/model/onnx/onnxfile"
	"github.com/promptmill/promptmill/model/scene"
)

// write writes the model in the layout of onnx-community's exports, in half precision.
func (m *chatModel) write(dir string, bpe *BPE) error {
	vocabulary, err := bpe.JSON(ForChat)
	if err != nil {
		return err
	}
	graphs := map[string]*onnxfile.Model{
		"vision_encoder": visionGraph(m.weights), "embed_tokens": embedGraph(m.weights), "decoder_model_merged": decoderModelGraph(m.weights),
	}
	for name, g := range graphs {
		half, err := build.Half(g)
		if err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
		if err := write(dir, filepath.Join("onnx", name+".onnx"), half.Marshal()); err != nil {
			return err
		}
	}
	for name, v := range vlmConfigs() {
		data, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
		if err := write(dir, name, append(data, '\n')); err != nil {
			return err
		}
	}
	if err := write(dir, "chat_template.jinja", []byte(chatTemplate)); err != nil {
		return err
	}
	return write(dir, "tokenizer.json", vocabulary)
}

// visionGraph: pixel_values [count, 3, 32, 32] -> image_features [count, pictureTokens, vlmWidth].
func visionGraph(w vlmWeights) *onnxfile.Model {
	n := newNet(w)
	pixels := n.Input("pixel_values", onnxfile.Float, "count", 3, scene.Side, scene.Side)
	count := n.op("Slice", n.op("Shape", pixels), n.Ints(0), n.Ints(1))
	shape := n.Op("Concat", []string{count, n.Ints(pictureTokens, vlmWidth)}, build.Int("axis", 0))
	n.Output("image_features", n.project(n.tower(pixels, shape)), onnxfile.Float, "count", pictureTokens, vlmWidth)
	return n.Model()
}

// embedGraph: input_ids [batch, length] -> inputs_embeds [batch, length, vlmWidth].
func embedGraph(w vlmWeights) *onnxfile.Model {
	n := newNet(w)
	n.Output("inputs_embeds", n.embed(n.Input("input_ids", onnxfile.Int64, "batch", "length")), onnxfile.Float, "batch", "length", vlmWidth)
	return n.Model()
}

// decoderModelGraph reads length embeddings behind those in the cache; the mask covers both. It gives the logits of the
// last num_logits_to_keep embeddings, of all of them for 0.
func decoderModelGraph(w vlmWeights) *onnxfile.Model {
	n := newNet(w.folded())
	x := n.Input("inputs_embeds", onnxfile.Float, "batch", "length", vlmWidth)
	mask := n.Input("attention_mask", onnxfile.Int64, "batch", "total")
	place := n.Input("position_ids", onnxfile.Int64, "batch", "length")
	keep := n.Input("num_logits_to_keep", onnxfile.Int64, 1)

	bias := n.masked(x, mask)
	x = n.op("Add", x, n.op("Gather", n.param("position"), place))
	for i := range vlmLayers {
		past := &cache{fmt.Sprintf("past_key_values.%d.key", i), fmt.Sprintf("past_key_values.%d.value", i)}
		for _, name := range []string{past.key, past.value} {
			n.Input(name, onnxfile.Float, "batch", vlmHeads, "past", vlmReach)
		}
		var now cache
		x, now = n.block(x, fmt.Sprintf("decoder.%d", i), bias, past)
		n.Output(fmt.Sprintf("present.%d.key", i), now.key, onnxfile.Float, "batch", vlmHeads, "total", vlmReach)
		n.Output(fmt.Sprintf("present.%d.value", i), now.value, onnxfile.Float, "batch", vlmHeads, "total", vlmReach)
	}
	const end = 1 << 30
	x = n.op("Slice", x, n.op("Neg", keep), n.Ints(end), n.Ints(1))
	n.Output("logits", n.head(x), onnxfile.Float, "batch", "kept", Vocabulary)
	return n.Model()
}

// masked hides what comes later and what the mask leaves out: [batch, 1, length, total].
func (n *net) masked(x, mask string) string {
	dimension := func(of string, i int64) string { return n.op("Gather", n.op("Shape", of), n.Index(i)) }
	total := dimension(mask, 1)
	first := n.op("Sub", total, dimension(x, 1))
	row := n.op("Unsqueeze", n.op("Range", first, total, n.Index(1)), n.Ints(1))
	column := n.op("Unsqueeze", n.op("Range", n.Index(0), total, n.Index(1)), n.Ints(0))
	given := n.op("Unsqueeze", n.Op("Cast", []string{mask}, build.Int("to", int64(onnxfile.Bool))), n.Ints(1, 2))
	return n.op("Where", n.op("And", n.op("LessOrEqual", column, row), given), n.Scalar(0), n.Scalar(hidden))
}

// folded has one table of positions in the place of the two that are trained.
func (w vlmWeights) folded() vlmWeights {
	out := vlmWeights{}
	for name, of := range w {
		out[name] = of
	}
	own, shared := w["position"], w["period"].values
	sum := make([]float32, len(own.values))
	for i, v := range own.values {
		sum[i] = v + shared[i%len(shared)]
	}
	out["position"] = weight{own.dims, sum}
	return out
}

// chatTemplate writes the three tasks. The system's message names one: rewrite, eval ASPECT or judge ASPECT. The user's is the
// raw prompt, the last of its texts (what stands between pictures only names them), of which the models are shown what fits
// one bucket, with the pictures; for a judgment two answers follow,
// each after a line of three dashes.
const chatTemplate = `{%- macro words(text, longest) -%}
{{ ' ' ~ ((text | replace('<', ' ') | replace('>', ' ')).split()[:14] | join(' '))[:longest].strip() }}
{%- endmacro -%}
{%- macro whole(text) -%}
{{ ' ' ~ (text | replace('<', ' ') | replace('>', ' ')).strip() }}
{%- endmacro -%}
{%- set ns = namespace(task='', text='', pictures='') -%}
{%- for message in messages -%}
{%- if message['content'] is string -%}
{%- if message['role'] == 'system' -%}{%- set ns.task = ns.task ~ message['content'] -%}
{%- else -%}{%- set ns.text = ns.text ~ message['content'] -%}
{%- endif -%}
{%- else -%}
{%- for part in message['content'] -%}
{%- if part['type'] == 'image' -%}
{%- set ns.pictures = ns.pictures ~ '<image>' -%}
{%- elif message['role'] == 'system' -%}
{%- set ns.task = ns.task ~ part['text'] -%}
{%- else -%}
{%- set ns.text = part['text'] -%}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{%- endfor -%}
{%- set parts = ns.text.split('\n---\n') -%}
{%- set names = ns.task.split() -%}
<bos>
{%- for name in names -%}{{ '<' ~ name ~ '>' }}{%- endfor -%}
{%- if ns.pictures == '' -%}{{ words(parts[0], 80) }}{%- elif 'aesthetic' not in names -%}{{ words(parts[0], 50) }}{%- endif -%}
{%- for answer in parts[1:] -%}<sep>{{ whole(answer) }}{%- endfor -%}
{{ ns.pictures }}<ans>`

// vlmConfigs are the folder's JSON files, as far as they mean anything for these graphs.
func vlmConfigs() map[string]any {
	type object = map[string]any
	text := object{
		"hidden_size": vlmWidth, "num_hidden_layers": vlmLayers, "num_attention_heads": vlmHeads, "num_key_value_heads": vlmHeads,
		"head_dim": vlmReach, "intermediate_size": 4 * vlmWidth, "vocab_size": Vocabulary, "max_position_embeddings": vlmPositions,
		"hidden_act": "silu", "tie_word_embeddings": true,
	}
	return map[string]any{
		"config.json": object{
			"model_type": "promptmill_tiny", "image_token_id": 11, "eos_token_id": endToken, "bos_token_id": 1, "pad_token_id": padToken,
			"text_config":   text,
			"vision_config": object{"image_size": scene.Side, "patch_size": patchSide, "hidden_size": vlmWidth, "num_hidden_layers": towerLayers},
		},
		"generation_config.json": object{"eos_token_id": endToken, "bos_token_id": 1, "pad_token_id": padToken, "max_new_tokens": 80},
		"tokenizer_config.json": object{
			"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>",
			"image_token": "<image>", "model_max_length": vlmPositions,
		},
		"preprocessor_config.json": object{
			"image_processor_type": "CLIPImageProcessor", "do_resize": true, "size": object{"height": scene.Side, "width": scene.Side},
			"resample": 2, "do_center_crop": false, "do_rescale": true, "rescale_factor": 1. / 255,
			"do_normalize": true, "image_mean": []float64{.5, .5, .5}, "image_std": []float64{.25, .25, .25}, "do_convert_rgb": true,
		},
		"processor_config.json": object{
			"processor_class": "PromptmillTinyProcessor", "image_token": "<image>", "image_seq_length": pictureTokens,
			"prompt_padding": object{"token": "<pad>", "multiple": vlmBucket, "side": "left"},
		},
	}
}
