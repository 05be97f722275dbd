package scheduler_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/promptmill/promptmill/model/diffusion/scheduler"
)

func TestParse(t *testing.T) {
	// Stable Diffusion v1.5's file, which carries an option of another class.
	stable := `{"_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", "beta_end": 0.012, "beta_schedule": "scaled_linear",
		"beta_start": 0.00085, "num_train_timesteps": 1000, "set_alpha_to_one": false, "skip_prk_steps": true, "steps_offset": 1,
		"trained_betas": null, "clip_sample": false}`
	pndm := scheduler.Default(scheduler.PNDM)
	pndm.BetaStart, pndm.BetaEnd, pndm.BetaSchedule, pndm.StepsOffset = 0.00085, 0.012, scheduler.ScaledLinear, 1
	dpm := scheduler.Default(scheduler.DPMSolver)
	dpm.KarrasSigmas = true
	for _, tt := range []struct {
		name, file string
		want       scheduler.Config
	}{
		{"stable diffusion", stable, pndm},
		{"python's infinity", `{"_class_name":"DPMSolverMultistepScheduler","lambda_min_clipped" : -Infinity, "use_karras_sigmas":true}`, dpm},
		{"defaults", `{"_class_name":"DDIMScheduler"}`, scheduler.Default(scheduler.DDIM)},
		{"foreign option", `{"_class_name":"EulerAncestralDiscreteScheduler","use_karras_sigmas":true,"skip_prk_steps":false}`, scheduler.Default(scheduler.EulerAncestral)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fsys := fstest.MapFS{"scheduler/scheduler_config.json": {Data: []byte(tt.file)}}
			got, err := scheduler.Open(fsys, "scheduler/scheduler_config.json")
			if err != nil || got != tt.want {
				t.Errorf("got %+v, %v\nwant %+v", got, err, tt.want)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	of := func(class, more string) string { return fmt.Sprintf(`{"_class_name":%q,%s}`, class, more) }
	for _, tt := range []struct{ file, want string }{
		{``, "not a scheduler_config.json"},
		{`[]`, "not a scheduler_config.json"},
		{`{}`, "_class_name: nothing is not a known scheduler"},
		{of("HeunDiscreteScheduler", `"beta_start":1`), `_class_name: "HeunDiscreteScheduler" is not a known scheduler; there are PNDMScheduler, DDIMScheduler`},
		{of(scheduler.PNDM, `"beta_start":0.1,"beta_end":0.2`), "skip_prk_steps: nothing of PNDMScheduler cannot be followed, only true"},
		{of(scheduler.PNDM, `"skip_prk_steps":false`), "skip_prk_steps: false"},
		{of(scheduler.DDIM, `"beta_schedule":"cosine"`), `beta_schedule: "cosine" is none of linear, scaled_linear, squaredcos_cap_v2`},
		{of(scheduler.DDIM, `"prediction_type":"sample"`), `prediction_type: "sample" is none of epsilon, v_prediction`},
		{of(scheduler.DDIM, `"clip_sample":null`), "clip_sample: null is no value"},
		{of(scheduler.DDIM, `"clip_sample_range":-1`), "clip_sample_range: -1 is not positive"},
		{of(scheduler.DDIM, `"rescale_betas_zero_snr":true`), "rescale_betas_zero_snr: true of DDIMScheduler cannot be followed, only false"},
		{of(scheduler.DDIM, `"num_train_timesteps":1000000000`), "num_train_timesteps: 1000000000 is not in 2..100000"},
		{of(scheduler.DDIM, `"num_train_timesteps":"many"`), "num_train_timesteps"},
		{of(scheduler.Euler, `"beta_start":0.5,"beta_end":0.1`), "beta_start: 0.5 and beta_end 0.1 do not rise"},
		{of(scheduler.Euler, `"use_karras_sigmas":true`), "use_karras_sigmas: true of EulerDiscreteScheduler"},
		{of(scheduler.Euler, `"timestep_spacing":"log"`), `timestep_spacing: "log" is none of leading, linspace, trailing`},
		{of(scheduler.EulerAncestral, `"trained_betas":[0.1,0.2]`), "trained_betas: [0.1,0.2]"},
		{of(scheduler.DPMSolver, `"algorithm_type":"sde-dpmsolver++"`), `algorithm_type: "sde-dpmsolver++"`},
		{of(scheduler.DPMSolver, `"solver_order":3,"solver_type":"heun"`), "solver_type: \"heun\" of DPMSolverMultistepScheduler cannot be followed, only \"midpoint\""},
		{of(scheduler.DPMSolver, `"lambda_min_clipped":-5.1`), "lambda_min_clipped: -5.1"},
		{of(scheduler.DPMSolver, `"steps_offset":-1`), "steps_offset: -1 is not a timestep"},
	} {
		if _, err := scheduler.Parse([]byte(tt.file)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.file, err, tt.want)
		}
	}
	if _, err := scheduler.Open(fstest.MapFS{"c": {Data: make([]byte, 2<<20)}}, "c"); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("a huge file: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, tt := range []struct {
		class         string
		steps, offset int
		want          string
	}{
		{scheduler.DDIM, 0, 0, "0 steps: DDIMScheduler trained with 1000 timesteps takes 1..1000"},
		{scheduler.PNDM, 1001, 0, "takes 1..1000"},
		{scheduler.DDIM, 1000, 1, "timestep 1000, which is not in 0..999"},
		{"", 20, 0, "_class_name"},
	} {
		c := scheduler.Default(tt.class)
		c.StepsOffset = tt.offset
		if _, err := scheduler.New(c, tt.steps); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: got %v", tt, err)
		}
	}
}

// The spacings as table 2 of arXiv:2305.08891 has them for 10 of 1000 steps (counted from 1 there), and diffusers'
// own for DPM-Solver++.
func TestSpacing(t *testing.T) {
	for _, tt := range []struct {
		class, spacing string
		want           []float64
	}{
		{scheduler.DDIM, scheduler.Leading, []float64{900, 800, 700, 600, 500, 400, 300, 200, 100, 0}},
		{scheduler.DDIM, scheduler.Linspace, []float64{999, 888, 777, 666, 555, 444, 333, 222, 111, 0}},
		{scheduler.DDIM, scheduler.Trailing, []float64{999, 899, 799, 699, 599, 499, 399, 299, 199, 99}},
		{scheduler.PNDM, scheduler.Trailing, []float64{999, 899, 899, 799, 699, 599, 499, 399, 299, 199, 99}},
		{scheduler.Euler, scheduler.Trailing, []float64{999, 899, 799, 699, 599, 499, 399, 299, 199, 99}},
		{scheduler.DPMSolver, scheduler.Trailing, []float64{999, 899, 799, 699, 599, 499, 399, 299, 199, 99}},
		{scheduler.DPMSolver, scheduler.Leading, []float64{900, 810, 720, 630, 540, 450, 360, 270, 180, 90}},
	} {
		c := scheduler.Default(tt.class)
		c.Spacing = tt.spacing
		s, err := scheduler.New(c, 10)
		if err != nil || !slices.Equal(s.Timesteps(), tt.want) {
			t.Errorf("%s %s: %v, %v, want %v", tt.class, tt.spacing, s.Timesteps(), err, tt.want)
		}
	}
}

// Euler over every timestep of training shows the noise levels, against the closed form and the plain product.
func TestBetaSchedules(t *testing.T) {
	cosine := func(at float64) float64 { return math.Pow(math.Cos((at+0.008)/1.008*math.Pi/2), 2) }
	product := 1.0
	var linear []float64
	for i := range 1000 {
		product *= 1 - (0.0001 + (0.02-0.0001)*float64(i)/999)
		linear = append(linear, product)
	}
	for name, alpha := range map[string]func(int) float64{
		scheduler.SquaredCos: func(i int) float64 { return cosine(float64(i+1)/1000) / cosine(0) },
		scheduler.Linear:     func(i int) float64 { return linear[i] },
	} {
		c := scheduler.Default(scheduler.Euler)
		c.BetaSchedule = name
		s, err := scheduler.New(c, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for i, sigma := range s.Sigmas()[1:1000] { // The very last beta of the cosine is capped.
			a := alpha(998 - i)
			if want := math.Sqrt((1 - a) / a); math.Abs(float64(sigma)-want) > 1e-3*want {
				t.Fatalf("%s: level at %d is %v, want %v", name, 998-i, sigma, want)
			}
		}
	}
}

// The last step to alpha 1 gives the predicted picture itself, clipped where asked.
func TestLastStep(t *testing.T) {
	for _, clip := range []bool{false, true} {
		c := scheduler.Default(scheduler.DDIM)
		c.ClipSample = clip
		plan, err := scheduler.New(c, 1)
		if err != nil {
			t.Fatal(err)
		}
		sample := []float32{0.5, -3}
		plan.Start().Step([]float32{1, 1}, 0, sample, nil)
		a := 1 - 0.0001
		want := []float64{(0.5 - math.Sqrt(1-a)) / math.Sqrt(a), (-3 - math.Sqrt(1-a)) / math.Sqrt(a)}
		if clip {
			want[1] = -1
		}
		if apart(sample, want) > 1e-5 {
			t.Errorf("clip %v: %v, want %v", clip, sample, want)
		}
	}
}

func TestMisusePanics(t *testing.T) {
	plan, err := scheduler.New(scheduler.Default(scheduler.EulerAncestral), 3)
	if err != nil {
		t.Fatal(err)
	}
	one := func() []float32 { return make([]float32, 1) }
	for name, misuse := range map[string]func(scheduler.Scheduler){
		"skipped":      func(s scheduler.Scheduler) { s.Step(one(), 1, one(), one) },
		"repeated":     func(s scheduler.Scheduler) { s.Step(one(), 0, one(), one); s.Step(one(), 0, one(), one) },
		"short output": func(s scheduler.Scheduler) { s.Step(nil, 0, one(), one) },
		"short noise":  func(s scheduler.Scheduler) { s.Step(one(), 0, one(), func() []float32 { return nil }) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			misuse(plan.Start())
		}()
	}
}

func FuzzParse(f *testing.F) {
	for _, class := range []string{scheduler.PNDM, scheduler.DDIM, scheduler.Euler, scheduler.EulerAncestral, scheduler.DPMSolver} {
		for _, spacing := range []string{scheduler.Leading, scheduler.Linspace, scheduler.Trailing} {
			f.Add(fmt.Appendf(nil, `{"_class_name":%q,"timestep_spacing":%q,"skip_prk_steps":true,"use_karras_sigmas":true,"steps_offset":1}`, class, spacing), 7)
		}
	}
	f.Fuzz(func(_ *testing.T, file []byte, steps int) {
		c, err := scheduler.Parse(file)
		if err != nil || c.TrainTimesteps > 2000 {
			return
		}
		plan, err := scheduler.New(c, steps)
		if err != nil {
			return
		}
		s := plan.Start()
		sample := []float32{s.InitNoiseSigma()}
		for step := range s.Timesteps() {
			input := slices.Clone(sample)
			s.ScaleInput(input, step)
			s.Step([]float32{0}, step, sample, func() []float32 { return []float32{0} })
		}
	})
}
