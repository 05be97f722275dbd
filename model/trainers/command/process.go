package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/promptmill/promptmill/model/trainers/dataset"
	"github.com/promptmill/promptmill/model/trainers/jobfolder"
	"github.com/promptmill/promptmill/store"
)

// keeper runs the program that its arguments name, in the foreground. It outlives the signals that ask
// the group to end, because it has to write the exit code, and it ends what the program left behind.
const keeper = `attempts=$1 exit=$2
shift 2
trap : HUP INT TERM
echo $$ >>"$attempts" || exit 74
"$@"
code=$?
trap '' HUP INT TERM
kill -TERM 0
echo $code >"$exit.part" && mv "$exit.part" "$exit"
`

// launch lays out the data and starts the program, which takes over the lock.
func (j *job) launch(ctx context.Context, lock *os.File, before int) error {
	if err := j.layOut(ctx); err != nil {
		return err
	}
	values, err := j.values(j.TrainJob)
	if err != nil {
		return err
	}
	values["data"], values["output"] = j.Path("data"), j.Path("model")
	if err := os.MkdirAll(values["output"], 0o777); err != nil {
		return err
	}
	words := j.lines[j.Method]
	if values["checkpoint"], err = newestCheckpoint(values["output"], j.complete); err != nil {
		return err
	}
	if values["checkpoint"] != "" {
		words = append(words[:len(words):len(words)], j.resume...)
	}
	words = words.fill(values)
	program, err := j.find(words[0])
	if err != nil {
		return err
	}
	log, err := os.OpenFile(j.Path("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	defer log.Close()
	if _, err := fmt.Fprintf(log, "%s%d: %s\n", heading, before+1, strings.Join(words, " ")); err != nil {
		return err
	}
	cmd := exec.Command("/bin/sh", append([]string{"-c", keeper, "promptmill-trainer", j.Path("attempts"), j.Path("exit"), program}, words[1:]...)...)
	cmd.Stdout, cmd.Stderr, cmd.Env = log, log, j.environment()
	cmd.ExtraFiles = []*os.File{lock}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() { _ = cmd.Wait() }() // the exit code is in the file; this only buries the dead
	return nil
}

// layOut puts the data where the program reads them: whole or not at all, and once.
func (j *job) layOut(ctx context.Context) error {
	if _, err := os.Stat(j.Path("data")); err == nil {
		return nil
	}
	part := j.Path("data.part")
	if err := errors.Join(os.RemoveAll(part), os.MkdirAll(part, 0o777)); err != nil {
		return err
	}
	st, err := store.Open(ctx, part)
	if err != nil {
		return err
	}
	if j.format == parquet {
		err = j.linkShards(ctx, st)
	} else {
		var w dataset.Written
		w, err = dataset.Write(ctx, st, dataset.WriteConfig{Format: j.format, Split: "train"}, dataset.Read(ctx, j.Data))
		if err == nil && j.format == dataset.LlamaFactory {
			err = dataset.WriteInfo(ctx, st, "", map[string]dataset.Info{"train": w.Info("train")})
		}
	}
	if err != nil {
		return err
	}
	return os.Rename(part, j.Path("data"))
}

// linkShards makes data/train-00000-of-00002.parquet and so on: links where the shards are on this machine.
func (j *job) linkShards(ctx context.Context, st store.Store) error {
	for i, u := range j.Data {
		o, err := dataset.Open(ctx, u)
		if err != nil {
			return err
		}
		name := fmt.Sprintf("train-%05d-of-%05d.parquet", i, len(j.Data))
		if p := jobfolder.Local(u); !strings.Contains(p, "://") {
			if p, err = filepath.Abs(p); err == nil {
				err = os.Symlink(p, filepath.Join(j.Path("data.part"), name))
			}
		} else {
			err = copyObject(ctx, st, name, o)
		}
		if err := errors.Join(err, o.Close()); err != nil {
			return fmt.Errorf("%s: %w", u, err)
		}
	}
	return nil
}

// attempts are the process groups so far.
func (j *job) attempts() ([]int, error) {
	data, err := os.ReadFile(j.Path("attempts"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("train: job %s: %w", j.ID, err)
	}
	var groups []int
	for word := range strings.FieldsSeq(string(data)) {
		n, err := strconv.Atoi(word)
		if err != nil || n <= 1 {
			return nil, fmt.Errorf("train: job %s: %w: attempts holds %q", j.ID, store.ErrDamaged, word)
		}
		groups = append(groups, n)
	}
	return groups, nil
}

func (j *job) exitCode() (code int, exited bool, err error) {
	data, err := os.ReadFile(j.Path("exit"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err == nil {
		code, err = strconv.Atoi(strings.TrimSpace(string(data)))
	}
	if err != nil {
		return 0, false, fmt.Errorf("train: job %s: exit code: %w", j.ID, err)
	}
	return code, true, nil
}

// stop ends the program and everything it started: it asks, waits for the grace time, and kills. It
// returns when the lock is free, or held by what has left the group of a program that ended.
func (j *job) stop(ctx context.Context) error {
	deadline, asked, tick := time.Now().Add(j.grace), false, time.NewTicker(50*time.Millisecond)
	defer tick.Stop()
	for {
		lock, err := j.Lock()
		if err == nil {
			return lock.Close()
		}
		if !errors.Is(err, jobfolder.ErrLocked) {
			return err
		}
		group, err := j.group()
		switch late := time.Now().After(deadline); {
		case err != nil:
			return err
		case group == 0: // not started yet, or gone
		case late:
			_ = unix.Kill(-group, unix.SIGKILL)
			if _, exited, err := j.exitCode(); exited || err != nil {
				return err
			}
		case !asked:
			_ = unix.Kill(-group, unix.SIGTERM)
			asked = true
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("train: job %s: waiting for its end: %w", j.ID, ctx.Err())
		case <-tick.C:
		}
	}
}

// group is the process group that runs, 0 if there is none. Its number is only trusted while the keeper
// leads it, or nobody does: the system gives no process the number of a group that has members.
func (j *job) group() (int, error) {
	groups, err := j.attempts()
	if err != nil || len(groups) == 0 {
		return 0, err
	}
	group := groups[len(groups)-1]
	args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", group))
	if err == nil && len(args) > 0 && !bytes.Contains(args, []byte(j.Path("attempts"))) {
		return 0, nil
	}
	return group, nil
}
