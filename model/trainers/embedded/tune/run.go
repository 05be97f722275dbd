package tune

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/onnx"
	"github.com/promptmill/promptmill/model/trainers/embedded"
	"github.com/promptmill/promptmill/model/trainers/jobfolder"
	"github.com/promptmill/promptmill/model/vlm"
	"github.com/promptmill/promptmill/store"
)

// run trains from where the job stands to its end.
func (j *job) run(ctx context.Context) (model.TrainStatus, error) {
	var none model.TrainStatus
	if err := onnx.Start(); err != nil {
		return none, err
	}
	start := jobfolder.Local(j.TrainJob.Start)
	have, err := vlm.Digest(start, "")
	if err != nil {
		return none, fail(fmt.Errorf("the model to start from: %w", err))
	}
	if have != j.Weights {
		return none, fail(fmt.Errorf("stale weights: the job is for %s, but in %s there are %s", j.Weights, start, have))
	}
	m, err := vlm.Open(ctx, start, vlm.Options{Options: onnx.Options{Threads: j.Threads}, Parallel: 1})
	if err != nil {
		return none, fail(err)
	}
	defer m.Close()
	e, err := m.Encoder(ctx)
	if err != nil {
		return none, fail(err)
	}
	if e.Tokens() > e.Logits() {
		return none, fail(fmt.Errorf("wrong tokenizer: tokenizer.json in %s has %d tokens, the model %d", start, e.Tokens(), e.Logits()))
	}
	rows, err := j.read(ctx, e)
	if err != nil {
		return none, err
	}
	p, err := OpenPolicy(start, e.Context(), j.Options)
	if err != nil {
		return none, fail(err)
	}
	defer p.Close()
	if j.Method == model.MethodDPO {
		if err := j.reference(ctx, p, rows); err != nil {
			return none, err
		}
	}
	last, err := j.steps(ctx, p, rows)
	if err != nil {
		return none, err
	}
	result := j.Path("model")
	if err := p.Write(result); err != nil {
		return none, err
	}
	status := last.status(model.TrainSucceeded)
	status.Checkpoint = result
	status.Weights, err = vlm.Digest(result, "")
	return status, err
}

// reference gives each row the log-probabilities of its answers under the start's weights, from the file of an attempt before
// if there is one.
func (j *job) reference(ctx context.Context, p *Policy, rows []Row) error {
	var logp [][]float32
	data, _, err := j.Store.Read(ctx, "reference.json")
	switch {
	case err == nil:
		err = json.Unmarshal(data, &logp)
	case errors.Is(err, store.ErrNotExist):
		for part := range slices.Chunk(rows, 512) { // as many as one may wait for when it is cancelled
			if j.CancelAsked() {
				return errCancelled
			}
			l, err := p.LogProbs(ctx, part)
			if err != nil {
				return fail(err)
			}
			logp = append(logp, l...)
		}
		if data, err = json.Marshal(logp); err != nil { // NaN is no JSON
			return fail(fmt.Errorf("log-probabilities of the start: %w: its weights are not numbers", err))
		}
		err = j.Store.PutIfAbsent(ctx, "reference.json", data)
	}
	if err != nil {
		return err
	}
	if len(logp) != len(rows) {
		return fail(fmt.Errorf("reference.json has %d rows, the data %d: they changed since the job began", len(logp), len(rows)))
	}
	for i := range rows {
		rows[i].Reference = logp[i]
	}
	return nil
}

// steps takes the steps that are left and returns the last one.
func (j *job) steps(ctx context.Context, p *Policy, rows []Row) (logLine, error) {
	params := p.Params()
	switch err := params.Load(j.Path("checkpoint")); {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, embedded.ErrCheckpoint): // a damaged one: from the start, the result is the same
	case err != nil:
		return logLine{}, err
	}
	if err := errors.Join(j.rewind(int(params.Steps())), j.sweep()); err != nil {
		return logLine{}, err
	}
	size := min(j.Params.BatchSize, len(rows))
	each := (len(rows) + size - 1) / size
	total := each * j.Params.Epochs
	schedule := embedded.Schedule{
		Peak: j.Params.LearningRate, Steps: int64(total), Warmup: int64(math.Ceil(j.Params.WarmupFraction * float64(total))),
	}
	how := embedded.AdamW{Beta1: j.Params.Beta1, Beta2: j.Params.Beta2, WeightDecay: j.Params.WeightDecay, ClipNorm: j.clip}
	objective := Objective{Method: j.Method, Beta: j.Params.DPOBeta, NLLAlpha: j.Params.NLLAlpha}
	saved := time.Now()
	for done := int(params.Steps()); done < total; done++ {
		if err := ctx.Err(); err != nil {
			return logLine{}, err
		}
		if j.CancelAsked() {
			return logLine{}, errCancelled
		}
		epoch := done / each
		order := rand.New(rand.NewPCG(uint64(j.Params.Seed), uint64(epoch))).Perm(len(rows))
		from := done % each * size
		var batch []Row
		for _, i := range order[from:min(from+size, len(rows))] {
			batch = append(batch, rows[i])
		}
		rate := schedule.Rate(int64(done))
		metrics, err := p.Step(ctx, objective, batch, how, rate)
		if err != nil {
			return logLine{}, fail(fmt.Errorf("step %d of %d: %w", done+1, total, err))
		}
		// The log is written first: a checkpoint never stands for a step without its line.
		if err := j.log(logLine{done + 1, total, epoch, rate, metrics}); err != nil {
			return logLine{}, err
		}
		if time.Since(saved) >= j.every || done+1 == total {
			if err := params.Save(j.Path("checkpoint")); err != nil {
				return logLine{}, err
			}
			saved = time.Now()
		}
	}
	last, err := j.lastStep()
	if errors.Is(err, os.ErrNotExist) { // the machine lost it after the last checkpoint
		return logLine{Step: total, Steps: total}, nil
	}
	return last, err
}

// sweep removes checkpoints that an attempt did not finish.
func (j *job) sweep() error {
	left, err := filepath.Glob(j.Path("checkpoint.*.tmp"))
	for _, path := range left {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}
