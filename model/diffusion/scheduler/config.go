package scheduler

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"regexp"
	"slices"
	"strings"
)

// The schedulers' classes, as diffusers writes them into _class_name.
const (
	PNDM           = "PNDMScheduler"
	DDIM           = "DDIMScheduler"
	Euler          = "EulerDiscreteScheduler"
	EulerAncestral = "EulerAncestralDiscreteScheduler"
	DPMSolver      = "DPMSolverMultistepScheduler"
)

// What the model predicts.
const (
	// Epsilon is the noise in the sample.
	Epsilon = "epsilon"
	// VPrediction is sqrt(a) noise - sqrt(1-a) picture (Salimans and Ho 2022, arXiv:2202.00512).
	VPrediction = "v_prediction"
)

// How timesteps lie among those of training.
const (
	Leading  = "leading"
	Linspace = "linspace"
	Trailing = "trailing"
)

// How the noise of training grows with time.
const (
	Linear       = "linear"
	ScaledLinear = "scaled_linear"
	SquaredCos   = "squaredcos_cap_v2"
)

// Config is a scheduler_config.json as far as it changes anything here. The zero value is not valid: take Default.
type Config struct {
	Class          string  `json:"_class_name" yaml:"_class_name"`
	TrainTimesteps int     `json:"num_train_timesteps" yaml:"num_train_timesteps"`
	BetaStart      float64 `json:"beta_start" yaml:"beta_start"`
	BetaEnd        float64 `json:"beta_end" yaml:"beta_end"`
	BetaSchedule   string  `json:"beta_schedule" yaml:"beta_schedule"`
	Prediction     string  `json:"prediction_type" yaml:"prediction_type"`
	Spacing        string  `json:"timestep_spacing" yaml:"timestep_spacing"`
	// StepsOffset is added to the timesteps of spacing "leading".
	StepsOffset int `json:"steps_offset" yaml:"steps_offset"`
	// SetAlphaToOne (PNDM, DDIM) takes 1 for the cumulative alpha after the last step, not that of timestep 0.
	SetAlphaToOne bool `json:"set_alpha_to_one" yaml:"set_alpha_to_one"`
	// ClipSample (DDIM) keeps the predicted picture within -ClipRange..ClipRange.
	ClipSample bool    `json:"clip_sample" yaml:"clip_sample"`
	ClipRange  float64 `json:"clip_sample_range" yaml:"clip_sample_range"`
	// KarrasSigmas (DPM-Solver++) spaces noise levels, not timesteps (Karras et al. 2022, equation 5, rho 7).
	KarrasSigmas bool `json:"use_karras_sigmas" yaml:"use_karras_sigmas"`
}

// Default is what diffusers takes where a class's file says nothing; a class that is not known gives PNDM's.
func Default(class string) Config {
	c := Config{
		Class: class, TrainTimesteps: 1000, BetaStart: 0.0001, BetaEnd: 0.02, BetaSchedule: Linear,
		Prediction: Epsilon, Spacing: Linspace, ClipRange: 1,
	}
	switch class {
	case DDIM:
		c.Spacing, c.SetAlphaToOne, c.ClipSample = Leading, true, true
	case Euler, EulerAncestral, DPMSolver:
	default:
		c.Spacing = Leading
	}
	return c
}

// fixed are options that diffusers obeys and this package does not have: only the values that change nothing are
// taken, as JSON texts.
var fixed = map[string]map[string][]string{
	PNDM: {
		"trained_betas": {"null"}, "skip_prk_steps": {"true"},
	},
	DDIM: {
		"trained_betas": {"null"}, "thresholding": {"false"}, "rescale_betas_zero_snr": {"false"},
	},
	Euler: {
		"trained_betas": {"null"}, "interpolation_type": {`"linear"`}, "use_karras_sigmas": {"false", "null"},
		"use_exponential_sigmas": {"false", "null"}, "use_beta_sigmas": {"false", "null"}, "sigma_min": {"null"}, "sigma_max": {"null"},
		"timestep_type": {`"discrete"`}, "rescale_betas_zero_snr": {"false"}, "final_sigmas_type": {`"zero"`},
	},
	EulerAncestral: {
		"trained_betas": {"null"}, "rescale_betas_zero_snr": {"false"},
	},
	DPMSolver: {
		"trained_betas": {"null"}, "solver_order": {"2"}, "thresholding": {"false"}, "algorithm_type": {`"dpmsolver++"`},
		"solver_type": {`"midpoint"`}, "use_exponential_sigmas": {"false", "null"}, "use_beta_sigmas": {"false", "null"},
		"use_lu_lambdas": {"false", "null"}, "use_flow_sigmas": {"false", "null"}, "use_dynamic_shifting": {"false"},
		"final_sigmas_type": {`"zero"`}, "lambda_min_clipped": {"null"}, "variance_type": {"null"}, "rescale_betas_zero_snr": {"false"},
	},
}

