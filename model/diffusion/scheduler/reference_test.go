package scheduler_test

import (
	"encoding/json"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/promptmill/promptmill/model/diffusion/scheduler"
)

// reference is one run of diffusers; see testdata/README.md.
type reference struct {
	Class     string         `json:"class"`
	Config    map[string]any `json:"config"`
	Steps     int            `json:"num_inference_steps"`
	Model     string         `json:"model"`
	InitSigma float64        `json:"init_noise_sigma"`
	Timesteps []float64      `json:"timesteps"`
	Sigmas    []float64      `json:"sigmas"`
	Walk      []struct {
		T      float64   `json:"t"`
		Input  []float64 `json:"model_input"`
		Sample []float64 `json:"sample"`
	} `json:"steps"`
}

type references struct {
	X0    []float32            `json:"x0"`
	Noise [][]float32          `json:"noise"`
	Runs  map[string]reference `json:"runs"`
}

func readReferences(t *testing.T) references {
	t.Helper()
	data, err := os.ReadFile("testdata/schedulers.json")
	if err != nil {
		t.Fatal(err)
	}
	var r references
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Runs) != 27 {
		t.Fatalf("%d runs, want 27", len(r.Runs))
	}
	return r
}

// config is the run's as its scheduler_config.json would say it, with changes.
func (r reference) config(t *testing.T, changes map[string]any) scheduler.Config {
	t.Helper()
	file := map[string]any{"_class_name": r.Class, "_diffusers_version": "0.42.1"}
	for _, from := range []map[string]any{r.Config, changes} {
		for k, v := range from {
			file[k] = v
		}
	}
	data, err := json.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	c, err := scheduler.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// epsilon is the made-up model.
func (r reference) epsilon(input []float32, step int) []float32 {
	out := make([]float32, len(input))
	for i, x := range input {
		out[i] = 0.1 * x
		if r.Model == "0.1x+t" {
			out[i] += float32(0.001 * (r.Timesteps[step]/10 - 50))
		}
	}
	return out
}

// tolerance is in units of the largest number of the vector: rounding errors of a step have the size of what was
// subtracted, not of what is left.
const tolerance = 1e-6

func apart(got []float32, want []float64) float64 {
	worst, scale := 0.0, 0.0
	for i := range want {
		worst = max(worst, math.Abs(float64(got[i])-want[i]))
		scale = max(scale, math.Abs(want[i]))
	}
	return worst / max(scale, 1e-3)
}

func TestEqualToDiffusers(t *testing.T) {
	refs := readReferences(t)
	exact, numbers, worst := 0, 0, 0.0
	for name, ref := range refs.Runs {
		t.Run(name, func(t *testing.T) {
			plan, err := scheduler.New(ref.config(t, nil), ref.Steps)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(plan.Timesteps(), ref.Timesteps) {
				t.Errorf("timesteps\n%v\nwant\n%v", plan.Timesteps(), ref.Timesteps)
			}
			if len(plan.Sigmas()) != len(ref.Sigmas) {
				t.Errorf("%d noise levels, want %d", len(plan.Sigmas()), len(ref.Sigmas))
			}
			for i, s := range plan.Sigmas() {
				if math.Abs(float64(s)-ref.Sigmas[i]) > tolerance*ref.Sigmas[i] {
					t.Errorf("noise level %d is %v, want %v", i, s, ref.Sigmas[i])
				}
			}
			if d := math.Abs(float64(plan.InitNoiseSigma()) - ref.InitSigma); d > tolerance*ref.InitSigma {
				t.Errorf("InitNoiseSigma %v, want %v", plan.InitNoiseSigma(), ref.InitSigma)
			}
			s, neighbour := plan.Start(), plan.Start() // Another picture's walk changes nothing.
			sample := slices.Clone(refs.X0)
			for i := range sample {
				sample[i] *= s.InitNoiseSigma()
			}
			for step := range s.Timesteps() {
				neighbour.Step([]float32{9, 9}, step, []float32{5, 5}, func() []float32 { return []float32{7, 7} })
				input := slices.Clone(sample)
				s.ScaleInput(input, step)
				if d := apart(input, ref.Walk[step].Input); d > tolerance {
					t.Errorf("input %d is %v, want %v", step, input, ref.Walk[step].Input)
				}
				drawn := 0
				s.Step(ref.epsilon(input, step), step, sample, func() []float32 { drawn++; return refs.Noise[step] })
				if d := apart(sample, ref.Walk[step].Sample); d > tolerance {
					t.Errorf("sample %d is %v, want %v", step, sample, ref.Walk[step].Sample)
				} else {
					worst = max(worst, d)
				}
				for i, v := range sample {
					if numbers++; float64(v) == ref.Walk[step].Sample[i] {
						exact++
					}
				}
				if want := map[bool]int{true: 1}[plan.Noisy()]; drawn != want {
					t.Errorf("step %d drew noise %d times, want %d", step, drawn, want)
				}
			}
		})
	}
	t.Logf("%d of %d numbers equal to the last bit, worst %.1e of the largest number", exact, numbers, worst)
}

// A model that predicts v = alpha eps - sigma picture of the same eps walks the same way.
func TestVPrediction(t *testing.T) {
	refs := readReferences(t)
	for name, ref := range refs.Runs {
		t.Run(name, func(t *testing.T) {
			asked := ref.config(t, map[string]any{"prediction_type": "v_prediction"})
			plan, err := scheduler.New(asked, ref.Steps)
			if err != nil {
				t.Fatal(err)
			}
			alphas := squaredAlphas(ref)
			s := plan.Start()
			sample := slices.Clone(refs.X0)
			for i := range sample {
				sample[i] *= s.InitNoiseSigma()
			}
			first := slices.Clone(sample)
			for step, at := range s.Timesteps() {
				if asked.Class == scheduler.PNDM && step == 2 {
					return // From here on PNDM averages predictions of v, which is another method.
				}
				input := slices.Clone(sample)
				s.ScaleInput(input, step)
				a := alphas[int(at)]
				if levels := plan.Sigmas(); levels != nil {
					a = 1 / (1 + float64(levels[step])*float64(levels[step]))
				}
				// PNDM's second step averages two predictions at the first timestep, from the first sample.
				seen := input
				if asked.Class == scheduler.PNDM && step == 1 {
					a, seen = alphas[int(s.Timesteps()[0])], first
				}
				output := ref.epsilon(input, step)
				for i, e := range output {
					picture := (float64(seen[i]) - math.Sqrt(1-a)*float64(e)) / math.Sqrt(a)
					output[i] = float32(math.Sqrt(a)*float64(e) - math.Sqrt(1-a)*picture)
				}
				s.Step(output, step, sample, func() []float32 { return refs.Noise[step] })
				if d := apart(sample, ref.Walk[step].Sample); d > 2e-5 {
					t.Errorf("sample %d is %v, want %v", step, sample, ref.Walk[step].Sample)
				}
			}
		})
	}
}

// squaredAlphas is the definition: the product of 1 - beta, beta scaled linearly.
func squaredAlphas(ref reference) []float64 {
	from, to := math.Sqrt(ref.Config["beta_start"].(float64)), math.Sqrt(ref.Config["beta_end"].(float64))
	out := make([]float64, 1000)
	product := 1.0
	for i := range out {
		beta := from + (to-from)*float64(i)/999
		product *= 1 - beta*beta
		out[i] = product
	}
	return out
}
