package tune

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/trainers/jobfolder"
)

// A job is the folder of one, as it lies on disk.
type job struct {
	*trainer
	jobfolder.Job
}

// Start implements model.Trainer. The handle is the job's folder, Output/ID. The training goes on in the background of this process,
// whatever becomes of ctx.
func (t *trainer) Start(ctx context.Context, tj model.TrainJob) (string, error) {
	dir, err := check(tj)
	if err != nil {
		return "", err
	}
	folder, err := jobfolder.Create(ctx, dir, tj)
	if err != nil {
		return "", err
	}
	j := &job{t, folder}
	if _, err := j.advance(ctx); err != nil {
		return "", err
	}
	return dir, nil
}

func (t *trainer) load(ctx context.Context, dir string) (*job, error) {
	folder, err := jobfolder.Load(ctx, dir)
	return &job{t, folder}, err
}

// Status implements model.Trainer. It also drives the job: one whose process is gone goes on in this one.
func (t *trainer) Status(ctx context.Context, handle string) (model.TrainStatus, error) {
	j, err := t.load(ctx, handle)
	if err != nil {
		return model.TrainStatus{}, err
	}
	return j.advance(ctx)
}

// Cancel implements model.Trainer. The process that trains notices at the end of its step.
func (t *trainer) Cancel(ctx context.Context, handle string) error {
	j, err := t.load(ctx, handle)
	if err != nil {
		return err
	}
	if _, ended, err := j.Ended(ctx); ended || err != nil {
		return err
	}
	if err := j.AskCancel(ctx); err != nil {
		return err
	}
	_, err = j.advance(ctx)
	return err
}

// faults are those of the world that ended a training in this process, by the job's folder, until somebody is told.
var faults sync.Map

// advance looks at the job and does what is to be done next: nothing while it is trained, else it begins.
func (j *job) advance(ctx context.Context) (model.TrainStatus, error) {
	if status, ended, err := j.Ended(ctx); ended || err != nil {
		return status, err
	}
	lock, err := j.Lock()
	switch {
	case errors.Is(err, jobfolder.ErrLocked):
		return j.running()
	case err != nil:
		return model.TrainStatus{}, err
	}
	keep := false
	defer func() {
		if !keep {
			_ = lock.Close()
		}
	}()
	if status, ended, err := j.Ended(ctx); ended || err != nil {
		return status, err
	}
	if j.CancelAsked() {
		return j.end(ctx, model.TrainStatus{State: model.TrainCancelled, Message: "cancelled"})
	}
	if err, ok := faults.LoadAndDelete(j.Dir); ok {
		return model.TrainStatus{}, err.(error)
	}
	if err := j.note("attempts", fmt.Appendf(nil, "%d %s\n", os.Getpid(), time.Now().UTC().Format(time.RFC3339))); err != nil {
		return model.TrainStatus{}, err
	}
	keep = true
	go j.train(lock)
	return j.running()
}

// train runs the job to its end and gives the lock back. A job that a fault of the world ended stays as it is.
func (j *job) train(lock *os.File) {
	defer lock.Close()
	ctx := context.Background()
	status, err := j.run(ctx)
	var failed *failure
	switch {
	case errors.Is(err, errCancelled):
		status, err = model.TrainStatus{State: model.TrainCancelled, Message: "cancelled"}, nil
	case errors.As(err, &failed):
		status, err = model.TrainStatus{State: model.TrainFailed, Message: fmt.Sprintf("job %s: %v", j.ID, err)}, nil
	}
	if err == nil {
		_, err = j.end(ctx, status)
	}
	if err != nil {
		faults.Store(j.Dir, fmt.Errorf("train: job %s: %w", j.ID, err))
		return
	}
	_ = os.Remove(j.Path("checkpoint")) // what is left of a job that has ended is its log and its result
}

// A failure is a fault of the data, the model or the hyperparameters: trying again would not help.
type failure struct{ error }

func (f *failure) Unwrap() error { return f.error }

// fail makes an error a failure.
func fail(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	return &failure{err}
}

var errCancelled = errors.New("cancelled")

// note adds a line to a file.
func (j *job) note(name string, line []byte) error {
	f, err := os.OpenFile(j.Path(name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	if err != nil {
		return fmt.Errorf("train: job %s: %w", j.ID, err)
	}
	_, err = f.Write(line)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("train: job %s: %s: %w", j.ID, name, err)
	}
	return nil
}

// running is the status of a job that is trained.
func (j *job) running() (model.TrainStatus, error) {
	last, err := j.lastStep()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return model.TrainStatus{State: model.TrainQueued, Message: "reading the data"}, nil
	case err != nil:
		return model.TrainStatus{}, fmt.Errorf("train: job %s: %w", j.ID, err)
	}
	return last.status(model.TrainRunning), nil
}

// end writes how the job ended; the first word stands.
func (j *job) end(ctx context.Context, status model.TrainStatus) (model.TrainStatus, error) {
	if last, err := j.lastStep(); err == nil && status.Steps == 0 {
		status.Step, status.Steps, status.Metrics = last.Step, last.Steps, last.Metrics
	}
	return j.End(ctx, status)
}
