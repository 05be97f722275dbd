package train

import (
	"errors"
	"fmt"
)

// The phases of the vision-language model's run. The vision tower comes first, then language; these make the initial
// model. The others are the tasks, which take turns; grade is judge with a loss of what must be worked out only.
const (
	TowerPhase    Phase = "tower"
	LanguagePhase Phase = "language"
	RewritePhase  Phase = "rewrite"
	EvaluatePhase Phase = "evaluate"
	JudgePhase    Phase = "judge"
	GradePhase    Phase = "grade"
)

// VLMConfig says how the vision-language model is trained. DefaultVLM made the weights that come with promptmill.
type VLMConfig struct {
	Seed uint64 `json:"seed" yaml:"seed"`
	// TowerSteps, LanguageSteps, TaskSteps and GradeSteps are the lengths of the four stages; the learning rate falls over
	// each. In the last one half of the steps are gradings: what judging answers needs is learned when it comes thick and fast.
	// Stop ends each stage after so many steps at the rates of the whole run, for a look; 0 does not.
	TowerSteps    int64 `json:"tower_steps" yaml:"tower_steps"`
	LanguageSteps int64 `json:"language_steps" yaml:"language_steps"`
	TaskSteps     int64 `json:"task_steps" yaml:"task_steps"`
	GradeSteps    int64 `json:"grade_steps" yaml:"grade_steps"`
	Stop          int64 `json:"stop" yaml:"stop"`
	// Rows is how many raw prompts there are pictures of for the tower, four each; in a share Worn of the rows these are less
	// clean than a renderer's, as a generator's are.
	Rows int     `json:"rows" yaml:"rows"`
	Worn float64 `json:"worn" yaml:"worn"`
	// Rewrites and Judgments are the shares of those tasks among the steps, but for gradings; the rest are evaluations of
	// pictures.
	Rewrites  float64 `json:"rewrites" yaml:"rewrites"`
	Judgments float64 `json:"judgments" yaml:"judgments"`
	// TowerRate, Rate and GradeRate are the highest learning rates: of the tower, of language and tasks, of the last stage.
	TowerRate float64 `json:"tower_rate" yaml:"tower_rate"`
	Rate      float64 `json:"rate" yaml:"rate"`
	GradeRate float64 `json:"grade_rate" yaml:"grade_rate"`
	// Threads may change the last bits of the result.
	Threads int `json:"threads" yaml:"threads"`
}

// DefaultVLM is the run that the committed models come from.
func DefaultVLM() VLMConfig {
	return VLMConfig{
		Seed: 1, TowerSteps: 1200, LanguageSteps: 150, TaskSteps: 2000, GradeSteps: 1000, Rows: 6000, Worn: .33,
		Rewrites: .2, Judgments: .15, TowerRate: 2e-3, Rate: 1.5e-3, GradeRate: 1e-3, Threads: 1,
	}
}

// Validate says what is wrong with the configuration, all at once.
func (c VLMConfig) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(c.TowerSteps >= 0, "vlm.tower_steps: %d is negative", c.TowerSteps)
	check(c.LanguageSteps >= 0, "vlm.language_steps: %d is negative", c.LanguageSteps)
	check(c.TaskSteps >= 0, "vlm.task_steps: %d is negative", c.TaskSteps)
	check(c.GradeSteps >= 0, "vlm.grade_steps: %d is negative", c.GradeSteps)
	check(c.Stop >= 0, "vlm.stop: %d is negative; 0 trains to the end", c.Stop)
	check(c.Rows >= 1, "vlm.rows: %d is not 1 or more", c.Rows)
	check(c.Worn >= 0 && c.Worn <= 1, "vlm.worn: %g is not in 0..1", c.Worn)
	check(c.Rewrites >= 0, "vlm.rewrites: %g is negative", c.Rewrites)
	check(c.Judgments >= 0 && c.Rewrites+c.Judgments <= 1, "vlm.judgments: %g and rewrites %g are not shares of 1", c.Judgments, c.Rewrites)
	check(c.TowerRate > 0, "vlm.tower_rate: %g is not above 0", c.TowerRate)
	check(c.Rate > 0, "vlm.rate: %g is not above 0", c.Rate)
	check(c.GradeRate > 0, "vlm.grade_rate: %g is not above 0", c.GradeRate)
	check(c.Threads >= 1, "vlm.threads: %d is not 1 or more", c.Threads)
	return errors.Join(errs...)
}

// cut is how many of a stage's steps are made.
func (c VLMConfig) cut(steps int64) int64 {
	if c.Stop > 0 {
		return min(steps, c.Stop)
	}
	return steps
}
