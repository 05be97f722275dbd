package model

import "context"

// Methods of training.
const (
	// MethodSFT is supervised fine-tuning on chat rows.
	MethodSFT = "sft"
	// MethodDPO is direct preference optimisation (Rafailov et al. 2023) on preference pairs.
	MethodDPO = "dpo"
)

// A TrainJob says what to train on what. It is plain data.
type TrainJob struct {
	// ID names the job for good: whoever starts it again gets the job that is there.
	ID string
	// Method is MethodSFT or MethodDPO.
	Method string
	// Data are the URLs of the Parquet shards of a committed snapshot, Digest that snapshot's.
	Data   []string
	Digest string
	// Start names the checkpoint to start from; for DPO it is the reference too. Weights is its identity.
	Start   string
	Weights string
	// Output is the URL of the folder that receives the checkpoint.
	Output string
	Params TrainParams
}

// TrainParams are the hyperparameters of a TrainJob (paper 4.1).
type TrainParams struct {
	Epochs    int
	BatchSize int
	// LearningRate is the highest rate; it is reached after WarmupFraction of the steps and falls as
	// a cosine.
	LearningRate   float64
	WarmupFraction float64
	// Beta1, Beta2 and WeightDecay are AdamW's.
	Beta1, Beta2 float64
	WeightDecay  float64
	// DPOBeta is the strength of the reference, NLLAlpha the weight of the negative log-likelihood of the
	// chosen text, per token (0 in the paper).
	DPOBeta  float64
	NLLAlpha float64
	Seed     int64
}

// A TrainState is how far a job has come.
type TrainState string

// The states; a job ends in one of the last three and stays there.
const (
	TrainQueued    TrainState = "queued"
	TrainRunning   TrainState = "running"
	TrainSucceeded TrainState = "succeeded"
	TrainFailed    TrainState = "failed"
	TrainCancelled TrainState = "cancelled"
)

// A TrainStatus is what a trainer says about a job.
type TrainStatus struct {
	State TrainState
	// Step of Steps optimiser steps are done; Steps is 0 while unknown.
	Step, Steps int
	// Metrics are the newest values by name: loss, accuracy, margin.
	Metrics map[string]float64
	// Message says, for people, what happened last; for a failed job why, with the last lines of its log.
	Message string
	// Checkpoint and Weights are the result of a job that succeeded: where it is and its identity.
	Checkpoint string
	Weights    string
}

// Trainer runs training jobs. It is safe for concurrent use.
type Trainer interface {
	// Start begins a job and returns its handle, which outlives this process. If a job of this ID was
	// started before, by whomever, its handle is returned and nothing is trained twice.
	Start(ctx context.Context, job TrainJob) (handle string, err error)
	// Status says how the job of a handle is.
	Status(ctx context.Context, handle string) (TrainStatus, error)
	// Cancel ends a job; one that has ended stays as it is.
	Cancel(ctx context.Context, handle string) error
	Info() Info
}
