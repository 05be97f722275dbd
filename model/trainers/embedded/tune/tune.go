// Package tune trains vision-language models in the process: supervised fine-tuning and Direct Preference Optimization of
// folders in the layout of onnx-community's exports, with the gradients of package embedded. It registers the backend
// "embedded".
//
// # Design
//
// What is trained is what answers: the training graph is composed of the folder's own inference graphs (embeddings, vision
// encoder, decoder with an empty cache), and conversations are encoded by model/vlm as Chat does it. So nothing is known here of any
// model. Text rows and rows with pictures go through different graphs that share the weights; a batch is cut into
// chunks of equal shape, whose gradients add up.
//
// A job is a folder, Output/ID, so that its handle outlives every process:
//
//	job.json        the job; put if absent, so of two that start it one wins
//	lock            locked (flock) by the process that trains
//	attempts        a line for each time that the training was begun
//	reference.json  the log-probabilities of the answers under the start's weights, computed once (DPO)
//	checkpoint      weights and moments; the number of steps says where in which epoch they are from
//	log.jsonl       the metrics of each step, a line each
//	cancel          there if the job is to end
//	model           the result, which appears whole
//	end.json        how the job ended; put if absent, never changed
//
// Whoever starts a job or asks for its status while nobody trains it goes on with it, at its checkpoint; the weights are those
// of a job that was never disturbed, to the bit, on one type of CPU. A fault of the data or the model ends a job as failed. A fault
// of the world (disk, network) does not: Status returns it, once, and the next Status tries again.
//
// # Options
//
//	threads      of a run, 1
//	micro_batch  rows that a graph takes at a time, 4; larger batches are accumulated, more take memory and no less time
//	clip_norm    the largest norm of a step's gradients, 1; 0 does not clip
//	checkpoint   how often one is saved, 15s; 0s after every step
//	freeze       a regular expression of weights that stay, such as ^vision/
package tune

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/trainers/jobfolder"
)

func init() {
	model.Register("embedded", model.Backend{Trainer: open})
}

type trainer struct {
	Options
	clip  float64
	every time.Duration // between checkpoints
}

func open(_ context.Context, spec model.Spec) (model.Trainer, error) {
	t := &trainer{Options: Options{Threads: 1, MicroBatch: 4}, clip: 1, every: 15 * time.Second}
	known := map[string]func(string) error{
		"threads":     model.Positive(&t.Threads),
		"micro_batch": model.Positive(&t.MicroBatch),
		"clip_norm": func(s string) (err error) {
			if t.clip, err = strconv.ParseFloat(s, 64); err == nil && !(t.clip >= 0) {
				err = fmt.Errorf("%q is not 0 or more", s)
			}
			return err
		},
		"checkpoint": func(s string) (err error) { t.every, err = time.ParseDuration(s); return err },
		"freeze":     func(s string) (err error) { t.Freeze, err = regexp.Compile(s); return err },
	}
	err := model.ReadOptions(spec.Options, known)
	if spec.Model != "" {
		err = errors.Join(fmt.Errorf("%w: model: %q: leave it out; a job says what it trains", model.ErrConfig, spec.Model), err)
	}
	return t, err
}

// Info implements model.Trainer. Equal jobs give equal weights on one type of CPU; Weights tells what else they depend on.
func (t *trainer) Info() model.Info {
	how := fmt.Sprintf("embedded@1/threads%d/micro%d/clip%g", t.Threads, t.MicroBatch, t.clip)
	if t.Freeze != nil {
		how += "/freeze" + t.Freeze.String()
	}
	return model.Info{Name: "embedded", Weights: how, Deterministic: true}
}

// check reports all that can be known of a job to be wrong before it starts, and where its folder is.
func check(job model.TrainJob) (dir string, err error) {
	var errs []error
	fault := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("%w: train: job %s: %s", model.ErrConfig, job.ID, fmt.Sprintf(format, args...)))
		}
	}
	p := job.Params
	dpo := job.Method == model.MethodDPO
	upTo := func(v, high float64) bool { return v >= 0 && v <= high } // false for NaN
	fault(job.ID != "" && filepath.IsLocal(job.ID) && !strings.ContainsAny(job.ID, `/\`) && job.ID[0] != '.', "id: %q cannot be the name of a folder", job.ID)
	fault(dpo || job.Method == model.MethodSFT, "method: there is no %q here; there are %s and %s", job.Method, model.MethodSFT, model.MethodDPO)
	fault(len(job.Data) > 0, "data: there is none; an empty snapshot cannot be trained on")
	for name, u := range map[string]string{"start": job.Start, "output": job.Output} {
		path := jobfolder.Local(u)
		fault(path != "" && !strings.Contains(path, "://"), "%s: %q is not a folder on this machine", name, u)
	}
	fault(job.Weights != "", "weights: say which weights are in %s", job.Start)
	fault(p.Epochs >= 1, "params.epochs: %d is not 1 or more", p.Epochs)
	fault(p.BatchSize >= 1, "params.batch_size: %d is not 1 or more", p.BatchSize)
	fault(p.LearningRate > 0 && !math.IsInf(p.LearningRate, 0), "params.learning_rate: %v is not above 0", p.LearningRate)
	fault(upTo(p.WarmupFraction, 1), "params.warmup_fraction: %v is not in 0..1", p.WarmupFraction)
	fault(p.Beta1 < 1 && upTo(p.Beta1, 1), "params.beta1: %v is not in 0..1, 1 excluded", p.Beta1)
	fault(p.Beta2 < 1 && upTo(p.Beta2, 1), "params.beta2: %v is not in 0..1, 1 excluded", p.Beta2)
	fault(upTo(p.WeightDecay, math.MaxFloat64), "params.weight_decay: %v is not 0 or more", p.WeightDecay)
	fault(!dpo || p.DPOBeta > 0 && !math.IsInf(p.DPOBeta, 0), "params.dpo_beta: %v is not above 0", p.DPOBeta)
	fault(upTo(p.NLLAlpha, math.MaxFloat64), "params.nll_alpha: %v is not 0 or more", p.NLLAlpha)
	if err := errors.Join(errs...); err != nil {
		return "", err
	}
	return filepath.Abs(filepath.Join(jobfolder.Local(job.Output), job.ID))
}
