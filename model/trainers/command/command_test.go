package command_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/modeltest"
	_ "github.com/promptmill/promptmill/model/trainers/command"
	"github.com/promptmill/promptmill/schemas"
)

// standIn is a Spec of testdata/trainer.sh. Every call gives another, so that nothing is shared in the process.
func standIn(t *testing.T, options map[string]string) model.Spec {
	t.Helper()
	script, err := filepath.Abs("testdata/trainer.sh")
	if err != nil {
		t.Fatal(err)
	}
	line := "sh " + script + " {start} {data} {output}"
	o := map[string]string{"sft": line, "dpo": line, "grace": fmt.Sprintf("5s%dns", opened.next())}
	for name, v := range options {
		o[name] = v
	}
	return model.Spec{Backend: "command", Options: o}
}

var opened counter

type counter struct{ n int }

func (c *counter) next() int { c.n++; return c.n }

func openStandIn(t *testing.T, options map[string]string) model.Trainer {
	t.Helper()
	m, err := model.OpenTrainer(t.Context(), standIn(t, options))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// shard is a file of eight preference pairs.
func shard(t *testing.T) string {
	t.Helper()
	return modeltest.Shard(t, repeat(8, func(i int) schemas.PreferencePair {
		return schemas.PreferencePair{
			ID: strconv.Itoa(i), Kind: schemas.KindRewrite, PromptID: "p", Prompt: message("user", fmt.Sprintf("Rewrite: a cat %d", i)),
			Chosen: message("assistant", "a fluffy cat, soft light"), Rejected: message("assistant", "cat"), ChosenScore: 2, RejectedScore: 1, Margin: 1,
		}
	})...)
}

func message(role, text string) []schemas.Message {
	return []schemas.Message{{Role: role, Content: text}}
}

func repeat[T any](n int, row func(i int) T) []T {
	list := make([]T, n)
	for i := range list {
		list[i] = row(i)
	}
	return list
}

func job(id, start, data, output string) model.TrainJob {
	return model.TrainJob{
		ID: id, Method: model.MethodDPO, Data: []string{data}, Digest: "d", Start: start, Weights: "base", Output: output,
		Params: model.TrainParams{Epochs: 1, BatchSize: 4, LearningRate: 1e-4, WarmupFraction: 0.1, Beta1: 0.9, Beta2: 0.999, DPOBeta: 0.1},
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return string(b)
}

func TestTrainer(t *testing.T) {
	modeltest.RunTrainer(t, func(t *testing.T) modeltest.TrainerBench {
		root, data := t.TempDir(), shard(t)
		return modeltest.TrainerBench{
			Open: func(t *testing.T) model.Trainer { return openStandIn(t, nil) },
			Job: func(_ *testing.T, id string, c modeltest.TrainCase) model.TrainJob {
				return job(id, string(c), data, filepath.Join(root, id))
			},
			Begun: func(t *testing.T, id string) int {
				return strings.Count(read(t, filepath.Join(root, id, "begun")), "\n")
			},
			Crash: func(t *testing.T, id string) { kill(t, filepath.Join(root, id)) },

			Deterministic: true,
		}
	})
}

// kill kills the whole group of a job's last attempt.
func kill(t *testing.T, dir string) {
	t.Helper()
	groups := strings.Fields(read(t, filepath.Join(dir, "attempts")))
	group, err := strconv.Atoi(groups[len(groups)-1])
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(-group, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

func waitFor(t *testing.T, path string) string {
	t.Helper()
	for range 500 {
		if s := strings.TrimSpace(read(t, path)); s != "" {
			return s
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s is not written", path)
	return ""
}

func alive(t *testing.T, pid string) bool {
	t.Helper()
	stat := read(t, "/proc/"+pid+"/stat")
	return stat != "" && !strings.Contains(stat, ") Z ")
}

func TestExitCodeAndLogAreInTheMessage(t *testing.T) {
	t.Setenv("STAND_IN_TOKEN", "hush-hush-123")
	m := openStandIn(t, nil)
	dir := t.TempDir()
	for start, want := range map[string][]string{
		"bad_data": {"exit code 1", "KeyError: 'chosen'", "in collate"},
		"leaky":    {"exit code 3", "token is [secret]"},
		"nothing":  {"exit code 0", "no checkpoint"},
		"diverges": {"not a number"},
	} {
		handle, err := m.Start(t.Context(), job(start, start, shard(t), filepath.Join(dir, start)))
		if err != nil {
			t.Fatal(err)
		}
		s := modeltest.TrainEnd(t, m, handle, time.Minute)
		for _, w := range want {
			if s.State != model.TrainFailed || !strings.Contains(s.Message, w) {
				t.Errorf("%s: %s: %s; want a failure that says %q", start, s.State, s.Message, w)
			}
		}
		if strings.Contains(s.Message, "hush") {
			t.Errorf("%s: the message shows a secret: %s", start, s.Message)
		}
	}
}

// A trainer's launcher that is told to end leaves its children; they go with the group.
func TestChildrenEndToo(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, m model.Trainer, dir string){
		"cancel": func(t *testing.T, m model.Trainer, dir string) {
			if err := m.Cancel(t.Context(), dir); err != nil {
				t.Error(err)
			}
		},
		"exit": func(t *testing.T, m model.Trainer, dir string) { modeltest.TrainEnd(t, m, dir, time.Minute) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "out")
			m := openStandIn(t, nil)
			handle, err := m.Start(t.Context(), job("family", "family", shard(t), dir))
			if err != nil {
				t.Fatal(err)
			}
			child := waitFor(t, filepath.Join(dir, "child"))
			end(t, m, handle)
			for range 200 {
				if !alive(t, child) {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
			t.Errorf("the child %s of the trainer still runs", child)
		})
	}
}

func TestDeafTrainerIsKilled(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	m := openStandIn(t, map[string]string{"grace": "200ms"})
	handle, err := m.Start(t.Context(), job("deaf", "deaf", shard(t), dir))
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, filepath.Join(dir, "begun"))
	if err := m.Cancel(t.Context(), handle); err != nil {
		t.Fatal(err)
	}
	if s := modeltest.TrainEnd(t, m, handle, time.Minute); s.State != model.TrainCancelled {
		t.Errorf("ended as %+v", s)
	}
}

func TestKilledTooOften(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	m := openStandIn(t, map[string]string{"restarts": "1"})
	handle, err := m.Start(t.Context(), job("weary", "slow", shard(t), dir))
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 2; n++ {
		for range 500 {
			if strings.Count(read(t, filepath.Join(dir, "begun")), "\n") == n {
				break
			}
			if _, err := m.Status(t.Context(), handle); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		kill(t, dir)
	}
	if s := modeltest.TrainEnd(t, m, handle, time.Minute); s.State != model.TrainFailed || !strings.Contains(s.Message, "killed 2 times") {
		t.Errorf("ended as %+v", s)
	}
}

func TestResumeArgumentsAndLayout(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out put") // a space in a value does not cut the argument
	m := openStandIn(t, map[string]string{"format": "llamafactory"})
	handle, err := m.Start(t.Context(), job("resume", "slow", "file://"+strings.ReplaceAll(strings.ReplaceAll(shard(t), " ", "%20"), "#", "%23"), dir))
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, filepath.Join(dir, "model/checkpoint-4/trainer_state.json"))
	if err := os.Mkdir(filepath.Join(dir, "model/checkpoint-99"), 0o777); err != nil { // was being written
		t.Fatal(err)
	}
	kill(t, dir)
	if s := modeltest.TrainEnd(t, m, handle, time.Minute); s.State != model.TrainSucceeded {
		t.Fatalf("ended as %+v", s)
	}
	if log := read(t, filepath.Join(dir, "log")); !strings.Contains(log, "--resume_from_checkpoint "+dir+"/model/checkpoint-") || strings.Contains(log, "checkpoint-99") {
		t.Errorf("the log shows no resumption at a whole checkpoint: %s", log)
	}
	if info := read(t, filepath.Join(dir, "data/dataset_info.json")); !strings.Contains(info, `"ranking": true`) {
		t.Errorf("dataset_info.json: %s", info)
	}
	if rows := read(t, filepath.Join(dir, "data/train/00000.jsonl")); strings.Count(rows, "\n") != 8 || !strings.Contains(rows, `"chosen":{"from":"gpt","value":"a fluffy cat, soft light"}`) {
		t.Errorf("rows: %s", rows)
	}
}

// A job goes on when the process that started it is killed, and another one follows it.
func TestOutlivesItsStarter(t *testing.T) {
	if dir := os.Getenv("STAND_IN_STARTER"); dir != "" { // the process that is killed
		if _, err := openStandIn(t, nil).Start(t.Context(), job("orphan", "slow", os.Getenv("STAND_IN_DATA"), dir)); err != nil {
			t.Fatal(err)
		}
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	dir, data := filepath.Join(t.TempDir(), "out"), shard(t)
	starter := exec.Command(os.Args[0], "-test.run=^TestOutlivesItsStarter$")
	starter.Env = append(os.Environ(), "STAND_IN_STARTER="+dir, "STAND_IN_DATA="+data)
	if err := starter.Run(); err == nil || starter.ProcessState.Exited() {
		t.Fatalf("the starter was not killed: %v", err)
	}
	m := openStandIn(t, nil)
	handle, err := m.Start(t.Context(), job("orphan", "slow", data, dir))
	if err != nil {
		t.Fatal(err)
	}
	if s := modeltest.TrainEnd(t, m, handle, time.Minute); s.State != model.TrainSucceeded {
		t.Errorf("ended as %+v", s)
	}
	if n := strings.Count(read(t, filepath.Join(dir, "begun")), "\n"); n != 1 {
		t.Errorf("begun %d times", n)
	}
}

func TestOneFolderOneJob(t *testing.T) {
	m, dir, data := openStandIn(t, nil), filepath.Join(t.TempDir(), "out"), shard(t)
	if _, err := m.Start(t.Context(), job("first", "good", data, dir)); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Start(t.Context(), job("second", "good", data, dir)); !errors.Is(err, model.ErrConfig) || !strings.Contains(err.Error(), "job first") {
		t.Errorf("a second job in the folder of the first: %v", err)
	}
	modeltest.TrainEnd(t, m, dir, time.Minute)
}

func TestOpenRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		options map[string]string
		model   string
		want    string
	}{
		"no program":      {options: map[string]string{"dpo": "torchrun-of-nobody train.py"}, want: "not installed"},
		"no script":       {options: map[string]string{"dpo": "sh no/such/train.py"}, want: "no/such/train.py"},
		"broken program":  {options: map[string]string{"version": "false"}, want: "does not run"},
		"placeholder":     {options: map[string]string{"dpo": "sh x {dta}"}, want: "no placeholder {dta}"},
		"secret flag":     {options: map[string]string{"dpo": "sh x --hub_token=abc"}, want: "looks like a secret"},
		"secret value":    {options: map[string]string{"dpo": "sh x hf_abcdefghijkl"}, want: "looks like a secret"},
		"unknown option":  {options: map[string]string{"shell": "yes"}, want: "there is none"},
		"unknown preset":  {model: "axolotl", want: "llamafactory, trl"},
		"bad time":        {options: map[string]string{"grace": "soon"}, want: "is not a time"},
		"bad format":      {options: map[string]string{"format": "csv"}, want: `"csv" is not one of`},
		"bad micro batch": {options: map[string]string{"micro_batch": "0"}, want: "whole number above 0"},
		"bad bin":         {options: map[string]string{"bin": "no/such/bin"}, want: "not a folder"},
	} {
		t.Run(name, func(t *testing.T) {
			spec := standIn(t, c.options)
			spec.Model = c.model
			_, err := model.OpenTrainer(t.Context(), spec)
			if !errors.Is(err, model.ErrConfig) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v; want ErrConfig that says %q", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "hf_abcdefghijkl") {
				t.Errorf("the error shows the secret: %v", err)
			}
		})
	}
}

func TestStartRefuses(t *testing.T) {
	m, data := openStandIn(t, map[string]string{"micro_batch": "3"}), shard(t)
	for name, c := range map[string]struct {
		change func(*model.TrainJob)
		want   string
	}{
		"batch":    {func(*model.TrainJob) {}, "not a multiple of micro_batch 3"},
		"no id":    {func(j *model.TrainJob) { j.ID = "" }, "no ID"},
		"remote":   {func(j *model.TrainJob) { j.Output = "gs://bucket/out" }, "not a folder on this machine"},
		"no start": {func(j *model.TrainJob) { j.Start = "/no/such/checkpoint" }, "checkpoint to start from"},
		"epochs":   {func(j *model.TrainJob) { j.Params.Epochs = 0 }, "at least 1"},
	} {
		j := job("refused", "good", data, filepath.Join(t.TempDir(), "out"))
		c.change(&j)
		if _, err := m.Start(t.Context(), j); !errors.Is(err, model.ErrConfig) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want ErrConfig that says %q", name, err, c.want)
		}
		if _, err := os.Stat(j.Output); err == nil {
			t.Errorf("%s: the refused job left its folder", name)
		}
	}
}
