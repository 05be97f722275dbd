package tune_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/modeltest"
	"github.com/promptmill/promptmill/model/vlm/vlmtest"
	"github.com/promptmill/promptmill/schemas"
)

// TestFaults: what ends a job as failed, with a reason and without a result.
func TestFaults(t *testing.T) {
	start := folder(t, nil)
	good := modeltest.Shard(t, pairs(4)...)
	long := pairs(4)
	long[2].Chosen[0].Content = strings.Repeat("very ", 40)
	empty := pairs(4)
	empty[1].Rejected[0].Content = " "
	torn := seen(t, 2)
	torn[1].Images[0].Bytes = torn[1].Images[0].Bytes[:40]
	extra := seen(t, 1)
	extra[0].Messages[1].Content = "<image>one"
	wrong := vlmtest.Tokenizer()
	wrong["added_tokens"] = append(wrong["added_tokens"].([]map[string]any), map[string]any{"id": 263, "content": "<more>", "special": true})
	infinite := embedding()
	infinite.Graph.Initializers[0].Raw = slices.Repeat([]byte{0, 0, 0xc0, 0x7f}, vocabulary*width)
	for name, c := range map[string]struct {
		start, data, method string
		want                string
		change              func(*model.TrainJob)
	}{
		"stale weights":   {start, good, model.MethodDPO, "stale weights", func(j *model.TrainJob) { j.Weights = "others" }},
		"wrong tokenizer": {folder(t, vlmtest.Files{"tokenizer.json": wrong}), good, model.MethodDPO, "wrong tokenizer", nil},
		"no rows":         {start, modeltest.Shard[schemas.PreferencePair](t), model.MethodDPO, "no rows", nil},
		"other rows":      {start, good, model.MethodSFT, "not a row for sft", nil},
		"too long":        {start, modeltest.Shard(t, long...), model.MethodDPO, "row 2 (2): prompt and answer have 233 tokens", nil},
		"empty answer":    {start, modeltest.Shard(t, empty...), model.MethodDPO, "row 1 (1)", nil},
		"bad picture":     {start, modeltest.Shard(t, torn...), model.MethodSFT, "row 1 (1)", nil},
		"places":          {start, modeltest.Shard(t, extra...), model.MethodSFT, "1 of <image> for 2 pictures", nil},
		"no Parquet":      {start, filepath.Join(start, "config.json"), model.MethodSFT, "not a Parquet file", nil},
		"NaN start":       {folder(t, vlmtest.Files{"onnx/embed_tokens.onnx": infinite.Marshal()}), good, model.MethodDPO, "not numbers", nil},
		"diverges":        {start, good, model.MethodDPO, "lower the learning rate", func(j *model.TrainJob) { j.Params.LearningRate = 1e30 }},
	} {
		t.Run(name, func(t *testing.T) {
			job := jobOf(t, "fails", c.method, c.start, c.data)
			if c.change != nil {
				c.change(&job)
			}
			s, handle := train(t, job)
			if s.State != model.TrainFailed || !strings.Contains(s.Message, c.want) || s.Checkpoint+s.Weights != "" {
				t.Errorf("%+v; want a failure that says %q", s, c.want)
			}
			if _, err := os.Stat(filepath.Join(handle, "model")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("there is a result: %v", err)
			}
		})
	}
}

// A fault of the world is told and the job stays: the next status tries again.
func TestWorld(t *testing.T) {
	start, data := folder(t, nil), filepath.Join(t.TempDir(), "later.parquet")
	m := openTrainer(t)
	handle, err := m.Start(t.Context(), jobOf(t, "world", model.MethodDPO, start, data))
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		if _, err = m.Status(t.Context(), handle); err != nil {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if !errors.Is(err, fs.ErrNotExist) && (err == nil || !strings.Contains(err.Error(), "later.parquet")) {
		t.Fatalf("%v; want that the data are not there", err)
	}
	content, err := os.ReadFile(modeltest.Shard(t, pairs(4)...))
	if err == nil {
		err = os.WriteFile(data, content, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	for range 2000 {
		s, err := m.Status(t.Context(), handle)
		switch {
		case err == nil && s.State == model.TrainSucceeded:
			return
		case err == nil && s.State == model.TrainFailed:
			t.Fatalf("%+v", s)
		}
		time.Sleep(5 * time.Millisecond) // an error is that of an attempt before the data were there
	}
	t.Fatal("the job does not end")
}

func TestStartRefuses(t *testing.T) {
	start := folder(t, nil)
	good := jobOf(t, "j", model.MethodDPO, start, "x.parquet")
	for want, change := range map[string]func(*model.TrainJob){
		"id":                     func(j *model.TrainJob) { j.ID = "../j" },
		"method":                 func(j *model.TrainJob) { j.Method = "ppo" },
		"data":                   func(j *model.TrainJob) { j.Data = nil },
		"start":                  func(j *model.TrainJob) { j.Start = "gs://bucket/m" },
		"output":                 func(j *model.TrainJob) { j.Output = "" },
		"weights":                func(j *model.TrainJob) { j.Weights = "" },
		"params.epochs":          func(j *model.TrainJob) { j.Params.Epochs = 0 },
		"params.batch_size":      func(j *model.TrainJob) { j.Params.BatchSize = 0 },
		"params.learning_rate":   func(j *model.TrainJob) { j.Params.LearningRate = 0 },
		"params.warmup_fraction": func(j *model.TrainJob) { j.Params.WarmupFraction = 2 },
		"params.beta1":           func(j *model.TrainJob) { j.Params.Beta1 = 1 },
		"params.beta2":           func(j *model.TrainJob) { j.Params.Beta2 = -1 },
		"params.weight_decay":    func(j *model.TrainJob) { j.Params.WeightDecay = -1 },
		"params.dpo_beta":        func(j *model.TrainJob) { j.Params.DPOBeta = 0 },
		"params.nll_alpha":       func(j *model.TrainJob) { j.Params.NLLAlpha = -1 },
	} {
		job := good
		change(&job)
		if _, err := openTrainer(t).Start(t.Context(), job); !errors.Is(err, model.ErrConfig) || !strings.Contains(err.Error(), want+":") {
			t.Errorf("%s: %v", want, err)
		}
	}
	for _, s := range []model.Spec{
		{Backend: "embedded", Model: "x"},
		{Backend: "embedded", Options: map[string]string{"threads": "0"}},
		{Backend: "embedded", Options: map[string]string{"colour": "red"}},
		{Backend: "embedded", Options: map[string]string{"freeze": "("}},
		{Backend: "embedded", Options: map[string]string{"clip_norm": "-1"}},
	} {
		if _, err := model.OpenTrainer(t.Context(), s); !errors.Is(err, model.ErrConfig) {
			t.Errorf("%+v: %v", s, err)
		}
	}
}
