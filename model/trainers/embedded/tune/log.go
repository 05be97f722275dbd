package tune

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/promptmill/promptmill/model"
)

// A logLine is one step in log.jsonl.
type logLine struct {
	// Step of Steps steps are done, this one included; Epoch counts from 0.
	Step    int                `json:"step"`
	Steps   int                `json:"steps"`
	Epoch   int                `json:"epoch"`
	Rate    float64            `json:"learning_rate"`
	Metrics map[string]float64 `json:"metrics"`
}

func (l logLine) status(state model.TrainState) model.TrainStatus {
	return model.TrainStatus{
		State: state, Step: l.Step, Steps: l.Steps, Metrics: l.Metrics,
		Message: fmt.Sprintf("step %d of %d, loss %.4g", l.Step, l.Steps, l.Metrics["loss"]),
	}
}

// log adds a step.
func (j *job) log(l logLine) error {
	data, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("train: job %s: %w", j.ID, err)
	}
	return j.note("log.jsonl", append(data, '\n'))
}

// lastStep reads the last whole line of the log. The error wraps fs.ErrNotExist if there is none.
func (j *job) lastStep() (l logLine, err error) {
	f, err := os.Open(j.Path("log.jsonl"))
	if err != nil {
		return l, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return l, err
	}
	const most = 4096 // some lines
	data := make([]byte, min(info.Size(), most))
	if _, err := f.ReadAt(data, info.Size()-int64(len(data))); err != nil && !errors.Is(err, io.EOF) {
		return l, err
	}
	data = data[:bytes.LastIndexByte(data, '\n')+1]
	data = bytes.TrimSuffix(data, []byte("\n"))
	if len(data) == 0 {
		return l, fs.ErrNotExist
	}
	return l, json.Unmarshal(data[bytes.LastIndexByte(data, '\n')+1:], &l)
}

// rewind removes from the log what comes after a step: steps that are done again.
func (j *job) rewind(step int) error {
	old, err := os.ReadFile(j.Path("log.jsonl"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var keep []byte
	lines := bufio.NewScanner(bytes.NewReader(old))
	for lines.Scan() {
		var l logLine
		if json.Unmarshal(lines.Bytes(), &l) != nil || l.Step > step {
			break
		}
		keep = append(append(keep, lines.Bytes()...), '\n')
	}
	if len(keep) == len(old) {
		return nil
	}
	temp := j.Path("log.jsonl.tmp")
	return errors.Join(os.WriteFile(temp, keep, 0o666), os.Rename(temp, j.Path("log.jsonl")))
}
