package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/trainers/jobfolder"
	"github.com/promptmill/promptmill/store"
)

// A job is the folder of one, as it lies on disk.
type job struct {
	*trainer
	jobfolder.Job
}

// Start implements model.Trainer. The handle is the folder of the output, which must be on this machine.
func (t *trainer) Start(ctx context.Context, tj model.TrainJob) (string, error) {
	dir, err := t.check(tj)
	if err != nil {
		return "", err
	}
	folder, err := jobfolder.Create(ctx, dir, tj)
	if err != nil {
		return "", err
	}
	j := &job{t, folder}
	if j.ID != tj.ID {
		return "", fmt.Errorf("%w: train: job %s: its output folder %s is that of job %s; give every job its own", model.ErrConfig, tj.ID, dir, j.ID)
	}
	if _, err := j.advance(ctx); err != nil {
		return "", err
	}
	return dir, nil
}

// check reports all that can be known of a job to be wrong before it starts.
func (t *trainer) check(tj model.TrainJob) (dir string, err error) {
	fault := func(format string, args ...any) error {
		return fmt.Errorf("%w: train: job %s: %s", model.ErrConfig, tj.ID, fmt.Sprintf(format, args...))
	}
	var errs []error
	if tj.ID == "" {
		errs = append(errs, fault("it has no ID"))
	}
	if len(t.lines[tj.Method]) == 0 {
		errs = append(errs, fault("there is no command line for method %q; set that option", tj.Method))
	}
	if len(tj.Data) == 0 {
		errs = append(errs, fault("it has no data; an empty snapshot cannot be trained on"))
	}
	dir = jobfolder.Local(tj.Output)
	if dir == "" || strings.Contains(dir, "://") {
		errs = append(errs, fault("output %q is not a folder on this machine, where the program could write", tj.Output))
	}
	if start := jobfolder.Local(tj.Start); filepath.IsAbs(start) {
		if _, err := os.Stat(start); err != nil {
			errs = append(errs, fault("the checkpoint to start from: %v", err))
		}
	}
	if _, err := t.values(tj); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return "", err
	}
	return filepath.Abs(dir)
}

func (t *trainer) load(ctx context.Context, dir string) (*job, error) {
	folder, err := jobfolder.Load(ctx, dir)
	return &job{t, folder}, err
}

// Status implements model.Trainer. It also drives the job: one that was killed is started again.
func (t *trainer) Status(ctx context.Context, handle string) (model.TrainStatus, error) {
	j, err := t.load(ctx, handle)
	if err != nil {
		return model.TrainStatus{}, err
	}
	return j.advance(ctx)
}

// advance looks at the job and does what is to be done next: nothing while it runs, then its end.
func (j *job) advance(ctx context.Context) (model.TrainStatus, error) {
	// Before the lock: something that the program left behind may hold that for ever.
	if status, done, err := j.settle(ctx); done || err != nil {
		return status, err
	}
	lock, err := j.Lock()
	switch {
	case errors.Is(err, jobfolder.ErrLocked):
		return j.running(ctx)
	case err != nil:
		return model.TrainStatus{}, err
	}
	defer lock.Close() // a program that was started keeps it
	if status, done, err := j.settle(ctx); done || err != nil {
		return status, err
	}
	attempts, err := j.attempts()
	switch {
	case err != nil:
		return model.TrainStatus{}, err
	case j.CancelAsked():
		return j.End(ctx, model.TrainStatus{State: model.TrainCancelled, Message: "cancelled"})
	case len(attempts) > j.restarts:
		return j.End(ctx, j.failed(fmt.Sprintf("the program was killed %d times without an exit code", len(attempts))))
	}
	if err := j.launch(ctx, lock, len(attempts)); err != nil {
		return model.TrainStatus{}, fmt.Errorf("train: job %s: %w", j.ID, err)
	}
	return model.TrainStatus{State: model.TrainRunning, Message: "started"}, nil
}

