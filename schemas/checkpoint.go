package schemas

import "strconv"

// A Checkpoint is what one training made of what: the part that another run of the same training, on the
// same kind of machine, has too.
type Checkpoint struct {
	// Weights identifies the checkpoint, Start the weights that it was trained from.
	Weights string `json:"weights" parquet:"weights,optional,zstd"`
	Start   string `json:"start" parquet:"start,optional,zstd"`
	// Method is sft or dpo.
	Method string `json:"method" parquet:"method,optional,zstd"`
	// Data is the digest of the configuration that was trained on, Rows how many rows that has.
	Data string `json:"data" parquet:"data,optional,zstd"`
	Rows int64  `json:"rows" parquet:"rows,optional"`
	// Steps is how many optimiser steps were taken. What follows are the hyperparameters.
	Steps          int64   `json:"steps" parquet:"steps,optional"`
	Epochs         int64   `json:"epochs" parquet:"epochs,optional"`
	BatchSize      int64   `json:"batch_size" parquet:"batch_size,optional"`
	LearningRate   float64 `json:"learning_rate" parquet:"learning_rate,optional"`
	WarmupFraction float64 `json:"warmup_fraction" parquet:"warmup_fraction,optional"`
	Beta1          float64 `json:"beta1" parquet:"beta1,optional"`
	Beta2          float64 `json:"beta2" parquet:"beta2,optional"`
	WeightDecay    float64 `json:"weight_decay" parquet:"weight_decay,optional"`
	DPOBeta        float64 `json:"dpo_beta" parquet:"dpo_beta,optional"`
	NLLAlpha       float64 `json:"nll_alpha" parquet:"nll_alpha,optional"`
	Seed           int64   `json:"seed" parquet:"seed,optional"`
}

// A Training is how a checkpoint came about, and where it is: true of one run on one machine.
type Training struct {
	// Weights is the Checkpoint's.
	Weights string `json:"weights" parquet:"weights,optional,zstd"`
	// Job is the id of the job, Handle the trainer's name for it, Trainer who trained.
	Job     string `json:"job" parquet:"job,optional,zstd"`
	Handle  string `json:"handle" parquet:"handle,optional,zstd"`
	Trainer string `json:"trainer" parquet:"trainer,optional,zstd"`
	// Location is where the checkpoint is, Log where the trainer writes what it does: its output folder.
	Location string `json:"location" parquet:"location,optional,zstd"`
	Log      string `json:"log" parquet:"log,optional,zstd"`
	// Metrics are the trainer's last values, by name.
	Metrics []Metric `json:"metrics" parquet:"metrics,optional,list" parquet-element:",optional"`
}

// A Metric is a named value.
type Metric struct {
	Name  string  `json:"name" parquet:"name,optional,zstd"`
	Value float64 `json:"value" parquet:"value,optional"`
}

// A Measurement is one text that a system made of a held-out prompt, its picture, and the scores of that.
type Measurement struct {
	// ID is MeasurementID(System, Decoding, PromptID, Draw).
	ID       string `json:"id" parquet:"id,optional,zstd"`
	PromptID string `json:"prompt_id" parquet:"prompt_id,optional,zstd"`
	// System is who wrote Text (original, tags1, sft, dpo1), Decoding how it was drawn: sampled, beam, or
	// fixed where there is nothing to draw.
	System   string `json:"system" parquet:"system,optional,dict,zstd"`
	Decoding string `json:"decoding" parquet:"decoding,optional,dict,zstd"`
	// Draw counts the repetitions with other seeds, from 0.
	Draw int32  `json:"draw" parquet:"draw,optional"`
	Text string `json:"text" parquet:"text,optional,zstd"`
	// Policy is the identity of the model that wrote it, "" if none did.
	Policy string `json:"policy" parquet:"policy,optional,dict,zstd"`
	// Image is zero where no picture was asked for.
	Image  ImageRef `json:"image" parquet:"image,optional"`
	Scores []Metric `json:"scores" parquet:"scores,optional,list" parquet-element:",optional"`
}

// MeasurementID is the content hash of a measurement's place.
func MeasurementID(system, decoding, promptID string, draw int32) string {
	return hashID("measurement", system, decoding, promptID, strconv.Itoa(int(draw)))
}

// RowKey is the weights.
func (r Checkpoint) RowKey() string { return r.Weights }

// RowTie is the data.
func (r Checkpoint) RowTie() string { return tie(r.Method, r.Data) }

// RowKey is the weights.
func (r Training) RowKey() string { return r.Weights }

// RowTie is the job.
func (r Training) RowTie() string { return tie(r.Job, r.Handle) }

// RowKey is the prompt's ID: the measurements of one prompt stand side by side.
func (r Measurement) RowKey() string { return r.PromptID }

// RowTie is the system, the decoding and the draw.
func (r Measurement) RowTie() string { return tie(r.System, r.Decoding, r.ID) }

// Validate wants weights other than those of the start, data, and hyperparameters that are numbers.
func (r Checkpoint) Validate() error {
	f := faultsOf("checkpoint", r.Weights)
	f.text("start", r.Start)
	f.text("method", r.Method)
	f.text("data", r.Data)
	f.atLeast("rows", r.Rows, 1)
	if r.Weights == r.Start {
		f.add("weights", "those of the start")
	}
	for name, x := range map[string]float64{
		"learning_rate": r.LearningRate, "warmup_fraction": r.WarmupFraction, "beta1": r.Beta1, "beta2": r.Beta2,
		"weight_decay": r.WeightDecay, "dpo_beta": r.DPOBeta, "nll_alpha": r.NLLAlpha,
	} {
		f.finite(name, x)
	}
	return f.err()
}

// Validate wants weights, a job and a location.
func (r Training) Validate() error {
	f := faultsOf("training", r.Weights)
	f.text("job", r.Job)
	f.text("location", r.Location)
	f.utf8("handle", r.Handle)
	f.utf8("trainer", r.Trainer)
	f.utf8("log", r.Log)
	f.metrics("metrics", r.Metrics)
	return f.err()
}

// Validate wants ids, a system, a text and scores that are numbers.
func (r Measurement) Validate() error {
	f := faultsOf("measurement", r.ID)
	f.text("prompt_id", r.PromptID)
	f.text("system", r.System)
	f.text("decoding", r.Decoding)
	f.text("text", r.Text)
	f.utf8("policy", r.Policy)
	f.utf8("image", r.Image.SHA256)
	f.atLeast("draw", int64(r.Draw), 0)
	f.metrics("scores", r.Scores)
	return f.err()
}

func (f *faults) metrics(field string, metrics []Metric) {
	for _, m := range metrics {
		f.text(field, m.Name)
		f.finite(field+"."+m.Name, m.Value)
	}
}
