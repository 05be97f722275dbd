package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/onnx/build"
	"github.com/promptmill/promptmill/model/onnx/onnxfile"
	"github.com/promptmill/promptmill/model/trainers/embedded"
	"github.com/promptmill/promptmill/model/trainers/embedded/tune"
)

// The decoder that is trained has 1.3 million parameters: it and the batch are those of bench/python/train.py.
const (
	trainWidth, trainLayers, trainHeads, trainVocabulary = 128, 4, 4, 4096
	trainPairs, trainPrompt, trainAnswer                 = 8, 32, 32
	trainSteps                                           = 30
)

// A trainResult is what a child prints.
type trainResult struct {
	CPU        float64 `json:"cpu_ms"` // the median of a step
	Loss       float64 `json:"loss"`
	Parameters int     `json:"parameters"`
	Tool       string  `json:"tool"`
}

// benchTrain times a DPO step of the embedded trainer and of PyTorch on one thread each, in processes of their own.
func benchTrain(ctx context.Context, python string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	fmt.Printf("train: a DPO step, %d pairs of %d tokens, stored reference, one thread; median of %d\n", trainPairs, trainPrompt+trainAnswer, trainSteps)
	fmt.Printf("  %-22s %12s %12s %9s %10s\n", "", "parameters", "CPU ms/step", "peak MB", "last loss")
	row := func(cmd *exec.Cmd) (r trainResult, c cost, err error) {
		out, c, err := measured(cmd)
		if err == nil {
			err = json.Unmarshal(lastLine(out), &r)
		}
		if err == nil {
			fmt.Printf("  %-22s %12d %12.1f %9.0f %10.4f\n", r.Tool, r.Parameters, r.CPU, c.rssMB, r.Loss)
		}
		return r, c, err
	}
	ours, cost, err := row(exec.CommandContext(ctx, self, "train-child"))
	if err != nil {
		return err
	}
	if why := lacks(ctx, python, "torch"); why != "" {
		fmt.Printf("  PyTorch: not executed: %s\n\n", why)
		return nil
	}
	torch, torchCost, err := row(exec.CommandContext(ctx, python, filepath.Join("bench", "python", "train.py"), strconv.Itoa(trainSteps)))
	if err != nil {
		return err
	}
	fmt.Printf("  ratio, promptmill / PyTorch: CPU %.2f, memory %.2f\n\n", ours.CPU/torch.CPU, cost.rssMB/torchCost.rssMB)
	return nil
}

// lacks says why Python modules cannot be imported, if so.
func lacks(ctx context.Context, python, modules string) string {
	out, err := exec.CommandContext(ctx, python, "-c", "import "+modules).CombinedOutput()
	if err == nil {
		return ""
	}
	if text := strings.TrimSpace(string(out)); text != "" {
		return fmt.Sprintf("%s: %s; name another with -python", python, lastLine(out))
	}
	return fmt.Sprintf("%v; name a Python with -python", err)
}

// trainChild trains and prints a trainResult.
func trainChild(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "promptmill-bench-train-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for name, m := range map[string]*onnxfile.Model{"embed_tokens": trainEmbedding(), "vision_encoder": trainVision(), "decoder_model_merged": trainDecoder()} {
		if err := os.WriteFile(filepath.Join(dir, name+".onnx"), m.Marshal(), 0o644); err != nil {
			return err
		}
	}
	p, err := tune.OpenPolicy(dir, 0, tune.Options{Threads: 1, MicroBatch: trainPairs})
	if err != nil {
		return err
	}
	defer p.Close()
	rng := rand.New(rand.NewPCG(1, 0))
	tokens := func(n int) []int32 {
		ids := make([]int32, n)
		for i := range ids {
			ids[i] = rng.Int32N(trainVocabulary)
		}
		return ids
	}
	var batch []tune.Row
	for range trainPairs {
		batch = append(batch, tune.Row{Prompt: tokens(trainPrompt), Answers: [][]int32{tokens(trainAnswer), tokens(trainAnswer)}})
	}
	reference, err := p.LogProbs(ctx, batch)
	if err != nil {
		return err
	}
	for i := range batch {
		batch[i].Reference = reference[i]
	}
	var times []float64
	r := trainResult{Parameters: p.Params().Count(), Tool: "promptmill embedded"}
	for range trainSteps {
		begin := cpuTime()
		m, err := p.Step(ctx, tune.Objective{Method: model.MethodDPO, Beta: .1}, batch, embedded.AdamW{Beta1: .9, Beta2: .999, ClipNorm: 1}, 1e-4)
		if err != nil {
			return err
		}
		times = append(times, float64((cpuTime()-begin).Microseconds())/1000)
		r.Loss = m["loss"]
	}
	times = times[2:] // the first one compiles
	slices.Sort(times)
	r.CPU = times[len(times)/2]
	return json.NewEncoder(os.Stdout).Encode(r)
}

