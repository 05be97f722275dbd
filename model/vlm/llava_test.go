package vlm_test

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/modeltest"
	"github.com/promptmill/promptmill/model/tokenizer"
	"github.com/promptmill/promptmill/model/vlm"
)

// A model that transformers made and exported gives the answers that it gives there.
func TestLlavaEqualsTransformers(t *testing.T) {
	var cases []struct {
		Pictures [][3]int
		Question string
		Tokens   int `json:"prompt_tokens"`
		Greedy   []int32
		Beams    []struct {
			IDs   []int32
			Score float64
		}
		LogProbs []float64 `json:"log_probs"`
	}
	readFixture(t, "llava/expected.json", &cases)
	s := small
	s.files = map[string]any{"processor_config.json": nil}
	for name, from := range map[string]string{
		"chat_template.jinja": "templates/llava-1.5.jinja", "config.json": "", "generation_config.json": "", "preprocessor_config.json": "",
		"onnx/vision_encoder.onnx": "", "onnx/embed_tokens.onnx": "", "onnx/decoder_model_merged.onnx": "",
	} {
		if from == "" {
			from = "llava/" + name
		}
		data, err := os.ReadFile(filepath.Join("testdata", from))
		if err != nil {
			t.Fatal(err)
		}
		s.files[name] = data
	}
	dir := folder(t, s)
	m := open(t, dir, vlm.Options{})
	tokens, err := tokenizer.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	text := func(ids []int32) string {
		if i := slices.Index(ids, 258); i >= 0 {
			ids = ids[:i]
		}
		return tokens.Decode(ids, true)
	}
	for i, c := range cases {
		req := ask(c.Question, 1, 1, model.Sampling{MaxTokens: 14})
		var parts []model.Part
		for _, p := range c.Pictures {
			picture := modeltest.Picture(t, p[0], p[1], uint8(p[2]))
			parts = append(parts, model.Part{Picture: &picture})
		}
		req.Messages[0].Parts = append(parts, req.Messages[0].Parts...)
		if res := chat(t, m, req); res.Answers[0].Text != text(c.Greedy) || res.Usage.PromptTokens != c.Tokens {
			t.Errorf("case %d: %q after %d tokens; want %q after %d", i, res.Answers[0].Text, res.Usage.PromptTokens, text(c.Greedy), c.Tokens)
		}
		logs, err := m.LogProbs(t.Context(), req.Messages, []string{"sharp focus"})
		if err != nil {
			t.Fatal(err)
		}
		for j, want := range c.LogProbs {
			if math.Abs(logs[0][j]-want) > 1e-3 {
				t.Errorf("case %d: token %d has log-probability %v, want %v", i, j, logs[0][j], want)
			}
		}
		found, err := m.Beam(t.Context(), req.Messages, vlm.BeamSearch{Width: 3, LengthPenalty: 1, MaxTokens: 14})
		if err != nil {
			t.Fatal(err)
		}
		for j, want := range c.Beams {
			if found[j].Text != text(want.IDs) || math.Abs(found[j].Score-want.Score) > 1e-4 {
				t.Errorf("case %d: beam %d is %q, %v; want %q, %v", i, j, found[j].Text, found[j].Score, text(want.IDs), want.Score)
			}
		}
	}
}
