// Package study compares loops: variants of one recipe, each run with several seeds, measured on the same prompts and
// pictures.
//
//	variants x seeds -> loops (package selfreward) -> measurements -.
//	                                                               +-> Summarise -> Tables -> Markdown, HTML
//	                                               judges' figures -'
//
// # Design
//
// A study runs no graph of its own: its loops lie in one store and share what they have in common, and a study is where it
// is by where its loops are. Settings are chosen on one half of the held-out prompts and reported on the other: the test
// half of a variant that was not chosen is never measured, so it cannot be looked at either.
package study

import (
	"fmt"
	"slices"
	"strings"

	"github.com/promptmill/promptmill/pipelines/metrics"
	"github.com/promptmill/promptmill/pipelines/prompts"
	"github.com/promptmill/promptmill/recipe"
	"github.com/promptmill/promptmill/schemas"
)

// A Loop is one loop of a study, at its end.
type Loop struct {
	Variant string
	Seed    int64
	// Part is the half of the held-out prompts.
	Part string
	// Stages are its figures, Rows the measurements behind them.
	Stages []metrics.Stage
	Rows   []schemas.Measurement
	// Notes say what was left out, such as judgment pairs, by iteration.
	Notes []string
	// Stopped is why it did not come to its end, as a collapse; "" if it did.
	Stopped string
}

// A Result is what a study found.
type Result struct {
	Study string `json:"study"`
	About string `json:"about"`
	// Measure is the score in all figures, Seeds those of the loops.
	Measure string  `json:"measure"`
	Seeds   []int64 `json:"seeds"`
	// Chosen is the variant that does best on the validation half, "" where none is chosen.
	Chosen string `json:"chosen,omitempty"`
	// Parts are the halves of the held-out prompts.
	Parts []Part `json:"parts"`
}

// A Part is what was found on one half of the held-out prompts.
type Part struct {
	Part string `json:"part"`
	// Prompts is how many were measured.
	Prompts int `json:"prompts"`
	// BestTags is the system of fixed tags with the highest score there.
	BestTags string   `json:"best_tags"`
	Systems  []System `json:"systems"`
	// Stopped are loops that did not come to their end, with the reason.
	Stopped []string `json:"stopped,omitempty"`
}

// A System is a stage of a variant, over all seeds. Fixed systems are of no variant.
type System struct {
	Variant string `json:"variant,omitempty"`
	Stage   string `json:"stage"`
	// Score and Beam are of sampled texts and of texts decoded without chance.
	Score metrics.Interval  `json:"score"`
	Beam  *metrics.Interval `json:"beam,omitempty"`
	// Gain is over the stage before (the first policy's over the original), OverFirst over the same stage of the first
	// variant, OverTags over the best tags: prompt by prompt and seed by seed.
	Gain      *metrics.Interval `json:"gain,omitempty"`
	BeamGain  *metrics.Interval `json:"beam_gain,omitempty"`
	OverFirst *metrics.Interval `json:"over_first,omitempty"`
	OverTags  *metrics.Interval `json:"over_tags,omitempty"`
	// Seeds are the same of each seed; Rose counts those whose gain is above 0, Surely those whose interval is too.
	Seeds  []Seed `json:"seeds,omitempty"`
	Rose   int    `json:"rose"`
	Surely int    `json:"surely"`
	// Words and Distinct2 are means over the seeds.
	Words     float64 `json:"words"`
	Distinct2 float64 `json:"distinct_2"`
}

// A Seed is a stage of one loop.
type Seed struct {
	Seed  int64             `json:"seed"`
	Stage metrics.Stage     `json:"stage"`
	Score metrics.Interval  `json:"score"`
	Gain  *metrics.Interval `json:"gain,omitempty"`
	Notes []string          `json:"notes,omitempty"`
}

// Best is the variant whose last stage scores best on the mean over seeds; of equals the first. Variants with a loop that
// stopped are not chosen. It is "" as long as a loop is missing.
func Best(s *recipe.Study, loops []Loop) string {
	best, most := "", 0.0
	for _, v := range s.Variants {
		var sum float64
		n, stopped := 0, false
		for _, l := range loops {
			if l.Variant != v.Name || l.Part != prompts.Validation {
				continue
			}
			n++
			if stopped = stopped || l.Stopped != "" || len(l.Stages) == 0; !stopped {
				sum += l.Stages[len(l.Stages)-1].Scores[s.Measure].Mean
			}
		}
		if n < len(s.Seeds) {
			return ""
		}
		if !stopped && (best == "" || sum/float64(n) > most) {
			best, most = v.Name, sum/float64(n)
		}
	}
	return best
}

// Summarise makes the result of the loops that there are. Equal loops, in any order, give equal results.
func Summarise(s *recipe.Study, loops []Loop) Result {
	r := Result{Study: s.Name, About: s.About, Measure: s.Measure, Seeds: s.Seeds}
	if s.Choose {
		r.Chosen = Best(s, loops)
	}
	for _, part := range []string{prompts.Validation, prompts.Test} {
		of := slices.DeleteFunc(slices.Clone(loops), func(l Loop) bool { return l.Part != part })
		if len(of) > 0 {
			r.Parts = append(r.Parts, summarise(s, part, of))
		}
	}
	return r
}

