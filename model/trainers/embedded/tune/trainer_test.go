package tune_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/modeltest"
	_ "github.com/promptmill/promptmill/model/trainers/embedded/tune"
	"github.com/promptmill/promptmill/model/vlm"
	"github.com/promptmill/promptmill/schemas"
)

// elsewhere is the variable that makes the test program a process that trains a job.
const elsewhere = "PROMPTMILL_TEST_JOB"

func TestMain(m *testing.M) {
	if job := os.Getenv(elsewhere); job != "" {
		if err := trainElsewhere(job); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func trainElsewhere(text string) error {
	var job model.TrainJob
	if err := json.Unmarshal([]byte(text), &job); err != nil {
		return err
	}
	ctx := context.Background()
	m, err := model.OpenTrainer(ctx, spec(0))
	if err != nil {
		return err
	}
	handle, err := m.Start(ctx, job)
	fmt.Println(handle)
	for err == nil {
		var s model.TrainStatus
		if s, err = m.Status(ctx, handle); s.State != model.TrainRunning && s.State != model.TrainQueued {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return err
}

// startElsewhere starts a job in a process of its own.
func startElsewhere(t *testing.T, job model.TrainJob) (*exec.Cmd, string) {
	t.Helper()
	text, err := json.Marshal(job)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), elsewhere+"="+string(text))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	handle, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return cmd, strings.TrimSpace(handle)
}

// spec is one of a trainer; another number gives another trainer in the process.
func spec(n int) model.Spec {
	return model.Spec{Backend: "embedded", Options: map[string]string{"checkpoint": fmt.Sprintf("20ms%dns", n), "micro_batch": "4"}}
}

var opened int

func openTrainer(t *testing.T) model.Trainer {
	t.Helper()
	opened++
	m, err := model.OpenTrainer(t.Context(), spec(opened))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func say(role, text string) schemas.Message { return schemas.Message{Role: role, Content: text} }

// pairs prefer an answer with "soft light".
func pairs(n int) []schemas.PreferencePair {
	out := make([]schemas.PreferencePair, n)
	for i := range out {
		subject := []string{"a cat", "a red house", "two dogs", "the old harbour"}[i%4] + strings.Repeat(" at night", i%3)
		out[i] = schemas.PreferencePair{
			ID: fmt.Sprint(i), Kind: schemas.KindRewrite, PromptID: "p", Prompt: []schemas.Message{say("user", subject)},
			Chosen: []schemas.Message{say("assistant", "soft light")}, Rejected: []schemas.Message{say("assistant", "8k, trending")},
			ChosenScore: 2, RejectedScore: 1, Margin: 1,
		}
	}
	return out
}

func picture(t *testing.T, shade uint8) schemas.Image {
	t.Helper()
	b, err := modeltest.Picture(t, 12, 10, shade).Bytes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return schemas.Image{Bytes: b}
}

// seen are conversations about two pictures, some with their places in the text.
func seen(t *testing.T, n int) []schemas.VisionChatExample {
	t.Helper()
	out := make([]schemas.VisionChatExample, n)
	for i := range out {
		text := "which?"
		if i%2 == 0 {
			text = "Image 1:<image>Image 2:<image>which?"
		}
		out[i] = schemas.VisionChatExample{
			ID: fmt.Sprint(i), Task: schemas.TaskEvaluation, Messages: []schemas.Message{say("system", "judge"), say("user", text), say("assistant", fmt.Sprintf("image %d", i%2+1))},
			Images: []schemas.Image{picture(t, uint8(100*(i%2))), picture(t, uint8(200-100*(i%2)))},
		}
	}
	return out
}

func jobOf(t *testing.T, id, method, start string, data ...string) model.TrainJob {
	t.Helper()
	weights, err := vlm.Digest(start, "")
	if err != nil {
		t.Fatal(err)
	}
	return model.TrainJob{
		ID: id, Method: method, Data: data, Digest: "d", Start: start, Weights: weights, Output: t.TempDir(),
		Params: model.TrainParams{Epochs: 3, BatchSize: 4, LearningRate: 3e-3, WarmupFraction: .1, Beta1: .9, Beta2: .95, WeightDecay: .1, DPOBeta: .1, Seed: 5},
	}
}

func train(t *testing.T, job model.TrainJob) (model.TrainStatus, string) {
	t.Helper()
	m := openTrainer(t)
	handle, err := m.Start(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	return modeltest.TrainEnd(t, m, handle, time.Minute), handle
}

func attempts(t *testing.T, handle string) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(handle, "attempts"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return strings.FieldsFunc(string(b), func(r rune) bool { return r == '\n' })
}

// A crashing trainer trains the job called crash in another process, so that it can be killed.
type crashing struct {
	model.Trainer
	t   *testing.T
	cmd **exec.Cmd
}

func (c crashing) Start(ctx context.Context, job model.TrainJob) (handle string, err error) {
	if job.ID != "crash" || *c.cmd != nil {
		return c.Trainer.Start(ctx, job)
	}
	*c.cmd, handle = startElsewhere(c.t, job)
	return handle, nil
}

func TestTrainer(t *testing.T) {
	start := folder(t, nil)
	data := modeltest.Shard(t, pairs(10)...)
	bad := pairs(10)
	bad[7].Rejected = bad[7].Chosen
	badData := modeltest.Shard(t, bad...)
	modeltest.RunTrainer(t, func(t *testing.T) modeltest.TrainerBench {
		root := t.TempDir()
		var other *exec.Cmd
		return modeltest.TrainerBench{
			Open: func(t *testing.T) model.Trainer { return crashing{openTrainer(t), t, &other} },
			Job: func(t *testing.T, id string, c modeltest.TrainCase) model.TrainJob {
				job := jobOf(t, id, model.MethodDPO, start, data)
				job.Output = root
				switch c {
				case modeltest.TrainSlow:
					job.Params.Epochs = 50
				case modeltest.TrainBadData:
					job.Data = []string{badData}
				case modeltest.TrainDiverges:
					job.Params.LearningRate = 1e30
				}
				return job
			},
			Lacks: []modeltest.TrainCase{modeltest.TrainNothing}, // a training that ends well has its result
			Begun: func(t *testing.T, id string) int { return len(attempts(t, filepath.Join(root, id))) },
			Crash: func(t *testing.T, _ string) {
				if err := other.Process.Signal(syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
				_ = other.Wait() // it was killed
			},
			Deterministic: true,
		}
	})
}

// TestLearns: a preference is learned, pictures are told apart, and what comes out answers so in model/vlm.
func TestLearns(t *testing.T) {
	start := folder(t, nil)
	dpo := jobOf(t, "dpo", model.MethodDPO, start, modeltest.Shard(t, pairs(16)...))
	dpo.Params.NLLAlpha = .1
	s, handle := train(t, dpo)
	if s.State != model.TrainSucceeded || s.Metrics["accuracy"] != 1 || s.Metrics["loss"] > .9 || s.Metrics["kl"] == 0 {
		t.Errorf("%+v", s)
	}
	if digest, err := vlm.Digest(s.Checkpoint, ""); err != nil || digest != s.Weights || filepath.Dir(s.Checkpoint) != handle {
		t.Errorf("checkpoint %s: %s, %v; want the weights %s", s.Checkpoint, digest, err, s.Weights)
	}
	probability := func(dir, answer string) float64 {
		m, err := vlm.Open(t.Context(), dir, vlm.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		logp, err := m.LogProbs(t.Context(), []model.Message{model.Text("user", "a red house")}, []string{answer})
		if err != nil {
			t.Fatal(err)
		}
		sum := 0.0
		for _, l := range logp[0] {
			sum += l
		}
		return sum
	}
	before := probability(start, "soft light") - probability(start, "8k, trending")
	after := probability(s.Checkpoint, "soft light") - probability(s.Checkpoint, "8k, trending")
	if after < before+5 {
		t.Errorf("the chosen answer was ahead by %.3g, now by %.3g", before, after)
	}

	// Text and pictures in one job.
	texts := []schemas.ChatExample{{ID: "t", Task: schemas.TaskRewrite, Messages: []schemas.Message{say("user", "a cat"), say("assistant", "fluffy")}}}
	sft := jobOf(t, "sft", model.MethodSFT, start, modeltest.Shard(t, seen(t, 8)...), modeltest.Shard(t, texts...))
	sft.Params.Epochs, sft.Params.LearningRate = 60, 1e-2
	s, handle = train(t, sft)
	if s.State != model.TrainSucceeded || s.Metrics["loss"] > .1 || s.Step != 3*60 {
		t.Fatalf("%+v", s)
	}
	log, err := os.ReadFile(filepath.Join(handle, "log.jsonl"))
	if err != nil || strings.Count(string(log), "\n") != s.Steps {
		t.Errorf("the log has %d lines for %d steps: %v", strings.Count(string(log), "\n"), s.Steps, err)
	}
	m, err := vlm.Open(t.Context(), s.Checkpoint, vlm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for i := range 2 {
		first, second := modeltest.PictureOf(picture(t, uint8(100*i)).Bytes), modeltest.PictureOf(picture(t, uint8(200-100*i)).Bytes)
		parts := []model.Part{{Picture: &first}, {Picture: &second}, {Text: "which?"}}
		if i == 0 {
			parts = []model.Part{{Text: "Image 1:"}, {Picture: &first}, {Text: "Image 2:"}, {Picture: &second}, {Text: "which?"}}
		}
		r, err := m.Chat(t.Context(), model.ChatRequest{Messages: []model.Message{model.Text("system", "judge"), {Role: "user", Parts: parts}}, N: 1})
		if want := fmt.Sprintf("image %d", i+1); err != nil || r.Answers[0].Text != want || r.Answers[0].Finish != model.FinishStop {
			t.Errorf("asked about pictures %d it answers %+v, %v; want %q", i, r.Answers, err, want)
		}
	}
}

// TestResume kills a process in the middle and compares weights and log with those of a job that was left alone.
func TestResume(t *testing.T) {
	start, data := folder(t, nil), modeltest.Shard(t, pairs(10)...)
	job := jobOf(t, "killed", model.MethodDPO, start, data)
	job.Params.Epochs = 40
	cmd, handle := startElsewhere(t, job)
	watcher := openTrainer(t)
	for range 3000 {
		s, err := watcher.Status(t.Context(), handle)
		if err != nil {
			t.Fatal(err)
		}
		if s.Step >= 20 {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	got := modeltest.TrainEnd(t, watcher, handle, time.Minute)
	if n := len(attempts(t, handle)); n != 2 {
		t.Errorf("begun %d times", n)
	}
	undisturbed := job
	undisturbed.Output = t.TempDir()
	want, other := train(t, undisturbed)
	if got.State != model.TrainSucceeded || got.Weights != want.Weights {
		t.Errorf("%+v\nundisturbed: %+v", got, want)
	}
	a, _ := os.ReadFile(filepath.Join(handle, "log.jsonl"))
	b, _ := os.ReadFile(filepath.Join(other, "log.jsonl"))
	if len(a) == 0 || !slices.Equal(a, b) {
		t.Error("the logs differ")
	}
	if _, err := os.Stat(filepath.Join(handle, "checkpoint")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the checkpoint is left: %v", err)
	}
}
