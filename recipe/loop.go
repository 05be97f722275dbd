package recipe

import (
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/pipelines/prompts"
	"github.com/promptmill/promptmill/pipelines/sft"
	"github.com/promptmill/promptmill/transforms/conformance"
	"github.com/promptmill/promptmill/transforms/heldout"
	"github.com/promptmill/promptmill/transforms/settings"
	"github.com/promptmill/promptmill/transforms/snapshot"
	"github.com/promptmill/promptmill/transforms/source"
	"github.com/promptmill/promptmill/transforms/train"
)

// Training are the settings of every training, and the hyperparameters of the supervised one.
type Training struct {
	// Trainer trains: backend command, rest or another one that is linked in.
	Trainer model.Spec `json:"trainer" yaml:"trainer"`
	// Start is the checkpoint that the first training starts from; "" is models.policy's model.
	Start string `json:"start" yaml:"start"`
	// Configurations are the rows of the supervised set that policy 0 of the loop is trained on: rewrite, and vision for
	// trainers that take rows with and without pictures together.
	Configurations []string `json:"configurations" yaml:"configurations"`
	// AllowOffPolicy trains on pairs that another policy made.
	AllowOffPolicy bool `json:"allow_off_policy" yaml:"allow_off_policy"`
	// Placeholders is how texts refer to pictures: either, implied or explicit.
	Placeholders string `json:"placeholders" yaml:"placeholders"`
	// ContextWindow is how many tokens a row may have, ImageTokens how many of them a picture takes; 0 is what the
	// start's folder says, if it is on this machine, or none.
	ContextWindow int `json:"context_window" yaml:"context_window"`
	ImageTokens   int `json:"image_tokens" yaml:"image_tokens"`
	// OnInterrupt is what becomes of a running job when the command is interrupted: leave or cancel.
	OnInterrupt string `json:"on_interrupt" yaml:"on_interrupt"`
	// Attempt is raised to train again what failed.
	Attempt int `json:"attempt" yaml:"attempt"`
	// Poll is the longest time between two looks at a job.
	Poll time.Duration `json:"poll" yaml:"poll"`
	SFT  train.Params  `json:"sft" yaml:"sft"`
}

// Values of Training.
const (
	// LeaveJob lets a job go on, so that the same command finds it; CancelJob ends it.
	LeaveJob  = "leave"
	CancelJob = "cancel"
)

// Values of SelfReward.
const (
	// StartSFT trains policy 0 on the supervised set, StartPolicy takes models.policy as it is.
	StartSFT    = "sft"
	StartPolicy = "policy"
	// RewardSelf: each iteration's policy judges its own pictures. RewardFixed: the judge stays what it was
	// in the first iteration.
	RewardSelf  = "self"
	RewardFixed = "fixed"
)

// SelfReward are the settings of the loop (paper 3.2 to 3.4, 4.1).
type SelfReward struct {
	// Name tells loops in one store apart.
	Name string `json:"name" yaml:"name"`
	// Start is sft or policy, Reward self or fixed.
	Start      string      `json:"start" yaml:"start"`
	Reward     string      `json:"reward" yaml:"reward"`
	Iterations []Iteration `json:"iterations" yaml:"iterations"`
	// Oversample is how many prompts the first round takes for each pair that is wanted.
	Oversample float64 `json:"oversample" yaml:"oversample"`
	// JudgmentPairs is how many pairs of the judge's own answers an iteration adds at most, the first by rank; 0 adds
	// none. They are the policy's only where it is its own judge. Section judgment_pairs says how they are asked for,
	// gates.min_judgment_accuracy whether they count.
	JudgmentPairs int64 `json:"judgment_pairs" yaml:"judgment_pairs"`
	Guard         Guard `json:"guard" yaml:"guard"`
}

// An Iteration is one round of pairs and training. Prompts are nested: all start with the first by rank.
type Iteration struct {
	// Pairs is how many pairs to train on, the first survivors by rank; 0 takes all that survive.
	Pairs int64 `json:"pairs" yaml:"pairs"`
	// Prompts is how many prompts may be used; 0 is no limit.
	Prompts int64 `json:"prompts" yaml:"prompts"`
	// LearningRate replaces dpo.learning_rate; 0 keeps it.
	LearningRate float64 `json:"learning_rate" yaml:"learning_rate"`
}