// cpuTime is what this process has used, in all threads.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // it has no way to fail for oneself
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// trainNet draws weights in a graph.
type trainNet struct {
	*build.Builder
	rng *rand.Rand
}

func newTrainNet() trainNet { return trainNet{build.New(), rand.New(rand.NewPCG(7, 0))} }

func (n trainNet) op(op string, in ...string) string { return n.Op(op, in) }

func (n trainNet) weight(name string, std, mean float64, dims ...int64) string {
	size := int64(1)
	for _, d := range dims {
		size *= d
	}
	data := make([]float32, size)
	for i := range data {
		data[i] = float32(mean + std*n.rng.NormFloat64())
	}
	return n.Param(name, dims, data)
}

// table is drawn first in each graph that has it, so it is the same in both: the head is tied to the embeddings.
func (n trainNet) table() string { return n.weight("table", .02, 0, trainVocabulary, trainWidth) }

func (n trainNet) norm(x, name string) string {
	return n.op("LayerNormalization", x, n.weight(name+".scale", 0, 1, trainWidth), n.weight(name+".bias", 0, 0, trainWidth))
}

func (n trainNet) linear(x, name string, from, to int64) string {
	return n.op("Add", n.op("MatMul", x, n.weight(name, .5/math.Sqrt(float64(from)), 0, from, to)), n.weight(name+".bias", 0, 0, to))
}

func trainEmbedding() *onnxfile.Model {
	n := newTrainNet()
	x := n.op("Gather", n.table(), n.Input("input_ids", onnxfile.Int64, "batch", "length"))
	n.Output("inputs_embeds", x, onnxfile.Float, "batch", "length", trainWidth)
	return n.Model()
}

// trainVision is there because a folder has one; no row has pictures.
func trainVision() *onnxfile.Model {
	n := newTrainNet()
	x := n.op("Reshape", n.Input("pixel_values", onnxfile.Float, "batch", 3, 8, 8), n.Ints(-1, 1, 192))
	n.Output("image_features", n.op("Slice", x, n.Ints(0), n.Ints(trainWidth), n.Ints(2)), onnxfile.Float, "batch", 1, trainWidth)
	return n.Model()
}

func trainDecoder() *onnxfile.Model {
	const reach = trainWidth / trainHeads
	n := newTrainNet()
	table := n.table()
	x := n.Input("inputs_embeds", onnxfile.Float, "batch", "length", trainWidth)
	at := n.Input("position_ids", onnxfile.Int64, "batch", "length")
	keep := n.Input("num_logits_to_keep", onnxfile.Int64, 1)
	x = n.op("Add", x, n.op("Gather", n.weight("positions", .02, 0, trainPrompt+trainAnswer, trainWidth), at))
	// What comes later is hidden: positions are those of all tokens, for there is no cache here.
	seen := n.op("LessOrEqual", n.op("Unsqueeze", at, n.Ints(1)), n.op("Unsqueeze", at, n.Ints(2)))
	bias := n.op("Unsqueeze", n.op("Where", seen, n.Scalar(0), n.Scalar(-1e9)), n.Ints(1))
	for i := range trainLayers {
		name := func(s string) string { return fmt.Sprintf("%d.%s", i, s) }
		qkv := n.Ops("Split", 3, []string{n.linear(n.norm(x, name("norm1")), name("qkv"), trainWidth, 3*trainWidth)}, build.Int("axis", -1))
		for j, perm := range [][]int64{{0, 2, 1, 3}, {0, 2, 3, 1}, {0, 2, 1, 3}} {
			qkv[j] = n.Op("Transpose", []string{n.op("Reshape", qkv[j], n.Ints(0, 0, trainHeads, reach))}, build.Ints("perm", perm...))
		}
		scores := n.op("Add", n.op("MatMul", n.op("Mul", qkv[0], n.Scalar(float32(1/math.Sqrt(reach)))), qkv[1]), bias)
		y := n.op("MatMul", n.Op("Softmax", []string{scores}, build.Int("axis", -1)), qkv[2])
		y = n.op("Reshape", n.Op("Transpose", []string{y}, build.Ints("perm", 0, 2, 1, 3)), n.Ints(0, 0, trainWidth))
		x = n.op("Add", x, n.linear(y, name("out"), trainWidth, trainWidth))
		up := n.linear(n.norm(x, name("norm2")), name("up"), trainWidth, 4*trainWidth)
		x = n.op("Add", x, n.linear(n.op("Mul", up, n.op("Sigmoid", up)), name("down"), 4*trainWidth, trainWidth))
	}
	x = n.op("Slice", x, n.op("Neg", keep), n.Ints(1<<40), n.Ints(1))
	logits := n.op("MatMul", n.norm(x, "norm"), n.Op("Transpose", []string{table}, build.Ints("perm", 1, 0)))
	n.Output("logits", logits, onnxfile.Float, "batch", "kept", trainVocabulary)
	return n.Model()
}
