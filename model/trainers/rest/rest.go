// Package rest trains on fine-tuning endpoints with OpenAI's wire format: files and fine-tuning jobs,
// supervised and dpo. It registers the backend "rest".
//
// # Design
//
// The rows are uploaded once and a job is made of them once, whoever asks: below the job's output folder,
// in rest/ID/, the id of the file and then that of the job are stored put-if-absent, and one starter at a
// time holds a lease there. The endpoint itself has no idempotent way to make a job, so the file's id,
// stored before, tells which jobs are ours: a job that was made although its answer was lost is found in
// the endpoint's list, and if a retry made two, all but one are cancelled.
//
// The handle is the endpoint's id of the job. Status asks the endpoint; retries, backoff and limits are guard's.
//
// What the endpoint decides for itself cannot be set: warm-up, weight decay, AdamW's betas, and the
// learning rate but for a multiplier. An NLL term is refused rather than forgotten.
//
// # Options
//
//	prefix                    path below the endpoint: "/v1" unless given
//	learning_rate_multiplier  a number; the endpoint's own choice unless given
//	suffix                    a part of the new model's name
package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime/multipart"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/guard"
	"github.com/promptmill/promptmill/model/trainers/dataset"
	"github.com/promptmill/promptmill/store"
)

func init() {
	model.Register("rest", model.Backend{Trainer: open})
}

type trainer struct {
	client         *guard.Client
	prefix, suffix string
	// multiplier is 0 where the endpoint chooses.
	multiplier float64
	revision   string
	info       model.Info
}

func open(_ context.Context, spec model.Spec) (model.Trainer, error) {
	prefix, err := guard.Options(spec, "/v1", "prefix", "learning_rate_multiplier", "suffix")
	errs := []error{err}
	var multiplier float64
	if text, given := spec.Options["learning_rate_multiplier"]; given {
		if multiplier, err = strconv.ParseFloat(text, 64); err != nil || !(multiplier > 0 && multiplier < 1e6) {
			errs = append(errs, fmt.Errorf("%w: option learning_rate_multiplier: %q is not a number above 0; leave it out for the endpoint's choice", model.ErrConfig, text))
		}
	}
	client, err := guard.Open(spec)
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, err
	}
	return &trainer{
		client: client, prefix: prefix, suffix: spec.Options["suffix"], multiplier: multiplier, revision: spec.Revision,
		info: model.Info{Name: strings.TrimSpace("rest " + spec.Model), Weights: "rest@" + spec.Model + "@" + spec.Revision},
	}, nil
}

// Info implements model.Trainer.
func (t *trainer) Info() model.Info { return t.info }

// check refuses what this kind of endpoint cannot do.
func check(job model.TrainJob) error {
	var errs []error
	fault := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: train: job %s: %s", model.ErrConfig, job.ID, fmt.Sprintf(format, args...)))
	}
	if job.ID == "" {
		fault("it has no ID")
	}
	if job.Method != model.MethodSFT && job.Method != model.MethodDPO {
		fault("method %q is neither sft nor dpo", job.Method)
	}
	if len(job.Data) == 0 {
		fault("it has no data; an empty snapshot cannot be trained on")
	}
	if job.Start == "" {
		fault("it names no model to start from")
	}
	if p := job.Params; p.Epochs < 1 || p.BatchSize < 1 {
		fault("epochs %d and batch_size %d must be at least 1", p.Epochs, p.BatchSize)
	}
	if job.Params.NLLAlpha != 0 {
		fault("nll_alpha %v: fine-tuning endpoints have no such term; set it to 0, or train with TRL", job.Params.NLLAlpha)
	}
	return errors.Join(errs...)
}

// Start implements model.Trainer. The handle is the endpoint's id of the job. Where someone else is
// starting the same job it waits for that.
func (t *trainer) Start(ctx context.Context, job model.TrainJob) (string, error) {
	if err := errors.Join(ctx.Err(), check(job)); err != nil {
		return "", err
	}
	st, err := store.Open(ctx, job.Output)
	if err != nil {
		return "", err
	}
	r := record{store: st, folder: path.Join("rest", job.ID)}
	handle, err := r.read(ctx, "job.json")
	if err != nil || handle != "" {
		return handle, err
	}
	held, release, err := r.acquire(ctx)
	if err != nil {
		return "", fmt.Errorf("train: job %s: %w", job.ID, err)
	}
	defer release()
	handle, err = t.startLeased(held, job, r)
	if err != nil {
		return "", fmt.Errorf("train: job %s: %w", job.ID, err)
	}
	return handle, nil
}