// Guard says when a policy has collapsed, against policy 0 on the held-out prompts. A limit of 0 is off.
type Guard struct {
	// MinLength and MaxLength bound the mean number of words, as a part of policy 0's.
	MinLength float64 `json:"min_length" yaml:"min_length"`
	MaxLength float64 `json:"max_length" yaml:"max_length"`
	// MinDistinct bounds distinct-2, as a part of policy 0's.
	MinDistinct float64 `json:"min_distinct" yaml:"min_distinct"`
	// MaxFailures bounds the part of the judge's answers of an iteration that did not parse, retries included.
	MaxFailures float64 `json:"max_failures" yaml:"max_failures"`
	// MaxKL bounds the mean of how much likelier, in nats a token, the policy finds its own sampled texts than policy 0
	// does. The policy's backend must tell log-probabilities.
	MaxKL float64 `json:"max_kl" yaml:"max_kl"`
}

// Gates are what a run must satisfy to be published, and what pairs to be trained on.
type Gates struct {
	snapshot.Gates `yaml:",inline"`
	// MinJudgmentAccuracy is what the 95% interval of the judge of judgments' accuracy on held-out items must be above;
	// else its pairs are left out. A coin has .5.
	MinJudgmentAccuracy float64 `json:"min_judgment_accuracy,omitzero" yaml:"min_judgment_accuracy"`
}

// Metrics are the measurements of each policy on held-out prompts.
type Metrics struct {
	// Prompts are inputs that heldout.benchmarks has too, so that nothing is trained on them. Without inputs
	// nothing is measured.
	Prompts source.Config `json:"prompts" yaml:"prompts"`
	// Limit takes the first so many prompts by hash rank; 0 takes all.
	Limit int64 `json:"limit" yaml:"limit"`
	// Part takes a half of the prompts by the hash of their text: validation or test; "" takes all.
	Part string `json:"part,omitzero" yaml:"part"`
	// Seed is that of all measurements, so that loops of other seeds are measured on the same prompts and pictures;
	// 0 takes the recipe's.
	Seed int64 `json:"seed,omitzero" yaml:"seed"`
	// Judge asks every policy, as the judge, about audit.facts, and to tell its right answers about them from irrelevant
	// ones.
	Judge bool `json:"judge,omitzero" yaml:"judge"`
	// Draws is how often each prompt is rewritten and drawn, with other seeds.
	Draws int `json:"draws" yaml:"draws"`
	// Beam are options of the policy that make it search for the likeliest answer at temperature 0; none: it is
	// greedy.
	Beam map[string]string `json:"beam" yaml:"beam"`
	// Scorers measure pictures. Without any none are drawn, and texts are measured only.
	Scorers []Scorer `json:"scorers" yaml:"scorers"`
	// Resamples is the number of bootstrap samples of an interval.
	Resamples int `json:"resamples" yaml:"resamples"`
}

// A Scorer is a measure of pictures.
type Scorer struct {
	// Name is the measure's in tables and JSON, such as oracle_total.
	Name  string     `json:"name" yaml:"name"`
	Model model.Spec `json:"model" yaml:"model"`
}

