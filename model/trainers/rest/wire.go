package rest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/guard"
)

// The wire format is that of OpenAI's API reference, "Fine-tuning", as of 2025.

type hyperparameters struct {
	Beta       float64 `json:"beta,omitempty"`
	BatchSize  int     `json:"batch_size"`
	Multiplier float64 `json:"learning_rate_multiplier,omitempty"`
	Epochs     int     `json:"n_epochs"`
}

type wireHyper struct {
	Hyperparameters hyperparameters `json:"hyperparameters"`
}

type wireMethod struct {
	Type       string     `json:"type"`
	DPO        *wireHyper `json:"dpo,omitempty"`
	Supervised *wireHyper `json:"supervised,omitempty"`
}

type wireRequest struct {
	Model        string     `json:"model"`
	TrainingFile string     `json:"training_file"`
	Method       wireMethod `json:"method"`
	Suffix       string     `json:"suffix,omitempty"`
	Seed         int64      `json:"seed"`
}

type wireJob struct {
	ID           string `json:"id"`
	CreatedAt    int64  `json:"created_at"`
	Status       string `json:"status"`
	TrainingFile string `json:"training_file"`
	Model        string `json:"fine_tuned_model"`
	Error        struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Param   string `json:"param"`
	} `json:"error"`
}

type wireEvents struct {
	Data []struct {
		CreatedAt int64          `json:"created_at"`
		Message   string         `json:"message"`
		Data      map[string]any `json:"data"`
	} `json:"data"`
}

// states are OpenAI's words and those of Azure and Together for the same.
var states = map[string]model.TrainState{
	"validating_files": model.TrainQueued, "queued": model.TrainQueued, "pending": model.TrainQueued, "created": model.TrainQueued, "notrunning": model.TrainQueued,
	"running": model.TrainRunning, "paused": model.TrainRunning, "pausing": model.TrainRunning, "resuming": model.TrainRunning, "compressing": model.TrainRunning, "uploading": model.TrainRunning,
	"succeeded": model.TrainSucceeded, "completed": model.TrainSucceeded,
	"failed": model.TrainFailed, "error": model.TrainFailed, "user_error": model.TrainFailed, "deleted": model.TrainFailed,
	"cancelled": model.TrainCancelled, "canceled": model.TrainCancelled, "cancel_requested": model.TrainRunning,
}

func (j wireJob) state() (model.TrainState, bool) {
	s, known := states[strings.ToLower(j.Status)]
	return s, known
}

func (j wireJob) ended() bool {
	s, _ := j.state()
	return s == model.TrainSucceeded || s == model.TrainFailed || s == model.TrainCancelled
}

// identifier is what may stand in a path.
var identifier = regexp.MustCompile(`^[\w.:-]{1,200}$`)

// decode reads an answer; id, unless nil, must give an identifier then.
func decode(answer []byte, v any, id func() string) error {
	if err := json.Unmarshal(answer, v); err != nil {
		return fmt.Errorf("not an answer of a fine-tuning endpoint: %w: %s", err, guard.Explain(answer))
	}
	if id != nil && !identifier.MatchString(id()) {
		return fmt.Errorf("no usable id in the answer: %s", guard.Explain(answer))
	}
	return nil
}

func (t *trainer) job(ctx context.Context, handle string) (wireJob, error) {
	if !identifier.MatchString(handle) {
		return wireJob{}, fmt.Errorf("%w: %q is not the handle of a fine-tuning job", model.ErrConfig, handle)
	}
	var j wireJob
	_, err := t.client.Get(ctx, t.prefix+"/fine_tuning/jobs/"+handle, func(b []byte) error {
		j = wireJob{}
		return decode(b, &j, func() string { return j.ID })
	})
	if err != nil {
		return wireJob{}, fmt.Errorf("train: fine-tuning job %s: %w", handle, err)
	}
	return j, nil
}

