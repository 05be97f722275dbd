package train

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/promptmill/promptmill/model/onnx/build"
	"github.com/promptmill/promptmill/model/onnx/onnxfile"
	"github.com/promptmill/promptmill/model/scene"
	"github.com/promptmill/promptmill/model/trainers/embedded"
)

// writeStableDiffusion writes the averaged weights in the layout of Stable Diffusion's ONNX exports, in half precision.
func writeStableDiffusion(dir string, p *embedded.Params, c *Codec) error {
	text, unet := textEncoderGraph(), unetGraph()
	for _, m := range []*onnxfile.Model{text, unet} {
		if err := p.StoreEMA(m); err != nil {
			return err
		}
	}
	for name, m := range map[string]*onnxfile.Model{"text_encoder": text, "unet": unet, "vae_decoder": decoderGraph(c)} {
		half, err := build.Half(m)
		if err != nil {
			return fmt.Errorf("write the %s: %w", name, err)
		}
		if err := write(dir, filepath.Join(name, "model.onnx"), half.Marshal()); err != nil {
			return err
		}
	}
	for name, v := range stableDiffusionConfigs() {
		data, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
		if err := write(dir, filepath.FromSlash(name), append(data, '\n')); err != nil {
			return err
		}
	}
	return nil
}

func write(dir, name string, data []byte) error {
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}

// stableDiffusionConfigs are the folder's JSON files: what diffusers and its exporters write, as far as it means anything
// for these graphs.
func stableDiffusionConfigs() map[string]any {
	type object = map[string]any
	return map[string]any{
		"model_index.json": object{
			"_class_name": "StableDiffusionPipeline", "requires_safety_checker": false,
			"feature_extractor": []any{nil, nil}, "safety_checker": []any{nil, nil},
			"scheduler":    []string{"diffusers", "DDIMScheduler"},
			"text_encoder": []string{"transformers", "CLIPTextModel"},
			"tokenizer":    []string{"transformers", "PreTrainedTokenizerFast"},
			"unet":         []string{"diffusers", "UNet2DConditionModel"},
			"vae":          []string{"diffusers", "AutoencoderKL"},
		},
		"scheduler/scheduler_config.json": object{
			"_class_name": "DDIMScheduler", "num_train_timesteps": timesteps, "beta_start": .00085, "beta_end": .012,
			"beta_schedule": "scaled_linear", "prediction_type": "epsilon", "timestep_spacing": "leading", "steps_offset": 1,
			"set_alpha_to_one": true, "clip_sample": false,
		},
		"text_encoder/config.json": object{
			"hidden_size": textWidth, "max_position_embeddings": TextLength, "vocab_size": Vocabulary, "num_hidden_layers": 1,
		},
		"unet/config.json": object{
			"_class_name": "UNet2DConditionModel", "in_channels": channels, "out_channels": channels, "sample_size": grid,
			"cross_attention_dim": textWidth,
		},
		"vae_decoder/config.json": object{
			"_class_name": "AutoencoderKL", "latent_channels": channels, "out_channels": 3, "sample_size": scene.Side,
			"scaling_factor": latentScale,
			// Each halves the size of the picture but the first: samplers take a latent's side in pixels from their number.
			"block_out_channels": []int{channels, channels, channels, channels},
		},
		"tokenizer/tokenizer_config.json": object{
			"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": TextLength,
			"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<eos>",
		},
	}
}
