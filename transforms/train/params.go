package train

import (
	"math"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/transforms/settings"
)

// Params are the hyperparameters of a recipe: those of model.TrainParams but the seed, which is the run's.
type Params struct {
	Epochs    int `json:"epochs" yaml:"epochs"`
	BatchSize int `json:"batch_size" yaml:"batch_size"`
	// LearningRate is the highest rate, reached after WarmupFraction of the steps; it falls as a cosine.
	LearningRate   float64 `json:"learning_rate" yaml:"learning_rate"`
	WarmupFraction float64 `json:"warmup_fraction" yaml:"warmup_fraction"`
	// Beta1, Beta2 and WeightDecay are AdamW's.
	Beta1       float64 `json:"beta1" yaml:"beta1"`
	Beta2       float64 `json:"beta2" yaml:"beta2"`
	WeightDecay float64 `json:"weight_decay" yaml:"weight_decay"`
	// DPOBeta is the strength of the reference, NLLAlpha the weight of the negative log-likelihood of the
	// chosen text, per token. Both are DPO's only.
	DPOBeta  float64 `json:"beta,omitempty" yaml:"beta,omitempty"`
	NLLAlpha float64 `json:"nll_alpha,omitempty" yaml:"nll_alpha,omitempty"`
}

// DefaultSFT has the paper's numbers (section 4.1); it does not print the epochs nor the warm-up: one, and
// the first 3 in 100 steps.
func DefaultSFT() Params {
	return Params{Epochs: 1, BatchSize: 16, LearningRate: 2e-5, WarmupFraction: .03, Beta1: .9, Beta2: .95, WeightDecay: .1}
}

// DefaultDPO has the paper's numbers (section 4.1) for the first iteration, the rest from AdamW's authors.
func DefaultDPO() Params {
	return Params{Epochs: 4, BatchSize: 32, LearningRate: 1e-5, WarmupFraction: .03, Beta1: .9, Beta2: .999, DPOBeta: .1}
}

// Validate joins all faults; section is where in a recipe the parameters stand.
func (p Params) Validate(section string) error {
	faults := settings.Of(section)
	in := func(x, low, high float64) bool { return x >= low && x <= high } // false for NaN
	faults.Check(p.Epochs >= 1 && p.Epochs <= 1000, "epochs: %d is not in 1..1000", p.Epochs)
	faults.Check(p.BatchSize >= 1 && p.BatchSize <= 1<<20, "batch_size: %d is not at least 1", p.BatchSize)
	faults.Check(p.LearningRate > 0 && p.LearningRate <= 1, "learning_rate: %v is not above 0 and at most 1", p.LearningRate)
	faults.Check(in(p.WarmupFraction, 0, 1), "warmup_fraction: %v is not in 0..1", p.WarmupFraction)
	faults.Check(in(p.Beta1, 0, 1) && p.Beta1 < 1, "beta1: %v is not in 0..1, without 1", p.Beta1)
	faults.Check(in(p.Beta2, 0, 1) && p.Beta2 < 1, "beta2: %v is not in 0..1, without 1", p.Beta2)
	faults.Check(in(p.WeightDecay, 0, 1), "weight_decay: %v is not in 0..1", p.WeightDecay)
	faults.Check(in(p.NLLAlpha, 0, 100), "nll_alpha: %v is not in 0..100; 0 leaves the term out", p.NLLAlpha)
	if section == "dpo" {
		faults.Check(p.DPOBeta > 0 && !math.IsInf(p.DPOBeta, 0), "beta: %v is not above 0; 0.1 is the paper's", p.DPOBeta)
	}
	return faults.Err()
}

func (p Params) with(seed int64) model.TrainParams {
	return model.TrainParams{
		Epochs: p.Epochs, BatchSize: p.BatchSize, LearningRate: p.LearningRate, WarmupFraction: p.WarmupFraction,
		Beta1: p.Beta1, Beta2: p.Beta2, WeightDecay: p.WeightDecay, DPOBeta: p.DPOBeta, NLLAlpha: p.NLLAlpha, Seed: seed,
	}
}
