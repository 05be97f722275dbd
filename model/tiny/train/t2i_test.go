package train_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/diffusion"
	"github.com/promptmill/promptmill/model/onnx"
	"github.com/promptmill/promptmill/model/scene"
	"github.com/promptmill/promptmill/model/tiny/train"
)

var (
	update = flag.Bool("update", false, "write the losses that are measured to testdata")
	full   = flag.Bool("full", false, "train steps of full size, too: a minute")
)

func needRuntime(t *testing.T) {
	t.Helper()
	if err := onnx.Start(); errors.Is(err, onnx.ErrLibrary) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
}

// small is a run that takes seconds.
func small(steps int64) train.T2IConfig {
	c := train.DefaultT2I()
	c.Pictures, c.CodecPictures, c.TextBatch, c.Texts, c.Stop = 1000, 100, 24, 12, steps
	return c
}

// losses of the first steps, by phase.
type losses map[train.Phase][]float64

// tolerance is for CPUs of other types, whose sums differ in their last bits: a run amplifies them.
const tolerance = 5e-3

// TestFirstLosses compares 50 steps of each phase with those of the CPU that made the committed weights. The text losses
// of "full" are the beginning of the run that made them.
func TestFirstLosses(t *testing.T) {
	needRuntime(t)
	prompts, bpe := load(t)
	path := filepath.Join("testdata", "t2i_losses.json")
	data, err := os.ReadFile(path)
	if err != nil && !*update {
		t.Fatal(err)
	}
	want := map[string]losses{}
	if err == nil {
		if err := json.Unmarshal(data, &want); err != nil {
			t.Fatal(err)
		}
	}
	whole := train.DefaultT2I()
	whole.Stop = 50
	for name, c := range map[string]train.T2IConfig{"small": small(50), "full": whole} {
		if name == "full" && !*full {
			continue
		}
		got := losses{}
		err := train.T2I(t.Context(), t.TempDir(), prompts, bpe, c, func(p train.Phase, _ int64, loss float64) {
			got[p] = append(got[p], math.Round(loss*1e6)/1e6)
		})
		if err != nil {
			t.Fatal(err)
		}
		if *update {
			want[name] = got
			continue
		}
		near := cmp.Comparer(func(a, b float64) bool { return math.Abs(a-b) <= tolerance*math.Abs(b) })
		if d := cmp.Diff(want[name], got, near); d != "" {
			t.Errorf("%s: the losses differ from testdata's: %s", name, d)
		}
	}
	if *update {
		data, err := json.MarshalIndent(want, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, append(data, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestInterruptedRunGoesOn stops a run in each phase and compares what it gives in the end with a run in one piece.
func TestInterruptedRunGoesOn(t *testing.T) {
	needRuntime(t)
	prompts, bpe := load(t)
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
	for _, name := range []string{"text_encoder/model.onnx", "unet/model.onnx", "vae_decoder/model.onnx", "tokenizer/tokenizer.json"} {
		a, err := os.ReadFile(filepath.Join(one, filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(pieces, filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a, b) {
			t.Errorf("%s is another after interruptions", name)
		}
	}
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
