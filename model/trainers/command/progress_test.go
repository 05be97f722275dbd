package command

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"testing"

	"github.com/promptmill/promptmill/store"
)

func TestParseProgress(t *testing.T) {
	for name, c := range map[string]struct {
		log     string
		step    int
		steps   int
		metrics map[string]float64
		lost    bool
	}{
		"transformers 5": {
			"{'loss': '0.5', 'rewards/accuracies': '1', 'rewards/margins': '0.2', 'mean_token_accuracy': '0.1', 'epoch': '0.5'}\n", 0, 0,
			map[string]float64{"loss": 0.5, "accuracy": 1, "margin": 0.2, "mean_token_accuracy": 0.1, "epoch": 0.5},
			false,
		},
		"transformers 4": {"{'loss': 5e-1, 'mean_token_accuracy': 0.1}\n", 0, 0, map[string]float64{"loss": 0.5, "accuracy": 0.1}, false},
		"bars": {
			"Map: 100%|###| 32/32 [00:00<00:00]\n  0%|          | 0/6 [00:00<?, ?it/s]\r 50%|#####     | 3/6 [00:01<00:01,  2.1it/s]\n{'loss': 2}\n", 3, 6,
			map[string]float64{"loss": 2},
			false,
		},
		"LLaMA-Factory":     {`{"current_steps": 2, "total_steps": 6, "loss": 0.25, "lr": 1e-05, "elapsed_time": "0:00:01"}`, 2, 6, map[string]float64{"loss": 0.25, "learning_rate": 1e-5}, false},
		"nan":               {"{'loss': nan, 'grad_norm': nan}\n", 0, 0, nil, true},
		"inf":               {"{'loss': 'inf'}\n", 0, 0, nil, true},
		"one bad gradient":  {"{'loss': 1, 'grad_norm': nan}\n{'loss': 1, 'grad_norm': 2}\n", 0, 0, map[string]float64{"loss": 1, "grad_norm": 2}, false},
		"gradient stays so": {"{'loss': 1, 'grad_norm': nan}\n{'loss': 0, 'grad_norm': nan}\n", 0, 0, map[string]float64{"loss": 0}, true},
		"earlier attempt":   {"{'loss': nan}\npromptmill: attempt 2: trl\n{'loss': 1}\n", 0, 0, map[string]float64{"loss": 1}, false},
		"empty":             {"", 0, 0, nil, false},
	} {
		p := parseProgress([]byte("\n" + c.log))
		if p.step != c.step || p.steps != c.steps || p.lost != c.lost {
			t.Errorf("%s: step %d of %d, lost %v; want %d of %d, %v", name, p.step, p.steps, p.lost, c.step, c.steps, c.lost)
		}
		got := p.finite()
		if len(got) != len(c.metrics) {
			t.Errorf("%s: metrics %v; want %v", name, got, c.metrics)
		}
		for k, v := range c.metrics {
			if got[k] != v {
				t.Errorf("%s: %s is %v; want %v", name, k, got[k], v)
			}
		}
	}
}

func FuzzParseProgress(f *testing.F) {
	f.Add([]byte("{'loss': nan}\r 50%|# | 3/6 [00"))
	f.Add([]byte(`{"loss": "1e999", "step": -1}`))
	f.Fuzz(func(t *testing.T, log []byte) {
		p := parseProgress(log)
		if p.step < 0 || p.steps < 0 || len(p.message) > 300 {
			t.Errorf("%+v", p)
		}
		for name, v := range p.finite() {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				t.Errorf("%s is %v", name, v)
			}
		}
	})
}

// safetensors is a file with one tensor.
func safetensors(header string, body ...byte) []byte {
	return append(append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...), body...)
}

func TestCheckSafetensors(t *testing.T) {
	const f32, bf16 = `{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, `{"w":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]},"__metadata__":{"format":"pt"}}`
	for name, c := range map[string]struct {
		file []byte
		want error
	}{
		"good":        {safetensors(f32, 0, 0, 0x80, 0x3f), nil},
		"good bf16":   {safetensors(bf16, 0x80, 0x3f, 0x80, 0x3f), nil},
		"nan":         {safetensors(f32, 0, 0, 0xc0, 0x7f), errNotNumbers},
		"-inf bf16":   {safetensors(bf16, 0x80, 0x3f, 0x80, 0xff), errNotNumbers},
		"cut":         {safetensors(f32, 0, 0), store.ErrDamaged},
		"no header":   {[]byte{1, 2}, store.ErrDamaged},
		"long header": {append(bytes.Repeat([]byte{0xff}, 8), "{}"...), store.ErrDamaged},
		"not JSON":    {safetensors("{"), store.ErrDamaged},
		"backwards":   {safetensors(`{"w":{"dtype":"F32","data_offsets":[4,0]}}`, 0, 0, 0, 0), store.ErrDamaged},
	} {
		if err := checkSafetensors(bytes.NewReader(c.file), int64(len(c.file))); !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: %v; want %v", name, err, c.want)
		}
	}
}

func FuzzCheckSafetensors(f *testing.F) {
	f.Add(safetensors(`{"w":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}`, 0, 0x7c, 0, 0))
	f.Fuzz(func(t *testing.T, file []byte) {
		err := checkSafetensors(bytes.NewReader(file), int64(len(file)))
		if err != nil && !errors.Is(err, store.ErrDamaged) && !errors.Is(err, errNotNumbers) {
			t.Error(err)
		}
	})
}