// Status implements model.Trainer. Weights is what the openai backend calls the new model under the same
// revision.
func (t *trainer) Status(ctx context.Context, handle string) (model.TrainStatus, error) {
	j, err := t.job(ctx, handle)
	if err != nil {
		return model.TrainStatus{}, err
	}
	state, known := j.state()
	status := model.TrainStatus{State: state, Metrics: map[string]float64{}, Message: oneLine(j.Status)}
	if !known {
		status.State = model.TrainRunning // a word for something in between
	}
	if err := t.addEvents(ctx, handle, &status); err != nil {
		return model.TrainStatus{}, err
	}
	switch {
	case state == model.TrainSucceeded && j.Model == "":
		status.State, status.Message = model.TrainFailed, fmt.Sprintf("fine-tuning job %s ended well but names no model", handle)
	case state == model.TrainSucceeded:
		status.Checkpoint, status.Weights = j.Model, j.Model+"@"+t.revision
	case state == model.TrainFailed:
		what := j.Error.Code
		if j.Error.Param != "" {
			what += " (" + j.Error.Param + ")"
		}
		status.Message = fmt.Sprintf("fine-tuning job %s: %s: %s; last event: %s", handle, oneLine(what), oneLine(j.Error.Message), status.Message)
	}
	return status, nil
}

// stepOf finds the steps in an event's message, where alone the total stands: "Step 3/40: training loss=0.52".
var stepOf = regexp.MustCompile(`[Ss]tep (\d{1,9})/(\d{1,9})`)

// addEvents adds the newest numbers and words of the job's events, if the endpoint has them.
func (t *trainer) addEvents(ctx context.Context, handle string, status *model.TrainStatus) error {
	var events wireEvents
	_, err := t.client.Get(ctx, t.prefix+"/fine_tuning/jobs/"+handle+"/events?limit=20", func(b []byte) error {
		events = wireEvents{}
		return decode(b, &events, nil)
	})
	if s, ok := errors.AsType[*guard.StatusError](err); ok && s.Code == 404 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("train: events of fine-tuning job %s: %w", handle, err)
	}
	for i, e := range events.Data { // newest first
		if i == 0 && e.Message != "" {
			status.Message = oneLine(e.Message)
		}
		if m := stepOf.FindStringSubmatch(e.Message); m != nil && status.Steps == 0 {
			status.Step, _ = strconv.Atoi(m[1])
			status.Steps, _ = strconv.Atoi(m[2])
		}
		for name, v := range e.Data {
			number, ok := v.(float64)
			if name = metric(name); !ok || name == "" {
				continue
			}
			if _, newer := status.Metrics[name]; !newer {
				status.Metrics[name] = number
			}
		}
	}
	return nil
}

// metric is the contract's name of an endpoint's metric; "" for what is none.
func metric(name string) string {
	switch {
	case name == "step" || name == "total_steps":
		return ""
	case name == "train_loss" || name == "training_loss":
		return "loss"
	case strings.HasSuffix(name, "margin") || strings.HasSuffix(name, "margins"):
		return "margin"
	case strings.HasPrefix(name, "train_") && strings.Contains(name, "accurac"):
		return "accuracy"
	}
	return name
}

// Cancel implements model.Trainer.
func (t *trainer) Cancel(ctx context.Context, handle string) error {
	j, err := t.job(ctx, handle)
	if err != nil || j.ended() {
		return err
	}
	_, err = t.client.Post(ctx, t.prefix+"/fine_tuning/jobs/"+handle+"/cancel", []byte("{}"), nil)
	if err == nil {
		return nil
	}
	// It may have ended meanwhile, by an earlier try of ours or by itself.
	if j, now := t.job(ctx, handle); now == nil && j.ended() {
		return nil
	}
	return fmt.Errorf("train: cancel fine-tuning job %s: %w", handle, err)
}

// oneLine makes a stranger's text fit for a line of a log.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "?")), " ")
	return s[:min(len(s), 500)]
}
