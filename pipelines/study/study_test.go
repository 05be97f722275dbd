package study_test

import (
	"bytes"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/promptmill/promptmill/pipelines/metrics"
	"github.com/promptmill/promptmill/pipelines/prompts"
	"github.com/promptmill/promptmill/pipelines/study"
	"github.com/promptmill/promptmill/recipe"
	"github.com/promptmill/promptmill/schemas"
)

// small compares two variants with two seeds.
func small() *recipe.Study {
	return &recipe.Study{
		Name: "small", Recipe: "demo", Measure: "total", Seeds: []int64{1, 2}, MetricsSeed: 9, Resamples: 200, Choose: true,
		Variants: []recipe.Variant{{Name: "base"}, {Name: "other", Set: []string{"dpo.nll_alpha=1"}}},
	}
}

// loop has 20 prompts, of which number i scores i. The tags are worth a half, policy 0 is worth 1, the last one 1 + gain;
// decoded without chance they are worth 2 more.
func loop(variant string, seed int64, part string, gain float64) study.Loop {
	l := study.Loop{Variant: variant, Seed: seed, Part: part}
	add := func(system, decoding string, worth float64) {
		for i := range 20 {
			id := schemas.PromptID(string(rune('a' + i)))
			l.Rows = append(l.Rows, schemas.Measurement{
				ID: schemas.MeasurementID(system, decoding, id, 0), PromptID: id, System: system, Decoding: decoding, Text: "a cat",
				Scores: []schemas.Metric{{Name: "total", Value: float64(i) + worth}},
			})
		}
	}
	add("original", metrics.Fixed, 0)
	add("tags1", metrics.Fixed, -1)
	add("tags2", metrics.Fixed, .5)
	for _, s := range []struct {
		name  string
		worth float64
	}{{"sft", 1}, {"dpo1", 1 + gain}} {
		add(s.name, metrics.Sampled, s.worth)
		add(s.name, metrics.Beam, s.worth+2)
	}
	l.Stages = metrics.Summarise(l.Rows, append(metrics.FixedSystems(), "sft", "dpo1"), 100, 9)
	l.Notes = []string{"dpo1: left out"}
	return l
}

func loops(part string) []study.Loop {
	return []study.Loop{loop("base", 1, part, .5), loop("base", 2, part, -.25), loop("other", 1, part, .5), loop("other", 2, part, .5)}
}

func TestSummarise(t *testing.T) {
	s := small()
	all := append(loops(prompts.Validation), loops(prompts.Test)...)
	got := study.Summarise(s, all)
	if got.Chosen != "other" || len(got.Parts) != 2 {
		t.Fatalf("chosen %q, %d parts", got.Chosen, len(got.Parts))
	}
	p := got.Parts[0]
	if p.Part != prompts.Validation || p.Prompts != 20 || p.BestTags != "tags2" {
		t.Errorf("part %s, %d prompts, best tags %s", p.Part, p.Prompts, p.BestTags)
	}
	find := func(variant, stage string) study.System {
		i := slices.IndexFunc(p.Systems, func(x study.System) bool { return x.Variant == variant && x.Stage == stage })
		if i < 0 {
			t.Fatalf("no %s of %q", stage, variant)
		}
		return p.Systems[i]
	}
	near := func(i *metrics.Interval, mean, low, high float64) bool {
		return i != nil && math.Abs(i.Mean-mean) < 1e-9 && math.Abs(i.Low-low) < 1e-9 && math.Abs(i.High-high) < 1e-9
	}
	base, other := find("base", "dpo1"), find("other", "dpo1")
	// Prompt by prompt all differences of a seed are equal, so what is left is what seeds differ by.
	for what, ok := range map[string]bool{
		"gain of seeds that differ":     near(base.Gain, .125, -.25, .5) && base.Rose == 1 && base.Surely == 1 && len(base.Seeds) == 2,
		"gain of seeds that agree":      near(other.Gain, .5, .5, .5) && other.Rose == 2,
		"one seed":                      near(base.Seeds[1].Gain, -.25, -.25, -.25) && base.Seeds[1].Seed == 2,
		"over the first variant":        near(other.OverFirst, .375, 0, .75) && base.OverFirst == nil,
		"over the best tags":            near(other.OverTags, 1, 1, 1),
		"the first policy":              near(find("base", "sft").Gain, 1, 1, 1) && near(find("base", "sft").BeamGain, 3, 3, 3),
		"beam":                          near(other.BeamGain, .5, .5, .5) && math.Abs(other.Beam.Mean-(9.5+3.5)) < 1e-9,
		"the original, as wide as ever": math.Abs(find("", "original").Score.Mean-9.5) < 1e-9 && find("", "original").Score.High-find("", "original").Score.Low > 2,
		"notes":                         slices.Equal(base.Seeds[0].Notes, []string{"left out"}),
	} {
		if !ok {
			t.Errorf("%s: %+v\n%+v", what, base, other)
		}
	}
	slices.Reverse(all)
	if d := cmp.Diff(got, study.Summarise(s, all)); d != "" {
		t.Errorf("other figures of the same loops in another order:\n%s", d)
	}
}

func TestBest(t *testing.T) {
	stopped := loops(prompts.Validation)
	stopped[2].Stopped = "collapsed"
	for _, tt := range []struct {
		name  string
		loops []study.Loop
		want  string
	}{
		{"all", loops(prompts.Validation), "other"},
		{"one collapsed", stopped, "base"},
		{"one missing", loops(prompts.Validation)[:3], ""},
		{"test prompts are not looked at", loops(prompts.Test), ""},
	} {
		if got := study.Best(small(), tt.loops); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestTables(t *testing.T) {
	s := small()
	r := study.Summarise(s, loops(prompts.Validation))
	r.About = "a <b>"
	var markdown, page bytes.Buffer
	tables := r.Tables(s)
	if err := study.WriteMarkdown(&markdown, tables); err != nil {
		t.Fatal(err)
	}
	if err := study.WritePage(&page, r, tables); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| base | dpo1 | ", "+0.12 [-0.25, +0.50] | 1 of 2 (1) |", "| other | 2 | dpo1 |", "## Each seed, 20 held-out prompts of the validation half", "and so chosen: other"} {
		if !strings.Contains(markdown.String(), want) {
			t.Errorf("the tables lack %q:\n%s", want, &markdown)
		}
	}
	for _, want := range []string{"a &lt;b&gt;", "<td>&#43;0.50 [&#43;0.50, &#43;0.50]"} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("the page lacks %q:\n%s", want, &page)
		}
	}
	width := 0
	for line := range strings.Lines(markdown.String()) {
		if n := strings.Count(line, "|"); n > 0 && strings.Contains(line, "---") {
			width = n
		} else if n > 0 && width > 0 && n != width {
			t.Errorf("a row of %d cells in a table of %d: %s", n-1, width-1, line)
		} else if n == 0 {
			width = 0
		}
	}
}
