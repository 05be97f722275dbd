// Package jobfolder keeps a training job in the folder that is its handle: job.json says what to train, cancel that it is
// to end, end.json how it ended. Each is written once, so whoever comes later, in whatever process, finds the same job and
// the same end.
package jobfolder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/store"
)

// A Job is the folder of one, as it lies on disk.
type Job struct {
	model.TrainJob
	// Dir is the folder, Store the store that it is.
	Dir   string
	Store store.Store
}

// Local is a file URL's path; anything else, such as the name of a model on a hub, stays.
func Local(u string) string {
	rest, ok := strings.CutPrefix(u, "file://")
	if !ok {
		return u
	}
	if p, err := url.PathUnescape(strings.TrimPrefix(rest, "localhost")); err == nil {
		return p
	}
	return u
}

// Create puts tj into dir if no job is there, and returns the job that is there: it may be another one.
func Create(ctx context.Context, dir string, tj model.TrainJob) (Job, error) {
	st, err := store.Open(ctx, dir)
	if err != nil {
		return Job{}, err
	}
	data, err := json.MarshalIndent(tj, "", "  ")
	if err != nil {
		return Job{}, fmt.Errorf("train: job %s: %w", tj.ID, err)
	}
	if err := st.PutIfAbsent(ctx, "job.json", append(data, '\n')); err != nil && !errors.Is(err, store.ErrExists) {
		return Job{}, fmt.Errorf("train: job %s: %w", tj.ID, err)
	}
	return Load(ctx, dir)
}

// Load returns the job of a folder. An unreadable job.json wraps store.ErrDamaged.
func Load(ctx context.Context, dir string) (Job, error) {
	st, err := store.Open(ctx, dir)
	if err != nil {
		return Job{}, err
	}
	data, _, err := st.Read(ctx, "job.json")
	if err != nil {
		return Job{}, fmt.Errorf("train: no job in %s: %w", dir, err)
	}
	j := Job{Dir: dir, Store: st}
	if err := json.Unmarshal(data, &j.TrainJob); err != nil {
		return Job{}, fmt.Errorf("train: %s/job.json: %w: %w", dir, store.ErrDamaged, err)
	}
	return j, nil
}

// Path is a file of the folder.
func (j Job) Path(name string) string { return filepath.Join(j.Dir, name) }

// ErrLocked is returned by Lock while somebody holds the job's lock.
var ErrLocked = errors.New("the job is locked")

// Lock takes the job's lock, or returns ErrLocked. Closing the file gives it back, and so does the end of the process, unless
// another process has inherited the file.
func (j Job) Lock() (*os.File, error) {
	f, err := os.OpenFile(j.Path("lock"), os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return nil, fmt.Errorf("train: job %s: %w", j.ID, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, ErrLocked
		}
		return nil, fmt.Errorf("train: job %s: lock: %w", j.ID, err)
	}
	return f, nil
}

// AskCancel notes that the job is to end; whoever trains it has to look.
func (j Job) AskCancel(ctx context.Context) error {
	if err := j.Store.PutIfAbsent(ctx, "cancel", nil); err != nil {
		return fmt.Errorf("train: job %s: cancel: %w", j.ID, err)
	}
	return nil
}

// CancelAsked reports whether the job is to end.
func (j Job) CancelAsked() bool {
	_, err := os.Stat(j.Path("cancel"))
	return err == nil
}

// Ended returns how the job ended, if it has.
func (j Job) Ended(ctx context.Context) (status model.TrainStatus, ended bool, err error) {
	data, _, err := j.Store.Read(ctx, "end.json")
	if errors.Is(err, store.ErrNotExist) {
		return status, false, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &status)
	}
	if err != nil {
		return status, false, fmt.Errorf("train: job %s: %w", j.ID, err)
	}
	return status, true, nil
}

// End writes how the job ended, and returns how it did: the first word stands.
func (j Job) End(ctx context.Context, status model.TrainStatus) (model.TrainStatus, error) {
	data, err := json.MarshalIndent(status, "", "  ")
	if err != nil {
		return status, fmt.Errorf("train: job %s: %w", j.ID, err)
	}
	if err := j.Store.PutIfAbsent(ctx, "end.json", append(data, '\n')); err != nil && !errors.Is(err, store.ErrExists) {
		return status, fmt.Errorf("train: job %s: %w", j.ID, err)
	}
	status, _, err = j.Ended(ctx)
	return status, err
}