// own are the options that Config holds.
var own = []string{
	"num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "prediction_type", "timestep_spacing", "steps_offset",
	"set_alpha_to_one", "clip_sample", "clip_sample_range",
}

// infinite is the default that DPM-Solver++ writes, in Python's notation: not JSON.
var infinite = regexp.MustCompile(`("lambda_min_clipped"\s*:\s*)-Infinity\b`)

// maxFile bounds a scheduler_config.json; real ones have some hundred bytes.
const maxFile = 1 << 20

// Open reads a scheduler_config.json from a file system, such as os.Root.FS of a model folder.
func Open(fsys fs.FS, name string) (Config, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return Config{}, fmt.Errorf("scheduler: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return Config{}, fmt.Errorf("scheduler: read %s: %w", name, err)
	}
	if len(data) > maxFile {
		return Config{}, fmt.Errorf("scheduler: %s has more than %d bytes: not a scheduler_config.json", name, maxFile)
	}
	c, err := Parse(data)
	if err != nil {
		return Config{}, fmt.Errorf("%s: %w", name, err)
	}
	return c, nil
}

// Parse reads the text of a scheduler_config.json. What the file does not say has diffusers' default for its class.
// Options of other classes are passed over, as diffusers does. An option that diffusers would obey with a
// value that this package cannot follow is an error that names it.
func Parse(data []byte) (Config, error) {
	data = infinite.ReplaceAll(data, []byte("${1}null"))
	var values map[string]json.RawMessage
	if err := json.Unmarshal(data, &values); err != nil {
		return Config{}, fmt.Errorf("scheduler: not a scheduler_config.json: %w", err)
	}
	var class string
	if err := json.Unmarshal(values["_class_name"], &class); err != nil || fixed[class] == nil {
		return Config{}, fmt.Errorf("scheduler: _class_name: %s is not a known scheduler; there are %s", shown(values["_class_name"]),
			strings.Join([]string{PNDM, DDIM, Euler, EulerAncestral, DPMSolver}, ", "))
	}
	c := Default(class)
	if err := json.Unmarshal(data, &c); err != nil {
		return Config{}, fmt.Errorf("scheduler: %w", err)
	}
	// Only DPM-Solver++ is walked over the noise levels of Karras; other classes' flags are refused or foreign.
	c.KarrasSigmas = c.KarrasSigmas && class == DPMSolver
	var errs []error
	for name, allowed := range fixed[class] {
		value, given := values[name]
		if !given && name != "skip_prk_steps" {
			continue // Every other default is one that changes nothing; this one is false.
		}
		if !slices.Contains(allowed, string(value)) {
			errs = append(errs, fmt.Errorf("scheduler: %s: %s of %s cannot be followed, only %s", name, shown(value), class, strings.Join(allowed, " or ")))
		}
	}
	for _, name := range own {
		if string(values[name]) == "null" {
			errs = append(errs, fmt.Errorf("scheduler: %s: null is no value", name))
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	if err := errors.Join(append(errs, c.Validate())...); err != nil {
		return Config{}, err
	}
	return c, nil
}

// Validate joins all faults, each with the option's name.
func (c Config) Validate() error {
	var errs []error
	oneOf := func(option, value string, values ...string) {
		if !slices.Contains(values, value) {
			errs = append(errs, fmt.Errorf("scheduler: %s: %q is none of %s", option, value, strings.Join(values, ", ")))
		}
	}
	oneOf("_class_name", c.Class, PNDM, DDIM, Euler, EulerAncestral, DPMSolver)
	oneOf("beta_schedule", c.BetaSchedule, Linear, ScaledLinear, SquaredCos)
	oneOf("prediction_type", c.Prediction, Epsilon, VPrediction)
	oneOf("timestep_spacing", c.Spacing, Leading, Linspace, Trailing)
	if c.TrainTimesteps < 2 || c.TrainTimesteps > 100_000 {
		errs = append(errs, fmt.Errorf("scheduler: num_train_timesteps: %d is not in 2..100000", c.TrainTimesteps))
	}
	// Not (a or b), so that NaN is refused too.
	if !(c.BetaStart > 0 && c.BetaStart <= c.BetaEnd && c.BetaEnd < 1) {
		errs = append(errs, fmt.Errorf("scheduler: beta_start: %g and beta_end %g do not rise within 0..1", c.BetaStart, c.BetaEnd))
	}
	if c.StepsOffset < 0 || c.StepsOffset >= max(c.TrainTimesteps, 1) {
		errs = append(errs, fmt.Errorf("scheduler: steps_offset: %d is not a timestep", c.StepsOffset))
	}
	if c.ClipSample && !(c.ClipRange > 0 && c.ClipRange <= math.MaxFloat32) {
		errs = append(errs, fmt.Errorf("scheduler: clip_sample_range: %g is not positive", c.ClipRange))
	}
	return errors.Join(errs...)
}

func shown(value json.RawMessage) string {
	if value == nil {
		return "nothing"
	}
	if len(value) > 60 {
		return string(value[:60]) + "..."
	}
	return string(value)
}