// summarise makes the figures of one part.
func summarise(s *recipe.Study, name string, loops []Loop) Part {
	p := Part{Part: name}
	t := table{study: s, loops: loops}
	p.BestTags = t.bestTags()
	for _, system := range metrics.FixedSystems() {
		if v := t.fixed(system); v != nil {
			score, ok := v.interval(s.Resamples, s.MetricsSeed)
			if ok {
				p.Systems = append(p.Systems, System{Stage: system, Score: score})
				p.Prompts = max(p.Prompts, len(v[0]))
			}
		}
	}
	for _, v := range s.Variants {
		p.Systems = append(p.Systems, t.variant(v.Name, p.BestTags)...)
	}
	for _, l := range loops {
		if l.Stopped != "" {
			p.Stopped = append(p.Stopped, fmt.Sprintf("%s, seed %d: %s", l.Variant, l.Seed, l.Stopped))
		}
	}
	slices.Sort(p.Stopped)
	return p
}

// table finds scores in loops.
type table struct {
	study *recipe.Study
	loops []Loop
}

// of are the loops of a variant, by the study's order of seeds.
func (t table) of(variant string) (out []Loop) {
	for _, seed := range t.study.Seeds {
		for _, l := range t.loops {
			if l.Variant == variant && l.Seed == seed {
				out = append(out, l)
			}
		}
	}
	return out
}

// scores are those of a system in loops, nil if one of them has none.
func scores(loops []Loop, system, measure string) values {
	var out values
	for _, l := range loops {
		v := metrics.PerPrompt(l.Rows, system)[measure]
		if v == nil {
			return nil
		}
		out = append(out, v)
	}
	return out
}

// fixed are the scores of a system that is no policy's: those of any loop, for all measure the same.
func (t table) fixed(system string) values {
	for _, l := range t.loops {
		if v := scores([]Loop{l}, system, t.study.Measure); v != nil {
			return v
		}
	}
	return nil
}

// bestTags is the fixed system but the original with the highest mean.
func (t table) bestTags() (best string) {
	var most float64
	for _, system := range metrics.FixedSystems()[1:] {
		v := t.fixed(system)
		if v == nil {
			continue
		}
		if score, ok := v.interval(100, t.study.MetricsSeed); ok && (best == "" || score.Mean > most) {
			best, most = system, score.Mean
		}
	}
	return best
}

// variant are the systems of one variant, by stage; stages that a seed did not reach are not there.
func (t table) variant(name, bestTags string) (out []System) {
	loops := t.of(name)
	if len(loops) == 0 {
		return nil
	}
	interval := func(v values) *metrics.Interval {
		if i, ok := v.interval(t.study.Resamples, t.study.MetricsSeed); ok {
			return &i
		}
		return nil
	}
	first, tags := t.of(t.study.Variants[0].Name), t.fixed(bestTags)
	measure, before := t.study.Measure, metrics.FixedSystems()[0]
	for _, stage := range stagesOf(loops) {
		v, beam := scores(loops, stage, measure), scores(loops, stage, measure+"_beam")
		score, ok := v.interval(t.study.Resamples, t.study.MetricsSeed)
		if !ok {
			continue
		}
		s := System{Variant: name, Stage: stage, Score: score}
		earlier := scores(loops, before, measure)
		if earlier != nil {
			s.Gain = interval(v.minus(earlier))
		}
		if beam != nil {
			s.Beam = interval(beam)
			e := scores(loops, before, measure+"_beam")
			if e == nil {
				e = earlier // there is one original, decoded no way
			}
			if e != nil {
				s.BeamGain = interval(beam.minus(e))
			}
		}
		if name != t.study.Variants[0].Name && len(first) == len(loops) {
			if f := scores(first, stage, measure); f != nil {
				s.OverFirst = interval(v.minus(f))
			}
		}
		if tags != nil {
			s.OverTags = interval(v.minus(slices.Repeat(tags, len(v))))
		}
		for i, l := range loops {
			one := t.seed(l, stage, v[i:i+1])
			if earlier != nil {
				one.Gain = interval(v[i : i+1].minus(earlier[i : i+1]))
			}
			if one.Gain != nil && one.Gain.Mean > 0 {
				s.Rose++
			}
			if one.Gain != nil && one.Gain.Low > 0 {
				s.Surely++
			}
			s.Words += one.Stage.Words / float64(len(loops))
			s.Distinct2 += one.Stage.Distinct2 / float64(len(loops))
			s.Seeds = append(s.Seeds, one)
		}
		out, before = append(out, s), stage
	}
	return out
}

// seed is a stage of one loop.
func (t table) seed(l Loop, stage string, v values) Seed {
	s := Seed{Seed: l.Seed}
	s.Score, _ = v.interval(t.study.Resamples, t.study.MetricsSeed)
	for _, f := range l.Stages {
		if f.Name == stage {
			s.Stage = f
		}
	}
	for _, n := range l.Notes {
		if iteration, note, _ := strings.Cut(n, ": "); iteration == stage {
			s.Notes = append(s.Notes, note)
		}
	}
	return s
}

// stagesOf are the policies that all loops have.
func stagesOf(loops []Loop) (out []string) {
	for _, s := range loops[0].Stages {
		if slices.Contains(metrics.FixedSystems(), s.Name) {
			continue
		}
		if !slices.ContainsFunc(loops, func(l Loop) bool {
			return !slices.ContainsFunc(l.Stages, func(o metrics.Stage) bool { return o.Name == s.Name })
		}) {
			out = append(out, s.Name)
		}
	}
	return out
}
