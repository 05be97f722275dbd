package clip_test

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/modeltest"
	"github.com/promptmill/promptmill/model/onnx/onnxtest"
	"github.com/promptmill/promptmill/model/scorers/clip"
)

const tiny = "testdata/tiny"

// Cosines times the logit scale are those of transformers' CLIPModel on the same pictures and texts, from the bytes on.
func TestScores(t *testing.T) {
	onnxtest.NeedLibrary(t)
	data, err := os.ReadFile("testdata/tiny_expected.json")
	if err != nil {
		t.Fatal(err)
	}
	var want struct {
		Images []string
		Texts  []string
		Cosine [][]float64 `json:"cos_image_by_text"`
		Scale  float64     `json:"logit_scale_exp"`
	}
	if err := json.Unmarshal(data, &want); err != nil || len(want.Cosine) != 5 {
		t.Fatalf("%d rows, %v; want 5", len(want.Cosine), err)
	}
	m, err := model.OpenScorer(t.Context(), model.Spec{Backend: "clip", Model: tiny, Options: map[string]string{
		"logit_scale": strconv.FormatFloat(want.Scale, 'g', -1, 64), "max_batch": "7", // batches that end within a row
	}})
	if err != nil {
		t.Fatal(err)
	}
	var reqs []model.ScoreRequest
	for _, name := range want.Images {
		picture, err := os.ReadFile(filepath.Join("testdata", name+".png"))
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range want.Texts {
			reqs = append(reqs, model.ScoreRequest{Text: text, Picture: modeltest.PictureOf(picture)})
		}
	}
	got, err := m.Score(t.Context(), reqs)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range got {
		picture, text := i/len(want.Texts), i%len(want.Texts)
		if w := want.Scale * want.Cosine[picture][text]; math.Abs(v-w) > 1e-4 {
			t.Errorf("%s, %.20q: %v, want %v", want.Images[picture], want.Texts[text], v, w)
		}
	}
}

func TestConformance(t *testing.T) {
	onnxtest.NeedLibrary(t)
	modeltest.RunScorer(t, func(t *testing.T) model.Scorer {
		m, err := clip.Open(tiny, clip.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(m.Close)
		return m
	}, modeltest.ScorerCaps{PictureSize: 40, Distinct: true})
}

// A folder that would give other scores than its makers', or none, is refused with the file and what is wrong with it.
func TestRefused(t *testing.T) {
	onnxtest.NeedLibrary(t)
	for name, c := range map[string]struct {
		file, content string // "" removes the file
		options       map[string]string
		want          string
	}{
		"no text tower":    {file: "text.onnx", want: "no text_model.onnx or text.onnx"},
		"no vision tower":  {file: "vision.onnx", want: "no vision_model.onnx or vision.onnx"},
		"broken tower":     {file: "vision.onnx", content: "no model", want: "vision.onnx"},
		"no tokenizer":     {file: "vocab.json", want: "vocab.json"},
		"broken processor": {file: "preprocessor_config.json", content: "{", want: "preprocessor_config.json"},
		"another size":     {file: "preprocessor_config.json", content: `{"size": {"shortest_edge": 336}, "crop_size": 336}`, want: "size: map[shortest_edge:336]; pictures of 224"},
		"another filter":   {file: "preprocessor_config.json", content: `{"size": 224, "resample": 2}`, want: "resample: 2"},
		"other means":      {file: "preprocessor_config.json", content: `{"image_mean": [0.5, 0.5, 0.5]}`, want: "image_mean: [0.5 0.5 0.5]"},
		"unknown option":   {options: map[string]string{"scale": "1"}, want: `no option "scale"`},
		"scale of 0":       {options: map[string]string{"logit_scale": "0"}, want: "option logit_scale"},
		"negative batch":   {options: map[string]string{"max_batch": "-1"}, want: "option max_batch"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(tiny)); err != nil {
				t.Fatal(err)
			}
			if c.file != "" {
				path := filepath.Join(dir, c.file)
				_ = os.Remove(path)
				if c.content != "" {
					if err := os.WriteFile(path, []byte(c.content), 0o644); err != nil {
						t.Fatal(err)
					}
				}
			}
			_, err := model.OpenScorer(t.Context(), model.Spec{Backend: "clip", Model: dir, Options: c.options})
			if !errors.Is(err, model.ErrConfig) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v; want ErrConfig with %q", err, c.want)
			}
		})
	}
	t.Run("what its makers write", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(tiny)); err != nil {
			t.Fatal(err)
		}
		for from, to := range map[string]string{"text.onnx": "onnx/text_model.onnx", "vision.onnx": "onnx/vision_model.onnx"} {
			if err := os.MkdirAll(filepath.Join(dir, "onnx"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(filepath.Join(dir, from), filepath.Join(dir, to)); err != nil {
				t.Fatal(err)
			}
		}
		config := `{"crop_size": {"height": 224, "width": 224}, "size": {"shortest_edge": 224}, "resample": 3, "do_resize": true,
			"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}`
		if err := os.WriteFile(filepath.Join(dir, "preprocessor_config.json"), []byte(config), 0o644); err != nil {
			t.Fatal(err)
		}
		m, err := clip.Open(dir, clip.Options{})
		if err != nil {
			t.Fatal(err)
		}
		m.Close()
	})
}
