package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/diffusion"
	"github.com/promptmill/promptmill/model/tiny"
	"github.com/promptmill/promptmill/model/vlm"
)

// inferTime is how long a child repeats a batch, at least; inferPairs is how often the two sides take turns.
const (
	inferTime  = 3 * time.Second
	inferPairs = 5
)

// An inferResult is what a child prints: how many pictures or tokens a second of processor time it makes.
type inferResult struct {
	PerCPU float64 `json:"per_cpu_s"`
}

// answerTokens is how long every answer is.
const answerTokens = 40

// benchInfer runs the embedded models on one thread beside onnxruntime in Python on the same files: pictures of 20 steps
// with guidance, and greedy tokens of 40 after a prompt of 32, for 1, 8 and 64 requests at a time, which Python runs as
// one batch and promptmill as its defaults say. No answer ends before: those that
// do leave a batch that is smaller and prompts that were read for fewer tokens, which is other work than Python's. The two
// take turns and the medians are printed: what else the machine does meets both.
func benchInfer(ctx context.Context, python string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	fmt.Println("infer: the embedded models on one thread, by seconds of processor time; ratio to onnxruntime in Python on the same files")
	why := lacks(ctx, python, "onnxruntime, numpy")
	fmt.Printf("  %-22s %7s %12s %12s %7s\n", "", "at once", "promptmill", "Python", "ratio")
	for _, what := range []string{"pictures", "tokens"} {
		folder, err := tiny.Folder(map[string]string{"pictures": tiny.T2I, "tokens": tiny.SFT}[what])
		if err != nil {
			return err
		}
		if what == "tokens" {
			endless, err := withoutEnd(folder)
			if err != nil {
				return err
			}
			defer os.RemoveAll(endless)
			folder = endless
		}
		for _, batch := range []string{"1", "8", "64"} {
			var ours, theirs, ratios []float64
			for range inferPairs {
				n, err := inferred(exec.CommandContext(ctx, self, "infer-child", what, folder, batch))
				if err != nil {
					return err
				}
				ours = append(ours, n)
				if why != "" {
					continue
				}
				m, err := inferred(exec.CommandContext(ctx, python, filepath.Join("bench", "python", "infer.py"), what, folder, batch))
				if err != nil {
					return err
				}
				theirs, ratios = append(theirs, m), append(ratios, n/m)
			}
			if why != "" {
				fmt.Printf("  %-22s %7s %12.1f\n", what+" a CPU second", batch, median(ours))
				continue
			}
			fmt.Printf("  %-22s %7s %12.1f %12.1f %7.2f  (%.2f to %.2f)\n", what+" a CPU second", batch, median(ours), median(theirs),
				median(ratios), slices.Min(ratios), slices.Max(ratios))
		}
	}
	if why != "" {
		fmt.Printf("  Python: not executed: %s\n", why)
	}
	fmt.Println()
	return nil
}

// median is the middle one, of an odd number.
func median(v []float64) float64 { return slices.Sorted(slices.Values(v))[len(v)/2] }

// withoutEnd copies a folder and makes the padding token what ends an answer: one that no answer has.
func withoutEnd(folder string) (string, error) {
	dir, err := os.MkdirTemp("", "promptmill-bench-infer-")
	if err != nil {
		return "", err
	}
	if err = os.CopyFS(dir, os.DirFS(folder)); err == nil {
		err = os.WriteFile(filepath.Join(dir, "generation_config.json"), []byte(`{"eos_token_id": 0}`), 0o644)
	}
	if err != nil {
		return "", errors.Join(err, os.RemoveAll(dir))
	}
	return dir, nil
}

func inferred(cmd *exec.Cmd) (float64, error) {
	out, _, err := measured(cmd)
	if err != nil {
		return 0, err
	}
	var r inferResult
	if err := json.Unmarshal(lastLine(out), &r); err != nil {
		return 0, fmt.Errorf("%s: %w: %s", cmd.Args[0], err, out)
	}
	return r.PerCPU, nil
}

// inferChild repeats batches and prints an inferResult. Pictures are PNG in the end, tokens text: what a pipeline gets.
func inferChild(ctx context.Context, what, folder, size string) error {
	batch, err := strconv.Atoi(size)
	if err != nil {
		return err
	}
	var one func(i int) (int, error)
	switch what {
	case "pictures":
		m, err := diffusion.Open(folder, diffusion.Options{})
		if err != nil {
			return err
		}
		one = func(i int) (int, error) {
			_, err := m.Draw(ctx, model.ImageRequest{Prompt: fmt.Sprintf("a red castle number %d, highly detailed", i), Width: 32, Height: 32, Steps: 20, Guidance: 2, Seed: int64(i)})
			return 1, err
		}
	case "tokens":
		m, err := vlm.Open(ctx, folder, vlm.Options{Parallel: 1})
		if err != nil {
			return err
		}
		one = func(i int) (int, error) {
			r, err := m.Chat(ctx, model.ChatRequest{
				Messages: []model.Message{model.Text("system", "rewrite"), model.Text("user", fmt.Sprintf("a red castle number %d", i))},
				Sampling: model.Sampling{MaxTokens: answerTokens}, N: 1,
			})
			if n := r.Usage.CompletionTokens; err == nil && n != answerTokens {
				return 0, fmt.Errorf("an answer ended after %d tokens, want %d", n, answerTokens)
			}
			return r.Usage.CompletionTokens, err
		}
	default:
		return fmt.Errorf("infer %q: there are pictures and tokens", what)
	}
	round := func() (int, error) {
		var wg sync.WaitGroup
		made, errs := make([]int, batch), make([]error, batch)
		for i := range batch {
			wg.Go(func() { made[i], errs[i] = one(i) })
		}
		wg.Wait()
		total := 0
		for i := range batch {
			if errs[i] != nil {
				return 0, errs[i]
			}
			total += made[i]
		}
		return total, nil
	}
	if _, err := round(); err != nil { // memory is taken in the first
		return err
	}
	total := 0
	for begin, start := cpuTime(), time.Now(); ; {
		n, err := round()
		if err != nil {
			return err
		}
		if total += n; time.Since(start) > inferTime {
			return json.NewEncoder(os.Stdout).Encode(inferResult{float64(total) / (cpuTime() - begin).Seconds()})
		}
	}
}
