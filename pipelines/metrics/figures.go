package metrics

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/promptmill/promptmill/pipelines/audit"
	"github.com/promptmill/promptmill/schemas"
)

// An Interval is a mean over prompts with its 95% bootstrap interval.
type Interval struct {
	Mean float64 `json:"mean"`
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

// NewInterval is the 95% percentile interval (Efron 1979) around mean of the means of bootstrap samples, which it sorts.
func NewInterval(mean float64, means []float64) Interval {
	slices.Sort(means)
	at := func(q float64) float64 { return means[int(math.Round(q*float64(len(means)-1)))] }
	return Interval{Mean: mean, Low: at(.025), High: at(.975)}
}

// Level writes the interval for people, as that of a score: "8.12 [8.00, 8.25]".
func (v Interval) Level() string { return fmt.Sprintf("%.2f [%.2f, %.2f]", v.Mean, v.Low, v.High) }

// Signed writes it as that of a difference: "+0.12 [-0.25, +0.50]".
func (v Interval) Signed() string { return fmt.Sprintf("%+.2f [%+.2f, %+.2f]", v.Mean, v.Low, v.High) }

// A Stage is one system's figures.
type Stage struct {
	Name string
	// Scores are by measure; those of decoding without chance are under NAME_beam.
	Scores map[string]Interval
	// Gains are the differences to the stage before, prompt by prompt, under the same names.
	Gains map[string]Interval
	// Prompts is on how many prompts the scores rest.
	Prompts int
	// Words is the mean length of a text in words, Distinct1 and Distinct2 the parts of its words and
	// of its pairs of words that are different (Li et al. 2016), over all texts. Both are of the
	// sampled texts, or of the fixed ones.
	Words, Distinct1, Distinct2 float64
	// Trust is how far the policy can be trusted as a judge, nil where nobody asked.
	Trust *audit.Trust
}

// MarshalJSON writes a stage flat, as scripts read it: {"name":"sft","oracle_total":{"mean",...},...}.
func (s Stage) MarshalJSON() ([]byte, error) {
	out := map[string]any{
		"name": s.Name, "prompts": s.Prompts, "words": round(s.Words), "distinct_1": round(s.Distinct1), "distinct_2": round(s.Distinct2),
	}
	for name, v := range s.Scores {
		out[name] = v.rounded()
	}
	if len(s.Gains) > 0 {
		gains := map[string]Interval{}
		for name, v := range s.Gains {
			gains[name] = v.rounded()
		}
		out["gain"] = gains
	}
	if s.Trust != nil {
		accuracy, correlation, unread := map[string]schemas.Share{}, map[string]float64{}, map[string]float64{}
		for _, a := range s.Trust.Judge {
			accuracy[a.Aspect], correlation[a.Aspect], unread[a.Aspect] = rounded(a.Accuracy), round(a.Correlation), round(a.Unread)
		}
		out["judge_accuracy"], out["judge_correlation"], out["judge_unread"] = accuracy, correlation, unread
		out["judgment_accuracy"], out["judgment_unread"] = rounded(s.Trust.Judgment), round(s.Trust.Unread)
	}
	return json.Marshal(out)
}

func rounded(s schemas.Share) schemas.Share {
	return schemas.Share{Value: round(s.Value), Low: round(s.Low), High: round(s.High), Of: s.Of}
}

// JudgeText says for people how often the judge agrees with the facts, by aspect: "aesthetic 0.81, pick 0.79".
func (s Stage) JudgeText() string {
	if s.Trust == nil {
		return ""
	}
	var parts []string
	for _, a := range s.Trust.Judge {
		text := fmt.Sprintf("%s %.2f", a.Aspect, a.Accuracy.Value)
		if a.Unread > 0 {
			text += fmt.Sprintf(" (%.0f%% unread)", 100*a.Unread)
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ", ")
}

// JudgmentText says how often the judge of judgments is right, with its interval.
func (s Stage) JudgmentText() string {
	if s.Trust == nil || s.Trust.Judgment.Of == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f [%.2f, %.2f]", s.Trust.Judgment.Value, s.Trust.Judgment.Low, s.Trust.Judgment.High)
}

func (v Interval) rounded() Interval { return Interval{round(v.Mean), round(v.Low), round(v.High)} }

func round(x float64) float64 { return math.Round(x*1e4) / 1e4 }

// Summarise makes the figures of the systems of rows, in the order in which order names them; each but the
// first, the original, is compared with the one before it that is no tags, on the prompts that both have.
// resamples bootstrap samples over prompts are drawn with seed. Equal rows, in any order, give equal figures.
func Summarise(rows []schemas.Measurement, order []string, resamples int, seed int64) []Stage {
	var stages []Stage
	var before values
	for _, system := range order {
		of := slices.DeleteFunc(slices.Clone(rows), func(m schemas.Measurement) bool { return m.System != system })
		if len(of) == 0 {
			continue
		}
		st := Stage{Name: system, Scores: map[string]Interval{}, Gains: map[string]Interval{}}
		v := valuesOf(of)
		for name, byPrompt := range v {
			ids := slices.Sorted(maps.Keys(byPrompt))
			st.Prompts = max(st.Prompts, len(ids))
			st.Scores[name] = bootstrap(pick(byPrompt, ids), resamples, seed)
			// There is one original and one of each tags: they are compared with whatever came of chance or not.
			other, ok := before[name]
			if !ok {
				other, ok = before[strings.TrimSuffix(name, "_beam")], before != nil
			}
			if !ok {
				continue
			}
			var gains []float64
			for _, id := range ids {
				if x, ok := other[id]; ok {
					gains = append(gains, byPrompt[id]-x)
				}
			}
			if len(gains) > 0 {
				st.Gains[name] = bootstrap(gains, resamples, seed)
			}
		}
		st.texts(of)
		stages = append(stages, st)
		if !strings.HasPrefix(system, "tags") {
			before = v
		}
	}
	return stages
}

// values are means over draws, by measure and prompt.
type values map[string]map[string]float64

func valuesOf(rows []schemas.Measurement) values {
	rows = slices.Clone(rows)
	slices.SortFunc(rows, func(a, b schemas.Measurement) int { return strings.Compare(a.ID, b.ID) }) // sums of floats depend on the order
	sums, n := values{}, map[string]map[string]float64{}
	for _, r := range rows {
		for _, m := range r.Scores {
			name := m.Name
			if r.Decoding == Beam {
				name += "_beam"
			}
			if sums[name] == nil {
				sums[name], n[name] = map[string]float64{}, map[string]float64{}
			}
			sums[name][r.PromptID] += m.Value
			n[name][r.PromptID]++
		}
	}
	for name, byPrompt := range sums {
		for id := range byPrompt {
			byPrompt[id] /= n[name][id]
		}
	}
	return sums
}

func pick(byPrompt map[string]float64, ids []string) []float64 {
	var out []float64
	for _, id := range ids {
		out = append(out, byPrompt[id])
	}
	return out
}

// bootstrap is the mean of x with its percentile interval.
func bootstrap(x []float64, resamples int, seed int64) Interval {
	mean := func(at func(int) int) float64 {
		var sum float64
		for i := range x {
			sum += x[at(i)]
		}
		return sum / float64(len(x))
	}
	rng := rand.New(rand.NewPCG(uint64(seed), uint64(len(x))))
	means := make([]float64, resamples)
	for i := range means {
		means[i] = mean(func(int) int { return rng.IntN(len(x)) })
	}
	return NewInterval(mean(func(i int) int { return i }), means)
}

// texts sets what is measured of the texts.
func (s *Stage) texts(rows []schemas.Measurement) {
	ones, twos := map[string]bool{}, map[[2]string]bool{}
	var texts, words, pairs float64
	prompts := map[string]bool{}
	for _, r := range rows {
		prompts[r.PromptID] = true
		if r.Decoding == Beam {
			continue
		}
		texts++
		last := ""
		for i, w := range strings.FieldsFunc(strings.ToLower(r.Text), func(c rune) bool { return strings.ContainsRune(" ,.;:!?()[]\"\t\n", c) }) {
			words++
			ones[w] = true
			if i > 0 {
				pairs++
				twos[[2]string{last, w}] = true
			}
			last = w
		}
	}
	s.Prompts = max(s.Prompts, len(prompts))
	s.Words, s.Distinct1, s.Distinct2 = words/max(texts, 1), float64(len(ones))/max(words, 1), float64(len(twos))/max(pairs, 1)
}

// PerPrompt are the means over draws of one system's scores, by measure and prompt; measures of texts decoded without
// chance are under NAME_beam.
func PerPrompt(rows []schemas.Measurement, system string) map[string]map[string]float64 {
	return valuesOf(slices.DeleteFunc(slices.Clone(rows), func(m schemas.Measurement) bool { return m.System != system }))
}
