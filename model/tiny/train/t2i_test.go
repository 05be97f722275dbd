package train_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/diffusion"
	"github.com/promptmill/promptmill/model/onnx/onnxtest"
	"github.com/promptmill/promptmill/model/scene"
	"github.com/promptmill/promptmill/model/tiny/train"
)

// small is a run that takes seconds.
func small(steps int64) train.T2IConfig {
	c := train.DefaultT2I()
	c.Pictures, c.CodecPictures, c.TextBatch, c.Texts, c.Stop = 1000, 100, 24, 12, steps
	return c
}

// TestFirstLosses compares 50 steps of each phase with those of the CPU that made the committed weights. The text losses
// of "full" are the beginning of the run that made them.
func TestFirstLosses(t *testing.T) {
	prompts, bpe := train.Load(t)
	whole := train.DefaultT2I()
	whole.Stop = 50
	compareLosses(t, "t2i_losses.json", small(50), whole, func(c train.T2IConfig, note func(train.Phase, int64, float64)) error {
		return train.T2I(t.Context(), t.TempDir(), prompts, bpe, c, note)
	})
}

// TestInterruptedRunGoesOn stops a run in each phase and compares what it gives in the end with a run in one piece.
func TestInterruptedRunGoesOn(t *testing.T) {
	onnxtest.NeedLibrary(t)
	prompts, bpe := train.Load(t)
	one, pieces := t.TempDir(), t.TempDir()
	c := small(3)
	c.Texts, c.TextBatch = 3, 4
	if err := train.T2I(t.Context(), one, prompts, bpe, c, func(train.Phase, int64, float64) {}); err != nil {
		t.Fatal(err)
	}
	steps := 0
	for _, stop := range []train.Phase{train.TextPhase, train.PicturePhase, ""} {
		ctx, cancel := context.WithCancel(t.Context())
		err := train.T2I(ctx, pieces, prompts, bpe, c, func(p train.Phase, step int64, _ float64) {
			if steps++; p == stop && step == 2 {
				cancel()
			}
		})
		cancel()
		if stop != "" && !errors.Is(err, context.Canceled) || stop == "" && err != nil {
			t.Fatalf("run interrupted in phase %q: %v", stop, err)
		}
	}
	if steps != 6 {
		t.Errorf("the pieces have %d steps, want 6", steps)
	}
	sameFiles(t, one, pieces, "text_encoder/model.onnx", "unet/model.onnx", "vae_decoder/model.onnx", "tokenizer/tokenizer.json")
	if _, err := os.Stat(filepath.Join(pieces, "checkpoint")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the checkpoint is still there: %v", err)
	}
	drawFrom(t, pieces)
}

// drawFrom opens a folder as any Stable Diffusion model and draws with each scheduler.
func drawFrom(t *testing.T, folder string) {
	t.Helper()
	m, err := diffusion.Open(folder, diffusion.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for _, scheduler := range []string{"", "ddim", "pndm", "euler", "euler_a", "dpmpp_2m"} {
		r, err := m.Draw(t.Context(), model.ImageRequest{Prompt: "a red cat", Width: 32, Height: 32, Steps: 5, Guidance: 2, Scheduler: scheduler})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := scene.Decode(r.Data); err != nil {
			t.Errorf("scheduler %q: %v", scheduler, err)
		}
	}
	if _, err := m.Draw(t.Context(), model.ImageRequest{Prompt: "a red cat", Width: 64, Height: 64, Steps: 5, Guidance: 2}); !errors.Is(err, model.ErrRejected) {
		t.Errorf("64x64 pixels: %v, want ErrRejected", err)
	}
}

func TestT2IConfig(t *testing.T) {
	if err := train.DefaultT2I().Validate(); err != nil {
		t.Error(err)
	}
	data, err := json.Marshal(small(7))
	if err != nil {
		t.Fatal(err)
	}
	var back train.T2IConfig
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(small(7), back); d != "" {
		t.Error(d)
	}
	if err := (train.T2IConfig{}).Validate(); err == nil {
		t.Error("an empty configuration is valid")
	}
	if err := train.T2I(t.Context(), t.TempDir(), nil, nil, train.T2IConfig{Steps: -1}, nil); err == nil {
		t.Error("a run of -1 steps begins")
	}
}