var loopName = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_.-]{0,60}$`)

// validateLoop joins all faults of the sections training, dpo, selfreward and metrics.
func (r *Recipe) validateLoop() error {
	faults := settings.Of("")
	t, l, m := r.Training, r.SelfReward, r.Metrics
	faults.Check(t.Trainer.Backend != "", "training.trainer.backend: empty; name a trainer, such as command")
	faults.Check(slices.Contains([]string{conformance.Either, conformance.Implied, conformance.Explicit}, t.Placeholders), "training.placeholders: %q is not either, implied or explicit", t.Placeholders)
	faults.Check(len(t.Configurations) > 0, "training.configurations: none; [rewrite] are the pairs alone")
	for i, c := range t.Configurations {
		faults.Check(c == sft.Rows || c == sft.Vision, "training.configurations[%d]: %q is not %s or %s", i, c, sft.Rows, sft.Vision)
	}
	faults.Check(t.ContextWindow >= 0, "training.context_window: %d is negative; 0 takes that of the start's folder", t.ContextWindow)
	faults.Check(t.ImageTokens >= 0, "training.image_tokens: %d is negative; give the tokens of one picture", t.ImageTokens)
	faults.Check(t.OnInterrupt == LeaveJob || t.OnInterrupt == CancelJob, "training.on_interrupt: %q is not leave or cancel", t.OnInterrupt)
	faults.Check(t.Attempt >= 0, "training.attempt: %d is negative; 0 is the first", t.Attempt)
	faults.Check(t.Poll > 0, "training.poll: %v is not above 0; 10s is kind to a server", t.Poll)
	faults.Join(t.SFT.Validate("training.sft"), r.DPO.Validate("dpo"))

	faults.Check(loopName.MatchString(l.Name), "selfreward.name: %q is not a word that begins with a letter; it is part of a folder's name", l.Name)
	faults.Check(l.Start == StartSFT || l.Start == StartPolicy, "selfreward.start: %q is not sft or policy", l.Start)
	faults.Check(l.Reward == RewardSelf || l.Reward == RewardFixed, "selfreward.reward: %q is not self or fixed", l.Reward)
	faults.Check(len(l.Iterations) >= 1 && len(l.Iterations) <= 20, "selfreward.iterations: %d of them are not in 1..20; the paper has two", len(l.Iterations))
	for i, it := range l.Iterations {
		at := fmt.Sprintf("selfreward.iterations[%d]", i)
		faults.Check(it.Pairs >= 0, "%s.pairs: %d is negative; 0 takes all that survive", at, it.Pairs)
		faults.Check(it.Prompts >= 0, "%s.prompts: %d is negative; 0 is no limit", at, it.Prompts)
		faults.Check(it.LearningRate >= 0 && it.LearningRate <= 1, "%s.learning_rate: %v is not in 0..1; 0 keeps dpo.learning_rate", at, it.LearningRate)
		faults.Check(i == 0 || it.Pairs == 0 || it.Pairs >= l.Iterations[i-1].Pairs, "%s.pairs: %d is less than before; iterations take growing prefixes of one order", at, it.Pairs)
	}
	faults.Check(l.Oversample >= 1 && l.Oversample <= 100, "selfreward.oversample: %v is not in 1..100; 1.1 takes a tenth more prompts than pairs", l.Oversample)
	faults.Check(l.JudgmentPairs >= 0, "selfreward.judgment_pairs: %d is negative; 0 adds none", l.JudgmentPairs)
	faults.Check(r.Gates.MinJudgmentAccuracy >= 0 && r.Gates.MinJudgmentAccuracy < 1, "gates.min_judgment_accuracy: %v is not at least 0 and below 1; a coin has 0.5", r.Gates.MinJudgmentAccuracy)
	for _, g := range []struct {
		name string
		x    float64
		high float64
	}{{"min_length", l.Guard.MinLength, 1}, {"max_length", l.Guard.MaxLength, 1000}, {"min_distinct", l.Guard.MinDistinct, 1}, {"max_failures", l.Guard.MaxFailures, 1}} {
		faults.Check(g.x >= 0 && g.x <= g.high, "selfreward.guard.%s: %v is not in 0..%v; 0 is off", g.name, g.x, g.high)
	}
	faults.Check(l.Guard.MaxKL >= 0, "selfreward.guard.max_kl: %v is negative; 0 is off", l.Guard.MaxKL)
	faults.Check(l.Guard.MaxLength == 0 || l.Guard.MaxLength > 1, "selfreward.guard.max_length: %v is not above 1, the length of policy 0", l.Guard.MaxLength)
	faults.Join(r.validateMetrics(m))
	return faults.Err()
}

func (r *Recipe) validateMetrics(m Metrics) error {
	faults := settings.Of("")
	faults.Check(m.Limit >= 0, "metrics.limit: %d is negative; 0 takes all prompts", m.Limit)
	faults.Check(slices.Contains([]string{"", prompts.Validation, prompts.Test}, m.Part), "metrics.part: %q is not %s or %s; empty takes all prompts", m.Part, prompts.Validation, prompts.Test)
	faults.Check(m.Draws >= 1 && m.Draws <= 100, "metrics.draws: %d is not in 1..100", m.Draws)
	faults.Check(m.Resamples >= 100 && m.Resamples <= 1_000_000, "metrics.resamples: %d is not in 100..1000000; 2000 do for two digits", m.Resamples)
	seen := map[string]bool{}
	for i, s := range m.Scorers {
		at := fmt.Sprintf("metrics.scorers[%d]", i)
		faults.Check(loopName.MatchString(s.Name) && !seen[s.Name], "%s.name: %q is no word or there twice", at, s.Name)
		faults.Check(s.Model.Backend != "", "%s.model.backend: empty; name a backend with a score model, such as scene", at)
		seen[s.Name] = true
	}
	if len(m.Prompts.Inputs) > 0 {
		faults.Join(settings.Under("metrics.prompts", "source", m.Prompts.Validate()))
	}
	return faults.Err()
}

// DecidesLoop is Decides with the part of training, dpo, selfreward and metrics that decides what a loop
// makes: without the loop's name, where trainers and scorers are and how often they are asked.
func (r *Recipe) DecidesLoop() *Recipe {
	c := r.Decides()
	c.Training, c.DPO, c.SelfReward, c.Metrics = r.Training, r.DPO, r.SelfReward, r.Metrics
	c.Training.Trainer, c.Training.Poll, c.Training.Attempt, c.Training.OnInterrupt, c.SelfReward.Name = decides(r.Training.Trainer), 0, 0, "", ""
	c.SelfReward.Guard = Guard{}
	c.Gates.MinJudgmentAccuracy = r.Gates.MinJudgmentAccuracy
	c.Metrics.Scorers = slices.Clone(r.Metrics.Scorers)
	for i := range c.Metrics.Scorers {
		c.Metrics.Scorers[i].Model = decides(c.Metrics.Scorers[i].Model)
	}
	return c
}

// MetricsSeed is the seed of all measurements.
func (r *Recipe) MetricsSeed() int64 {
	if r.Metrics.Seed != 0 {
		return r.Metrics.Seed
	}
	return r.Seed
}

// LoopFaults joins what is wrong with a valid recipe for a loop alone: inputs of the metrics that are not kept out of
// training, measurements without what they are of, and judgment pairs that could not count.
func (r *Recipe) LoopFaults() error {
	faults := settings.Of("")
	for i, in := range r.Metrics.Prompts.Inputs {
		kept := slices.ContainsFunc(r.Heldout.Benchmarks, func(b heldout.Benchmark) bool { return b.Path == in.Path })
		faults.Check(kept, "metrics.prompts.inputs[%d].path: %s is not among heldout.benchmarks: add it there, or the policies are measured on what they were trained on", i, in.Path)
	}
	l, measured := r.SelfReward, len(r.Metrics.Prompts.Inputs) > 0
	faults.Check(!measured || !r.Metrics.Judge || len(r.Audit.Facts) > 0, "metrics.judge: there are no audit.facts to ask about; name some, or set it to false")
	faults.Check(l.Guard.MaxKL == 0 || measured, "selfreward.guard.max_kl: there are no metrics.prompts to measure it on; name some, or set 0")
	const pairs = "selfreward.judgment_pairs"
	switch n := l.JudgmentPairs; {
	case n == 0:
	case l.Reward != RewardSelf:
		faults.Check(false, "%s: %d pairs of the judge's own answers, but selfreward.reward is %s: they would not be the policy's; set 0", pairs, n, l.Reward)
	case r.JudgmentPairs.Asked == 0:
		faults.Check(false, "%s: %d, but judgment_pairs.asked is 0: say about how many candidates to ask, or set 0", pairs, n)
	default:
		faults.Check(measured && r.Metrics.Judge, "%s: %d, but metrics.judge is false or there are no metrics.prompts, so whether the judge of judgments is above gates.min_judgment_accuracy is not measured; turn it on, or set 0", pairs, n)
	}
	return faults.Err()
}