// settle ends a job whose program has ended.
func (j *job) settle(ctx context.Context) (status model.TrainStatus, done bool, err error) {
	if status, ended, err := j.Ended(ctx); ended || err != nil {
		return status, ended, err
	}
	code, exited, err := j.exitCode()
	switch {
	case err != nil || !exited:
		return status, false, err
	case j.CancelAsked():
		status, err = j.End(ctx, model.TrainStatus{State: model.TrainCancelled, Message: "cancelled"})
	default:
		status, err = j.conclude(ctx, code)
	}
	return status, true, err
}

const lossLost = "the loss is not a number (NaN or infinite); lower the learning rate, or train with bf16 rather than fp16"

// running is the status of a job whose lock is held. A loss that is no number ends it.
func (j *job) running(ctx context.Context) (model.TrainStatus, error) {
	p, err := readProgress(j.Path("log"))
	if err != nil {
		return model.TrainStatus{}, err
	}
	if p.lost {
		if err := j.stop(ctx); err != nil {
			return model.TrainStatus{}, err
		}
		return j.End(ctx, j.failed(lossLost))
	}
	status := p.status(model.TrainRunning)
	if attempts, err := j.attempts(); err != nil || len(attempts) == 0 {
		status.State = model.TrainQueued // someone is laying out its data
		return status, err
	}
	return status, nil
}

// conclude ends a job whose program has ended by itself.
func (j *job) conclude(ctx context.Context, code int) (model.TrainStatus, error) {
	p, err := readProgress(j.Path("log"))
	if err != nil {
		return model.TrainStatus{}, err
	}
	if code != 0 && !p.lost {
		why := fmt.Sprintf("the program ended with exit code %d", code)
		if code > 128 {
			why += fmt.Sprintf(" (signal %d; 9 is often the system out of memory)", code-128)
		}
		return j.End(ctx, j.failed(why))
	}
	dir, err := newestWeights(j.Path("model"))
	if err != nil {
		return model.TrainStatus{}, err
	}
	if dir == "" && !p.lost {
		return j.End(ctx, j.failed("the program ended with exit code 0 but wrote no checkpoint to "+j.Path("model")+"; its command line should name {output}"))
	}
	if err := p.addTrainerState(j.Path("model"), j.complete); err != nil {
		return model.TrainStatus{}, err
	}
	if p.lost {
		return j.End(ctx, j.failed(lossLost))
	}
	weights, err := digestWeights(ctx, dir, j.Weights)
	if errors.Is(err, errNotNumbers) || errors.Is(err, store.ErrDamaged) {
		return j.End(ctx, j.failed(err.Error()))
	}
	if err != nil {
		return model.TrainStatus{}, err
	}
	status := p.status(model.TrainSucceeded)
	status.Checkpoint, status.Weights = dir, weights
	return j.End(ctx, status)
}

// failed says why, with the last lines of the log.
func (j *job) failed(why string) model.TrainStatus {
	status := model.TrainStatus{State: model.TrainFailed, Message: fmt.Sprintf("job %s: %s", j.ID, why)}
	if tail, err := readTail(j.Path("log")); err == nil {
		if p := parseProgress(tail); p.steps > 0 {
			status.Step, status.Steps, status.Metrics = p.step, p.steps, p.finite()
		}
		if last := lastLines(tail, 12); last != "" {
			status.Message += "; the log (" + j.Path("log") + ") ends with:\n" + redact(last)
		}
	}
	return status
}

// Cancel implements model.Trainer: it asks the program to end and, after the grace time, makes it.
func (t *trainer) Cancel(ctx context.Context, handle string) error {
	j, err := t.load(ctx, handle)
	if err != nil {
		return err
	}
	if _, done, err := j.settle(ctx); done || err != nil {
		return err
	}
	if err := j.AskCancel(ctx); err != nil {
		return err
	}
	if err := j.stop(ctx); err != nil {
		return err
	}
	_, err = j.advance(ctx)
	return err
}
