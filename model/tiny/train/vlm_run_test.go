package train_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/promptmill/promptmill/model/onnx/onnxtest"
	"github.com/promptmill/promptmill/model/tiny/train"
	"github.com/promptmill/promptmill/model/vlm"
	"github.com/promptmill/promptmill/transforms/judge"
)

// TestVLMFirstLosses compares the first steps of each stage with those of the CPU that made the committed weights. With
// -full there are 50, and those of tower and language are of the very run that made these.
func TestVLMFirstLosses(t *testing.T) {
	prompts, bpe := train.Load(t)
	rows := train.Sample(t)
	few, whole := train.DefaultVLM(), train.DefaultVLM()
	few.Rows, few.Stop, whole.Stop = 30, 10, 50
	compareLosses(t, "vlm_losses.json", few, whole, func(c train.VLMConfig, note func(train.Phase, int64, float64)) error {
		return train.VLM(t.Context(), t.TempDir(), prompts, bpe, rows, c, train.Render, note)
	})
}

// TestInterruptedVLMGoesOn stops a run among its tasks and compares what it gives in the end with a run in one piece.
func TestInterruptedVLMGoesOn(t *testing.T) {
	onnxtest.NeedLibrary(t)
	prompts, bpe := train.Load(t)
	rows := train.Sample(t)
	one, pieces := t.TempDir(), t.TempDir()
	c := train.DefaultVLM()
	c.Rows, c.Stop = 8, 2
	if err := train.VLM(t.Context(), one, prompts, bpe, rows, c, train.Render, func(train.Phase, int64, float64) {}); err != nil {
		t.Fatal(err)
	}
	steps := int64(0)
	for _, stop := range []int64{7, 0} {
		ctx, cancel := context.WithCancel(t.Context())
		err := train.VLM(ctx, pieces, prompts, bpe, rows, c, train.Render, func(train.Phase, int64, float64) {
			if steps++; steps == stop {
				cancel()
			}
		})
		cancel()
		if stop != 0 && !errors.Is(err, context.Canceled) || stop == 0 && err != nil {
			t.Fatalf("run interrupted after step %d: %v", stop, err)
		}
	}
	if steps != 8 {
		t.Errorf("the pieces have %d steps, want 8", steps)
	}
	for _, folder := range []string{"vlm-init", "vlm-sft"} {
		sameFiles(t, filepath.Join(one, folder), filepath.Join(pieces, folder),
			"onnx/vision_encoder.onnx", "onnx/embed_tokens.onnx", "onnx/decoder_model_merged.onnx", "tokenizer.json", "config.json")
	}
	if _, err := os.Stat(filepath.Join(pieces, "vlm-checkpoint")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the checkpoint is still there: %v", err)
	}
}

// examine measures a committed model on few pictures.
func examine(t *testing.T, folder string, comparisons, judgments int) *train.VLMReport {
	t.Helper()
	prompts, _ := train.Load(t)
	corpus, err := train.NewCorpus(prompts, train.Test)
	if err != nil {
		t.Fatal(err)
	}
	m, err := vlm.Open(t.Context(), filepath.Join("..", "weights", folder), vlm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	parser := func(parse func(string) (judge.Scores, error)) train.Parser {
		return func(answer string) (first, second float64, err error) {
			s, err := parse(answer)
			return s.First, s.Second, err
		}
	}
	e := train.Examination{
		Chat: m, Pool: train.NewPool(corpus, train.Render, 200, 0, 3), Images: parser(judge.ParseImages), Answers: parser(judge.ParseAnswers),
		Comparisons: comparisons, Judgments: judgments, Rewrites: comparisons / 2, Seed: 2,
	}
	r, err := e.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// The committed models can do what their cards say, with room for so few questions.
func TestCommittedVLM(t *testing.T) {
	onnxtest.NeedLibrary(t)
	r := examine(t, "vlm-sft", 200, 300)
	for i, least := range []float64{.82, .72, .61} { // the trial's figures less 10%
		if s := r.Judge[i]; s.Difference < least || s.Parsable < .98 || s.Accuracy < .7 {
			t.Errorf("judge: %+v, want a correlation of the difference of %v", s, least)
		}
	}
	if r.Graded.Value < .98 || r.Rewriting.Value < .9 {
		t.Errorf("judgments that can be read: %+v, rewritings that are lists: %+v", r.Graded, r.Rewriting)
	}
	t.Logf("judge of judgments: %+v", r.Judgment)
	if r.Judgment.Low <= .5 {
		t.Errorf("judge of judgments: %+v is not above a coin", r.Judgment)
	}
	for _, s := range examine(t, "vlm-init", 10, 10).Judge {
		if s.Parsable > .2 {
			t.Errorf("the initial model judges: %+v", s)
		}
	}
}

func TestVLMConfig(t *testing.T) {
	c := train.DefaultVLM()
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	c.Stop = 7
	data, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var back train.VLMConfig
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(c, back); d != "" {
		t.Error(d)
	}
	if err := (train.VLMConfig{Rewrites: .8, Judgments: .3}).Validate(); err == nil {
		t.Error("shares of more than 1 are valid")
	}
	if err := train.VLM(t.Context(), t.TempDir(), nil, nil, train.Rows{}, train.VLMConfig{}, train.Render, nil); err == nil {
		t.Error("a run of no rows begins")
	}
}
