package command

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/promptmill/promptmill/model"
)

// heading begins the line that opens an attempt in the log.
const heading = "promptmill: attempt "

// tailBytes is how much of a log is looked at: hundreds of steps, and a traceback.
const tailBytes = 256 << 10

// progress is what a log tells.
type progress struct {
	step, steps int
	metrics     map[string]float64
	// lost: the loss stopped being a number.
	lost bool
	// message is the last line that says something.
	message string
	// noNorm: the gradient of the record before was no number.
	noNorm bool
}

func (p *progress) status(state model.TrainState) model.TrainStatus {
	return model.TrainStatus{State: state, Step: p.step, Steps: p.steps, Metrics: p.finite(), Message: redact(p.message)}
}

// finite leaves out what JSON cannot say.
func (p *progress) finite() map[string]float64 {
	m := map[string]float64{}
	for name, v := range p.metrics {
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			m[name] = v
		}
	}
	return m
}

var (
	// bar is tqdm's training bar; those of other work begin with its name.
	bar = regexp.MustCompile(`^\d{1,3}%\|[^|]*\| *(\d{1,9})/(\d{1,9}) \[`)
	// field is "name": value of a JSON object or of a Python dict, whose numbers may be strings (transformers 5).
	field = regexp.MustCompile(`['"]([\w/.-]{1,60})['"]: ?['"]?([-+\w.]{1,40})['"]?[,}]`)
)

// renamed are the contract's names of trainers' metrics.
var renamed = map[string]string{
	"rewards/accuracies": "accuracy", "rewards/margins": "margin", "train_loss": "mean_loss", "lr": "learning_rate",
}

// parseProgress reads the end of a log: one record a line, a Python dict or JSON, and tqdm's bars. Only
// what follows the last heading counts.
func parseProgress(log []byte) progress {
	p := progress{metrics: map[string]float64{}}
	if i := bytes.LastIndex(log, []byte("\n"+heading)); i >= 0 {
		log = log[i+1:]
	}
	for text := range bytes.FieldsFuncSeq(log, func(r rune) bool { return r == '\n' || r == '\r' }) {
		text = bytes.TrimSpace(text)
		if len(text) == 0 || bytes.HasPrefix(text, []byte(heading)) {
			continue
		}
		if m := bar.FindSubmatch(text); m != nil {
			p.step, p.steps = atoi(m[1]), atoi(m[2])
			continue
		}
		p.message = string(bytes.ToValidUTF8(text[:min(len(text), 300)], nil))
		if text[0] == '{' && text[len(text)-1] == '}' {
			p.record(text)
		}
	}
	return p
}

func (p *progress) record(text []byte) {
	seen := map[string]float64{}
	for _, m := range field.FindAllSubmatch(text, 64) {
		if v, err := strconv.ParseFloat(string(m[2]), 64); err == nil {
			seen[string(m[1])] = v
		}
	}
	p.take(seen)
}

// take takes a record. A loss that is no number is the end; so is a gradient that stays none, because
// Hugging Face's Trainer shows a mean in place of such a loss (logging_nan_inf_filter).
func (p *progress) take(seen map[string]float64) {
	for name, v := range seen {
		switch name {
		case "current_steps", "global_step", "step":
			p.step = count(v)
		case "total_steps", "max_steps":
			p.steps = count(v)
		default:
			if to, known := renamed[name]; known {
				name = to
			}
			if _, pairs := seen["rewards/accuracies"]; name == "mean_token_accuracy" && !pairs {
				name = "accuracy" // of supervised training
			}
			p.metrics[name] = v
		}
	}
	if loss, ok := seen["loss"]; ok && (math.IsNaN(loss) || math.IsInf(loss, 0)) {
		p.lost = true
	}
	if norm, ok := seen["grad_norm"]; ok {
		p.lost = p.lost || p.noNorm && math.IsNaN(norm)
		p.noNorm = math.IsNaN(norm)
	}
}

func count(v float64) int {
	if v >= 0 && v <= 1e9 {
		return int(v)
	}
	return 0
}

func atoi(digits []byte) int {
	n, _ := strconv.Atoi(string(digits)) // the pattern allows nothing else
	return n
}

func readProgress(path string) (progress, error) {
	tail, err := readTail(path)
	return parseProgress(tail), err
}

// readTail returns the end of a log; one that is not there yet is empty.
func readTail(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("train: log: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("train: log: %w", err)
	}
	from := max(info.Size()-tailBytes, 0)
	data, err := io.ReadAll(io.NewSectionReader(f, from, info.Size()-from))
	if err != nil {
		return nil, fmt.Errorf("train: log: %w", err)
	}
	return data, nil
}

// lastLines returns the last n lines that say something, without what a progress bar overwrote.
func lastLines(text []byte, n int) string {
	var lines []string
	for l := range strings.Lines(strings.ToValidUTF8(string(text), "?")) {
		l = strings.TrimRight(l, "\r\n ")
		if l = l[strings.LastIndexByte(l, '\r')+1:]; l != "" {
			lines = append(lines, l[:min(len(l), 500)])
		}
	}
	return strings.Join(lines[max(len(lines)-n, 0):], "\n")
}

// redact takes the values of secret-looking environment variables out of what a program said.
func redact(text string) string {
	for _, kv := range os.Environ() {
		name, value, _ := strings.Cut(kv, "=")
		name = strings.ToUpper(name)
		for _, word := range []string{"KEY", "TOKEN", "SECRET", "PASSWORD"} {
			if strings.Contains(name, word) && len(value) >= 8 {
				text = strings.ReplaceAll(text, value, "[secret]")
			}
		}
	}
	return text
}

// notJSON are the numbers that Python writes and JSON does not know.
var notJSON = regexp.MustCompile(`: (NaN|-?Infinity)\b`)

// addTrainerState adds the exact numbers of the newest checkpoint's trainer_state.json, if there is one.
func (p *progress) addTrainerState(dir, complete string) error {
	checkpoint, err := newestCheckpoint(dir, complete)
	if err != nil || checkpoint == "" {
		return err
	}
	data, err := os.ReadFile(filepath.Join(checkpoint, "trainer_state.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var state struct {
		Step    int              `json:"global_step"`
		Steps   int              `json:"max_steps"`
		History []map[string]any `json:"log_history"`
	}
	if err := json.Unmarshal(notJSON.ReplaceAll(data, []byte(`: "$1"`)), &state); err != nil {
		return fmt.Errorf("train: %s/trainer_state.json: %w", checkpoint, err)
	}
	for _, h := range state.History {
		seen := map[string]float64{}
		for name, v := range h {
			switch v := v.(type) {
			case float64:
				seen[name] = v
			case string:
				if f, err := strconv.ParseFloat(v, 64); err == nil {
					seen[name] = f
				}
			}
		}
		p.take(seen)
	}
	p.step, p.steps = state.Step, state.Steps
	return nil
}
