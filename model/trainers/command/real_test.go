package command_test

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/modeltest"
	"github.com/promptmill/promptmill/schemas"
)

// The folder of the real trainers, made by testdata/test_trainers.sh.
func realTrainers(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("PROMPTMILL_TRAINERS")
	if dir == "" {
		t.Skip("not executed: run make test-trainers")
	}
	return dir
}

func picture(t *testing.T, i int) schemas.Image {
	t.Helper()
	m := image.NewRGBA(image.Rect(0, 0, 28, 28))
	for y := range 28 {
		for x := range 28 {
			m.Set(x, y, color.RGBA{uint8(16 * i), uint8(8 * x), uint8(8 * y), 255})
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return schemas.Image{Bytes: b.Bytes(), Path: strconv.Itoa(i) + ".png"}
}

// realCases are the four shapes of row, 8 rows each.
var realCases = []struct {
	name, start, method string
	data                func(t *testing.T) string
}{
	{"sft", "text", model.MethodSFT, func(t *testing.T) string {
		return modeltest.Shard(t, repeat(8, func(i int) schemas.ChatExample {
			return schemas.ChatExample{ID: strconv.Itoa(i), Task: schemas.TaskRewrite, Messages: append(message("user", fmt.Sprintf("Rewrite: a cat %d", i)), message("assistant", "a fluffy cat, soft light")...)}
		})...)
	}},
	{"dpo", "text", model.MethodDPO, shard},
	{"vision_sft", "vision", model.MethodSFT, func(t *testing.T) string {
		return modeltest.Shard(t, repeat(8, func(i int) schemas.VisionChatExample {
			return schemas.VisionChatExample{
				ID: strconv.Itoa(i), Task: schemas.TaskEvaluation, Images: []schemas.Image{picture(t, i), picture(t, i+1)},
				Messages: append(message("user", fmt.Sprintf("Score the two pictures %d", i)), message("assistant", "Image 1: 4. Image 2: 2.")...),
			}
		})...)
	}},
	{"vision_dpo", "vision", model.MethodDPO, func(t *testing.T) string {
		return modeltest.Shard(t, repeat(8, func(i int) schemas.VisionPreferencePair {
			return schemas.VisionPreferencePair{
				ID: strconv.Itoa(i), Kind: schemas.KindJudgment, PromptID: "p", Prompt: message("user", fmt.Sprintf("Score the two pictures %d", i)),
				Chosen: message("assistant", "Image 1: 4. Image 2: 2."), Rejected: message("assistant", "both"), Images: []schemas.Image{picture(t, i), picture(t, i+1)},
				ChosenScore: 2, RejectedScore: 1, Margin: 1,
			}
		})...)
	}},
}

var presets = []struct{ preset, bin, extra string }{
	{"trl", "trl/bin", "--use_cpu true --bf16 false --gradient_checkpointing false"},
	{"llamafactory", "lf/bin", "--bf16 false --cutoff_len 512 --template %s --preprocessing_num_workers 1"},
}

// TestReal trains on promptmill's own Parquet with the programs themselves, kills them by force after
// the first checkpoint, and lets them go on.
func TestReal(t *testing.T) {
	dir := realTrainers(t)
	for _, p := range presets {
		for _, c := range realCases {
			t.Run(p.preset+"/"+c.name, func(t *testing.T) {
				extra := strings.ReplaceAll(p.extra, "%s", map[string]string{"text": "default", "vision": "llava"}[c.start])
				m, err := model.OpenTrainer(t.Context(), model.Spec{Backend: "command", Model: p.preset, Options: map[string]string{
					"bin": filepath.Join(dir, p.bin), "extra": extra, "micro_batch": "2",
				}})
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("%+v", m.Info())
				j := job(c.name, filepath.Join(dir, "tiny", c.start), c.data(t), filepath.Join(t.TempDir(), "out"))
				j.Method, j.Params.Epochs = c.method, 3
				start := time.Now()
				handle, err := m.Start(t.Context(), j)
				if err != nil {
					t.Fatal(err)
				}
				s := crashAfterCheckpoint(t, m, handle)
				t.Logf("%v: %+v", time.Since(start).Round(time.Second), s)
				if s.State != model.TrainSucceeded || s.Step != 6 || s.Steps != 6 || s.Metrics["loss"] == 0 || s.Weights == "" {
					t.Errorf("ended as %+v", s)
				}
				if c.method == model.MethodDPO && !hasAll(s.Metrics, "margin", "accuracy") {
					t.Errorf("metrics %v lack margin or accuracy", s.Metrics)
				}
			})
		}
	}
}

// TestRealSets trains two steps, in TRL, on each set that the pipelines of the demo commit, from the committed files as they lie.
// The tiny tokenizer makes more than TRL's 1,024 tokens of a judge's question.
func TestRealSets(t *testing.T) {
	dir := realTrainers(t)
	for _, c := range []struct{ set, config, start, method string }{
		{"sft", "rewrite", "text", model.MethodSFT},
		{"sft", "vision", "vision", model.MethodSFT},
		{"evaluation", "evaluation", "vision", model.MethodSFT},
		{"judgment", "judgment", "vision", model.MethodSFT},
		{"preference", "rewrite", "text", model.MethodDPO},
		{"preference", "judgment", "vision", model.MethodDPO},
	} {
		t.Run(c.set+"/"+c.config, func(t *testing.T) {
			shards, err := filepath.Glob(filepath.Join(dir, "sets", c.set, "runs/*", c.config, "train-*.parquet"))
			if err != nil || len(shards) == 0 {
				t.Fatalf("no shards, %v", err)
			}
			m, err := model.OpenTrainer(t.Context(), model.Spec{Backend: "command", Model: presets[0].preset, Options: map[string]string{
				"bin": filepath.Join(dir, presets[0].bin), "extra": presets[0].extra + " --max_steps 2 --max_length 4096", "micro_batch": "4",
			}})
			if err != nil {
				t.Fatal(err)
			}
			j := job("set", filepath.Join(dir, "tiny", c.start), shards[0], filepath.Join(t.TempDir(), "out"))
			j.Method, j.Data, j.Params.BatchSize = c.method, shards, 32
			handle, err := m.Start(t.Context(), j)
			if err != nil {
				t.Fatal(err)
			}
			s := modeltest.TrainEnd(t, m, handle, 5*time.Minute)
			t.Logf("%+v", s)
			if s.State != model.TrainSucceeded || s.Step == 0 || s.Step != s.Steps || s.Metrics["loss"] == 0 || s.Weights == "" {
				t.Errorf("ended as %+v", s)
			}
		})
	}
}

func hasAll(m map[string]float64, names ...string) bool {
	for _, n := range names {
		if _, ok := m[n]; !ok {
			return false
		}
	}
	return true
}

func crashAfterCheckpoint(t *testing.T, m model.Trainer, handle string) model.TrainStatus {
	t.Helper()
	for range 6000 {
		s, err := m.Status(t.Context(), handle)
		if err != nil {
			t.Fatal(err)
		}
		if s.State != model.TrainQueued && s.State != model.TrainRunning {
			t.Error("it ended before it could be killed")
			return s
		}
		if found, _ := filepath.Glob(filepath.Join(handle, "model/checkpoint-*/trainer_state.json")); len(found) > 0 {
			kill(t, handle)
			return modeltest.TrainEnd(t, m, handle, 5*time.Minute)
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("the job does not end")
	return model.TrainStatus{}
}
