package metrics_test

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/promptmill/promptmill/pipelines/metrics"
	"github.com/promptmill/promptmill/schemas"
)

// measured is what system made of n prompts, whose scores are base + the prompt's number + gain.
func measured(system, decoding string, n int, gain float64, text string) []schemas.Measurement {
	var rows []schemas.Measurement
	for i := range n {
		for draw := range int32(2) {
			id := schemas.PromptID(string(rune('a' + i)))
			rows = append(rows, schemas.Measurement{
				ID: schemas.MeasurementID(system, decoding, id, draw), PromptID: id, System: system, Decoding: decoding, Draw: draw, Text: text,
				// The two draws of a prompt differ by one, so their mean is the prompt's.
				Scores: []schemas.Metric{{Name: "total", Value: float64(i) + gain + float64(draw) - .5}},
			})
		}
	}
	return rows
}

func TestSummarise(t *testing.T) {
	const n = 20
	rows := slices.Concat(
		measured("original", metrics.Fixed, n, 0, "a cat"),
		measured("tags1", metrics.Fixed, n, -1, "a cat, oil"),
		measured("sft", metrics.Sampled, n, 1, "a cat, a cat"),
		measured("sft", metrics.Beam, n, 3, "a cat, oil on canvas"),
		measured("dpo1", metrics.Sampled, n/2, 2, "a cat"),
		measured("nobody asked", metrics.Fixed, n, 9, "x"))
	order := []string{"original", "tags1", "sft", "dpo1", "dpo2"}
	got := metrics.Summarise(rows, order, 500, 7)

	type want struct {
		name       string
		prompts    int
		mean, gain float64
		words      float64
		distinct2  float64
	}
	const all = float64(n-1) / 2
	wants := []want{
		{"original", n, all, math.NaN(), 2, 1.0 / 40},
		{"tags1", n, all - 1, -1, 3, 2.0 / 80},
		{"sft", n, all + 1, 1, 4, 2.0 / 120}, // of the sampled texts only
		{"dpo1", n / 2, float64(n/2-1)/2 + 2, 1, 2, 1.0 / 20},
	}
	if len(got) != len(wants) {
		t.Fatalf("%d stages: %+v", len(got), got)
	}
	near := func(a, b float64) bool { return math.Abs(a-b) < 1e-9 }
	for i, w := range wants {
		s := got[i]
		v := s.Scores["total"]
		if s.Name != w.name || s.Prompts != w.prompts || !near(v.Mean, w.mean) || !near(s.Words, w.words) || !near(s.Distinct2, w.distinct2) {
			t.Errorf("%+v; want %+v", s, w)
		}
		if v.Low >= v.Mean || v.High <= v.Mean || v.High-v.Low > 8 {
			t.Errorf("%s: %+v is no interval of so many prompts", s.Name, v)
		}
		// Prompt by prompt all gains are equal, so the paired interval has no width, however wide the other is.
		if g, ok := s.Gains["total"]; ok == math.IsNaN(w.gain) || ok && (!near(g.Mean, w.gain) || !near(g.Low, w.gain) || !near(g.High, w.gain)) {
			t.Errorf("%s: gain %+v, want %v", s.Name, g, w.gain)
		}
	}
	if g := got[2].Gains["total_beam"]; !near(g.Mean, 3) {
		t.Errorf("beam against the original: %+v", g)
	}
	slices.Reverse(rows)
	if d := cmp.Diff(got, metrics.Summarise(rows, order, 500, 7)); d != "" {
		t.Errorf("other figures of the same rows in another order:\n%s", d)
	}
}

func TestStageJSON(t *testing.T) {
	s := metrics.Stage{Name: "sft", Prompts: 3, Words: 4, Scores: map[string]metrics.Interval{"oracle_total": {Mean: 8.12345678, Low: 8, High: 9}}}
	data, err := json.Marshal([]metrics.Stage{s})
	want := `[{"distinct_1":0,"distinct_2":0,"name":"sft","oracle_total":{"mean":8.1235,"low":8,"high":9},"prompts":3,"words":4}]`
	if err != nil || string(data) != want {
		t.Errorf("%s, %v; want %s", data, err, want)
	}
}

func TestPage(t *testing.T) {
	var b strings.Builder
	err := metrics.WritePage(&b, metrics.Page{
		Title: "a <b>", Facts: [][2]string{{"day", "2026-01-31"}}, StepHead: []string{"step"}, Steps: [][]string{{"dpo-1"}},
		Stages: []metrics.Stage{{Name: "sft", Prompts: 3, Scores: map[string]metrics.Interval{"total": {Mean: 8, Low: 7, High: 9}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"a &lt;b&gt;", "8.00 [7.00, 9.00]", "<th>total<th>gain", "<td>dpo-1"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the page lacks %q:\n%s", want, b.String())
		}
	}
}