func (t *trainer) startLeased(ctx context.Context, job model.TrainJob, r record) (string, error) {
	handle, err := r.read(ctx, "job.json")
	if err != nil || handle != "" {
		return handle, err
	}
	file, err := r.read(ctx, "file.json")
	if err != nil {
		return "", err
	}
	if file == "" {
		if file, err = t.upload(ctx, job); err != nil {
			return "", err
		}
		if file, err = r.write(ctx, "file.json", file); err != nil {
			return "", err
		}
	}
	made, err := t.madeOf(ctx, file)
	if err != nil {
		return "", err
	}
	if len(made) == 0 {
		j, err := t.create(ctx, job, file)
		if err != nil {
			return "", err
		}
		// A try whose answer was lost may have made another.
		if made, err = t.madeOf(ctx, file); err != nil {
			return "", err
		}
		if len(made) == 0 {
			made = []wireJob{j}
		}
	}
	handle, err = r.write(ctx, "job.json", made[0].ID)
	if err != nil {
		return "", err
	}
	for _, j := range made {
		if j.ID != handle && !j.ended() {
			if err := t.Cancel(ctx, j.ID); err != nil {
				return "", fmt.Errorf("cancel the twin %s: %w", j.ID, err)
			}
		}
	}
	return handle, nil
}

// upload sends the rows as one JSONL file and returns its id.
func (t *trainer) upload(ctx context.Context, job model.TrainJob) (string, error) {
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	if err := form.WriteField("purpose", "fine-tune"); err != nil {
		return "", err
	}
	part, err := form.CreateFormFile("file", job.Method+".jsonl")
	if err != nil {
		return "", err
	}
	rows := 0
	for row, err := range dataset.Read(ctx, job.Data) {
		if err == nil && row.Preference != (job.Method == model.MethodDPO) {
			err = fmt.Errorf("%w: %s: method %s trains on %s", model.ErrConfig, row, job.Method, map[bool]string{true: "preference pairs", false: "conversations"}[!row.Preference])
		}
		if err != nil {
			return "", err
		}
		line, err := dataset.Encode(dataset.OpenAI, row, nil)
		if err != nil {
			return "", fmt.Errorf("%w: %w", model.ErrRejected, err)
		}
		if _, err := part.Write(append(line, '\n')); err != nil {
			return "", err
		}
		rows++
	}
	if rows == 0 {
		return "", fmt.Errorf("%w: the data hold no rows", model.ErrConfig)
	}
	if err := form.Close(); err != nil {
		return "", err
	}
	var answer struct {
		ID string `json:"id"`
	}
	_, err = t.client.Upload(ctx, t.prefix+"/files", form.FormDataContentType(), body.Bytes(), func(b []byte) error {
		return decode(b, &answer, func() string { return answer.ID })
	})
	return answer.ID, err
}

// madeOf lists the jobs of a training file, oldest first. An endpoint without a list has none.
func (t *trainer) madeOf(ctx context.Context, file string) ([]wireJob, error) {
	var made []wireJob
	for after := ""; ; {
		var page struct {
			Data    []wireJob `json:"data"`
			HasMore bool      `json:"has_more"`
		}
		_, err := t.client.Get(ctx, t.prefix+"/fine_tuning/jobs?limit=100"+after, func(b []byte) error {
			page.Data, page.HasMore = nil, false
			return decode(b, &page, nil)
		})
		if s, ok := errors.AsType[*guard.StatusError](err); ok && (s.Code == http.StatusNotFound || s.Code == http.StatusMethodNotAllowed) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		for _, j := range page.Data {
			if j.TrainingFile == file && j.ID != "" {
				made = append(made, j)
			}
		}
		if !page.HasMore || len(page.Data) == 0 {
			break
		}
		next := "&after=" + page.Data[len(page.Data)-1].ID
		if next == after {
			break
		}
		after = next
	}
	slices.SortFunc(made, func(a, b wireJob) int {
		if a.CreatedAt != b.CreatedAt {
			return int(a.CreatedAt - b.CreatedAt)
		}
		return strings.Compare(a.ID, b.ID)
	})
	return made, nil
}

func (t *trainer) create(ctx context.Context, job model.TrainJob, file string) (wireJob, error) {
	h := hyperparameters{Epochs: job.Params.Epochs, BatchSize: job.Params.BatchSize, Multiplier: t.multiplier}
	q := wireRequest{Model: job.Start, TrainingFile: file, Suffix: t.suffix, Seed: job.Params.Seed & (1<<31 - 1)}
	if job.Method == model.MethodDPO {
		h.Beta = job.Params.DPOBeta
		q.Method = wireMethod{Type: "dpo", DPO: &wireHyper{h}}
	} else {
		q.Method = wireMethod{Type: "supervised", Supervised: &wireHyper{h}}
	}
	body, err := json.Marshal(q)
	if err != nil {
		return wireJob{}, fmt.Errorf("%w: %w", model.ErrConfig, err) // an infinite beta, say
	}
	var j wireJob
	_, err = t.client.Post(ctx, t.prefix+"/fine_tuning/jobs", body, func(b []byte) error {
		return decode(b, &j, func() string { return j.ID })
	})
	return j, err
}
