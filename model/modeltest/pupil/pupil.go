// Package pupil is a policy, a judge and a trainer for tests of training loops: the rewriter and judge of
// package scene behind weights that a trainer of a few milliseconds changes. It registers the backend
// "pupil".
//
// A checkpoint is a folder with the file weights. The chat model is one, or "start" for the weights that
// nobody trained: what it writes depends on its weights, what it judges does not. A training's weights are a
// hash of the job's start, data, method and hyperparameters, so equal jobs give equal weights.
//
// The trainer keeps, in the folder of the output,
//
//	job.json  the job; the first one stands
//	starts    a line for each Start
//	steps     a line for each step: a Status takes one
//	model     the checkpoint
//
// so that a test can see what was done twice. Its options are case, one of modeltest's TrainCase by which a job
// ends, and pause, the time that a step takes.
package pupil

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/modeltest"
	_ "github.com/promptmill/promptmill/model/scene" // answers
)

// Start is the model that nobody trained.
const Start = "start"

// Steps is how many a training has.
const Steps = 4

func init() {
	model.Register("pupil", model.Backend{Chat: openChat, Trainer: openTrainer})
}

// weightsOf is the identity of a checkpoint.
func weightsOf(name string) (string, error) {
	if name == Start {
		return "pupil-start", nil
	}
	data, err := os.ReadFile(filepath.Join(name, "weights"))
	if err != nil {
		return "", fmt.Errorf("%w: pupil: no checkpoint: %w", model.ErrConfig, err)
	}
	return string(data), nil
}

type chat struct{ weights string }

func openChat(_ context.Context, spec model.Spec) (model.Chat, error) {
	weights, err := weightsOf(spec.Model)
	if err != nil {
		return nil, err
	}
	return chat{weights}, nil
}

func (c chat) Info() model.Info {
	return model.Info{Name: "pupil", Weights: c.weights, Deterministic: true}
}

// Chat answers as scene does; a rewriting is drawn with a seed that the weights change.
func (c chat) Chat(ctx context.Context, req model.ChatRequest) (model.ChatResponse, error) {
	pictures := false
	for _, m := range req.Messages {
		for _, p := range m.Parts {
			pictures = pictures || p.Picture != nil
		}
	}
	if !pictures {
		sum := sha256.Sum256([]byte(c.weights))
		req.Seed = (req.Seed ^ int64(binary.BigEndian.Uint32(sum[:])>>8)) % (1<<31 - 1<<11)
	}
	// Not when c is opened: backends are opened one at a time.
	scene, err := model.OpenChat(ctx, model.Spec{Backend: "scene"})
	if err != nil {
		return model.ChatResponse{}, err
	}
	return scene.Chat(ctx, req)
}

// LogProbs implements model.LogProber: a word has half a nat less in what was trained.
func (c chat) LogProbs(_ context.Context, _ []model.Message, answers []string) ([][]float64, error) {
	each := -2.0
	if c.weights == "pupil-start" {
		each = -2.5
	}
	out := make([][]float64, len(answers))
	for i, a := range answers {
		for range strings.Fields(a) {
			out[i] = append(out[i], each)
		}
	}
	return out, nil
}

type trainer struct {
	ends  modeltest.TrainCase
	pause time.Duration
}

func openTrainer(_ context.Context, spec model.Spec) (model.Trainer, error) {
	t := trainer{ends: modeltest.TrainCase(spec.Options["case"])}
	var err error
	if p := spec.Options["pause"]; p != "" {
		t.pause, err = time.ParseDuration(p)
	}
	return t, err
}

func (trainer) Info() model.Info {
	return model.Info{Name: "pupil trainer", Weights: "pupil-trainer-1", Deterministic: true}
}

// Start implements model.Trainer; the handle is the folder.
func (t trainer) Start(ctx context.Context, job model.TrainJob) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if len(job.Data) == 0 || job.ID == "" || job.Method != model.MethodSFT && job.Method != model.MethodDPO {
		return "", fmt.Errorf("%w: pupil: job %q has no data, id or method", model.ErrConfig, job.ID)
	}
	dir := filepath.FromSlash(job.Output)
	data, err := json.Marshal(job)
	if err == nil {
		err = os.MkdirAll(dir, 0o777)
	}
	if err == nil {
		err = once(filepath.Join(dir, "job.json"), data)
	}
	if err == nil {
		err = line(filepath.Join(dir, "starts"), job.ID)
	}
	return dir, err
}

// Status implements model.Trainer: it takes a step.
func (t trainer) Status(_ context.Context, handle string) (model.TrainStatus, error) {
	data, err := os.ReadFile(filepath.Join(handle, "job.json"))
	if err != nil {
		return model.TrainStatus{}, fmt.Errorf("pupil: no job: %w", err)
	}
	var job model.TrainJob
	if err := json.Unmarshal(data, &job); err != nil {
		return model.TrainStatus{}, err
	}
	if _, err := os.Stat(filepath.Join(handle, "cancel")); err == nil {
		return model.TrainStatus{State: model.TrainCancelled, Message: "cancelled"}, nil
	}
	steps := filepath.Join(handle, "steps")
	done, err := os.ReadFile(steps)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return model.TrainStatus{}, err
	}
	n := bytes.Count(done, []byte("\n"))
	s := model.TrainStatus{State: model.TrainRunning, Step: n, Steps: Steps, Metrics: map[string]float64{"loss": 1 / float64(n+1)}}
	if n < Steps {
		time.Sleep(t.pause)
		s.Step++
		return s, line(steps, fmt.Sprint(s.Step))
	}
	return t.end(job, handle, s)
}

func (t trainer) end(job model.TrainJob, dir string, s model.TrainStatus) (model.TrainStatus, error) {
	s.State = model.TrainSucceeded
	switch t.ends {
	case modeltest.TrainBadData:
		s.State, s.Message = model.TrainFailed, "row 3 is a poem"
	case modeltest.TrainDiverges:
		s.Metrics["loss"], s.Checkpoint, s.Weights = math.NaN(), dir, "pupil-nan"
	case modeltest.TrainNothing:
	default:
		sum := sha256.Sum256(fmt.Appendf(nil, "%s %s %s %+v", job.Weights, job.Digest, job.Method, job.Params))
		s.Checkpoint, s.Weights = filepath.Join(dir, "model"), "pupil-"+hex.EncodeToString(sum[:8])
		if err := os.MkdirAll(s.Checkpoint, 0o777); err != nil {
			return s, err
		}
		return s, once(filepath.Join(s.Checkpoint, "weights"), []byte(s.Weights))
	}
	return s, nil
}

// Cancel implements model.Trainer.
func (t trainer) Cancel(ctx context.Context, handle string) error {
	done, err := os.ReadFile(filepath.Join(handle, "steps"))
	if ctx.Err() != nil || err == nil && strings.Count(string(done), "\n") >= Steps {
		return ctx.Err()
	}
	return once(filepath.Join(handle, "cancel"), nil)
}

// once writes a file that is not there, whole.
func once(name string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".new-")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Link(f.Name(), name)
	}
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	return errors.Join(err, os.Remove(f.Name()))
}

// line adds a line to a file by one write.
func line(name, text string) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text + "\n")
	return errors.Join(err, f.Close())
}
