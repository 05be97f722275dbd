package prefer_test

import (
	"encoding/json"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	"github.com/google/go-cmp/cmp"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/ledger"
	"github.com/promptmill/promptmill/transforms/prefer"
	"github.com/promptmill/promptmill/transforms/template"
	"github.com/promptmill/promptmill/transforms/transformtest"
)

func TestMain(m *testing.M) { ptest.Main(m) }

// samples are the scores of one candidate: aesthetic, pick, alignment.
type samples [3][]float64

var aspects = []string{schemas.Aesthetic, schemas.Pick, schemas.Alignment}

// each gives every aspect the same samples.
func each(scores ...float64) samples { return samples{scores, scores, scores} }

// slate has candidates with these samples; a candidate without any has no picture.
func slate(raw string, candidates ...samples) schemas.Slate {
	s := schemas.Slate{Prompt: schemas.Prompt{ID: schemas.PromptID(raw), Text: raw}}
	for i, c := range candidates {
		text := fmt.Sprint(raw, ", version ", i)
		id := schemas.CandidateID(s.Prompt.ID, text)
		var image schemas.ImageRef
		for a, scores := range c {
			for n, score := range scores {
				image.SHA256 = schemas.PromptID(text)
				s.Judgments = append(s.Judgments, schemas.Judgment{
					ID: schemas.JudgmentID(s.Prompt.ID, id, aspects[a], int32(n)), PromptID: s.Prompt.ID, CandidateID: id, Aspect: aspects[a],
					Sample: int32(n), Score1: 5, Score2: score, Judge: "judge-weights", Answer: "so", Template: "t",
				})
			}
		}
		s.Candidates = append(s.Candidates, schemas.Candidate{ID: id, PromptID: s.Prompt.ID, Index: int32(2 * i), Text: text, Policy: "policy-weights", Image: image})
	}
	return s
}

type rows struct {
	Pairs      []schemas.PreferencePair
	Candidates []schemas.Candidate
	Rewards    []schemas.Reward
	Judgments  []schemas.Judgment
	Rejected   []schemas.Rejected
	Counts     []schemas.Count
}

func run(t testing.TB, cfg prefer.Config, in []schemas.Slate) rows {
	t.Helper()
	p, s := beam.NewPipelineWithRoot()
	out := prefer.Choose(s, cfg, beam.Reshuffle(s, beam.CreateList(s, in)))
	pairs := transformtest.Collect[schemas.PreferencePair](s, out.Pairs)
	candidates := transformtest.Collect[schemas.Candidate](s, out.Candidates)
	rewards := transformtest.Collect[schemas.Reward](s, out.Rewards)
	judgments := transformtest.Collect[schemas.Judgment](s, out.Judgments)
	rejected := transformtest.Collect[schemas.Rejected](s, out.Rejected)
	counts := transformtest.Collect[schemas.Count](s, out.Counts)
	if err := ptest.Run(p); err != nil {
		t.Fatal(err)
	}
	return rows{pairs(), candidates(), rewards(), judgments(), rejected(), ledger.Sum(counts())}
}

func TestChoose(t *testing.T) {
	third := 1.0 / 3
	for _, tt := range []struct {
		name       string
		candidates []samples
		minMargin  float64
		pair       string // "chosen rejected margin bucket"
		filtered   string
		dead       []string
	}{
		{name: "best and worst", candidates: []samples{each(3, 3, 3), each(1, 1, 1), each(4, 4, 4), each(2, 2, 2)}, pair: "2 1 9 10"},
		{name: "lowest index of equals", candidates: []samples{each(3, 3), each(4, 4), each(4, 4), each(3, 3)}, pair: "1 0 3 3"},
		{name: "one point in one sample", candidates: []samples{each(3, 3, 3), {{3, 3, 3}, {3, 3, 4}, {3, 3, 3}}}, pair: fmt.Sprint("1 0 ", third, " 0.5")},
		{name: "one thousandth", candidates: []samples{each(3, 3, 3), {{3, 3, 3}, {3, 3.001, 3}, {3, 3, 3}}}, pair: fmt.Sprint("1 0 ", 0.001/3, " 0.5")},
		{name: "equal sums by other ways", candidates: []samples{{{1, 2, 2}, {3, 3, 3}, {1, 1, 3}}, {{1, 1, 3}, {1, 2, 2}, {3, 3, 3}}}, filtered: "tie"},
		{
			// In floating point .1 + .2 + .3 is not .6.
			name:       "equal sums that floating point tells apart",
			candidates: []samples{{{.1, .1}, {.2, .2}, {.3, .3}}, {{.2, .2}, {.2, .2}, {.2, .2}}}, filtered: "tie",
		},
		{name: "two samples and three", candidates: []samples{{{1, 2}, {0, 0}, {0, 0}}, {{1, 2, 1.5}, {0, 0, 0}, {0, 0, 0}}}, filtered: "tie"},
		{name: "all equal", candidates: []samples{each(2, 2, 2), each(2, 2, 2), each(2, 2, 2)}, filtered: "tie"},
		{name: "one candidate", candidates: []samples{each(2, 2, 2)}, filtered: "single_candidate"},
		{name: "one with a reward", candidates: []samples{each(2, 2, 2), {{1, 1}, {1}, {1, 1}}, {}}, filtered: "single_candidate", dead: []string{"score too_few_samples"}},
		{name: "under the margin", candidates: []samples{each(2, 2, 2), each(2, 2, 2.9)}, minMargin: 1, filtered: "margin"},
		{name: "on the margin", candidates: []samples{each(2, 2, 2), each(2, 2, 2.9)}, minMargin: .9, pair: "1 0 0.9 1"},
		{name: "no candidate", dead: []string{"prefer no_candidate"}},
		{name: "no picture", candidates: []samples{{}, {}}, dead: []string{"prefer no_candidate"}},
		{name: "no reward", candidates: []samples{{{1, 1}, nil, {1, 1}}}, dead: []string{"prefer no_candidate", "score too_few_samples"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := slate("cat", tt.candidates...)
			slices.Reverse(in.Judgments) // their order does not matter
			cfg := prefer.DefaultConfig()
			cfg.MinMargin = tt.minMargin
			got := run(t, cfg, []schemas.Slate{in})
			var pair, filtered, bucket string
			var dead []string
			for _, c := range got.Counts {
				if c.Outcome == schemas.Filtered && c.N == 1 {
					filtered = c.Reason
				}
				if b, ok := strings.CutPrefix(c.Reason, "margin_"); ok && c.Outcome == schemas.Used && c.Stage == "prefer" {
					bucket = b
				}
			}
			for _, p := range got.Pairs {
				chosen := slices.IndexFunc(in.Candidates, func(c schemas.Candidate) bool { return c.ID == p.ChosenID })
				rejected := slices.IndexFunc(in.Candidates, func(c schemas.Candidate) bool { return c.ID == p.RejectedID })
				pair = fmt.Sprint(chosen, " ", rejected, " ", p.Margin, " ", bucket)
				if err := p.Validate(); err != nil {
					t.Error(err)
				}
				want := schemas.PreferencePair{
					Kind: "rewrite", PromptID: in.Prompt.ID, Prompt: template.Paper().Rewrite.Messages("cat"),
					Chosen:   []schemas.Message{{Role: "assistant", Content: fmt.Sprint("cat, version ", chosen)}},
					Rejected: []schemas.Message{{Role: "assistant", Content: fmt.Sprint("cat, version ", rejected)}},
					ChosenID: p.ChosenID, RejectedID: p.RejectedID, ChosenScore: p.ChosenScore, RejectedScore: p.RejectedScore, Margin: p.Margin,
					Policy: "policy-weights", Judge: "judge-weights",
				}
				want.ID = schemas.PreferenceID(want.Kind, want.PromptID, want.Chosen, want.Rejected)
				if d := cmp.Diff(want, p); d != "" {
					t.Error(d)
				}
			}
			for _, r := range got.Rejected {
				dead = append(dead, r.Stage+" "+r.Reason)
				var payload schemas.Prompt
				if err := json.Unmarshal([]byte(r.Payload), &payload); err != nil || payload != in.Prompt {
					t.Errorf("dead letter %+v cannot be run again: %v", r, err)
				}
			}
			slices.Sort(dead)
			if pair != tt.pair || filtered != tt.filtered {
				t.Errorf("pair %q, filtered %q; want %q and %q", pair, filtered, tt.pair, tt.filtered)
			}
			if d := cmp.Diff(tt.dead, dead); d != "" {
				t.Error("dead", d)
			}
			if len(got.Candidates) != len(in.Candidates) || len(got.Judgments) != len(in.Judgments) {
				t.Errorf("%d candidates and %d judgments handed on, of %d and %d", len(got.Candidates), len(got.Judgments), len(in.Candidates), len(in.Judgments))
			}
			for _, r := range got.Rewards {
				if err := r.Validate(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// Where the policy continues the prompt, a pair has what it said and no more.
func TestContinues(t *testing.T) {
	cfg := prefer.DefaultConfig()
	cfg.Continues = ", "
	got := run(t, cfg, []schemas.Slate{slate("cat", each(3, 3, 3), each(1, 1, 1))})
	if len(got.Pairs) != 1 || got.Pairs[0].Chosen[0].Content != "version 0" || got.Pairs[0].Rejected[0].Content != "version 1" {
		t.Errorf("pairs %+v", got.Pairs)
	}
}

func TestAspectsLeftOut(t *testing.T) {
	cfg := prefer.DefaultConfig()
	cfg.Aspects = []string{schemas.Pick}
	in := slate("cat", samples{{5, 5}, {1, 2}, nil}, samples{{0, 0}, {2, 2}, nil})
	got := run(t, cfg, []schemas.Slate{in})
	if len(got.Rewards) != 2 || len(got.Pairs) != 1 || got.Pairs[0].ChosenID != in.Candidates[1].ID || got.Pairs[0].Margin != 0.5 {
		t.Fatalf("rewards %+v, pairs %+v", got.Rewards, got.Pairs)
	}
	for _, r := range got.Rewards {
		if r.Aesthetic != nil || r.Alignment != nil || r.Pick == nil || *r.Pick != r.Total || r.Samples != 2 {
			t.Errorf("reward %+v", r)
		}
	}
}

// naive is the same decision in the plainest way: every score a decimal text, every total its own sum.
func naive(s schemas.Slate, minSamples int) (totals map[string]string, chosen, rejected, margin string) {
	totals = map[string]string{}
	var best, worst *big.Rat
	for _, c := range s.Candidates {
		total := new(big.Rat)
		enough := c.Image.SHA256 != ""
		for _, a := range aspects {
			sum, n := new(big.Rat), int64(0)
			for _, j := range s.Judgments {
				if j.CandidateID == c.ID && j.Aspect == a {
					score, _ := new(big.Rat).SetString(fmt.Sprint(j.Score2))
					sum.Add(sum, score)
					n++
				}
			}
			if n < int64(minSamples) {
				enough = false
				break
			}
			total.Add(total, sum.Quo(sum, new(big.Rat).SetInt64(n)))
		}
		if !enough {
			continue
		}
		totals[c.ID] = decimal(total)
		if best == nil || total.Cmp(best) > 0 {
			best, chosen = total, c.ID
		}
		if worst == nil || total.Cmp(worst) < 0 {
			worst, rejected = total, c.ID
		}
	}
	if best == nil || best.Cmp(worst) == 0 {
		return totals, "", "", ""
	}
	return totals, chosen, rejected, decimal(new(big.Rat).Sub(best, worst))
}

func decimal(r *big.Rat) string {
	f, _ := r.Float64()
	return fmt.Sprint(f)
}

func TestAgainstNaive(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var in []schemas.Slate
	for i := range 400 {
		grid := []float64{1, 10, 1000}[rng.IntN(3)] // whole numbers make ties, thousandths near ties
		var candidates []samples
		for range rng.IntN(9) {
			var c samples
			for a := range c {
				for range 3 - rng.IntN(8)/6 {
					c[a] = append(c[a], (2*grid+float64(rng.IntN(int(2*grid)+1)))/grid)
				}
			}
			if rng.IntN(12) == 0 {
				c[rng.IntN(3)] = nil
			}
			candidates = append(candidates, c)
		}
		s := slate(fmt.Sprint("prompt ", i), candidates...)
		rng.Shuffle(len(s.Judgments), func(i, j int) { s.Judgments[i], s.Judgments[j] = s.Judgments[j], s.Judgments[i] })
		in = append(in, s)
	}
	got := run(t, prefer.DefaultConfig(), in)
	totals, pairs := map[string]string{}, map[string]string{}
	for _, r := range got.Rewards {
		totals[r.CandidateID] = fmt.Sprint(r.Total)
	}
	for _, p := range got.Pairs {
		pairs[p.PromptID] = fmt.Sprint(p.ChosenID, p.RejectedID, p.Margin)
	}
	wantTotals, wantPairs := map[string]string{}, map[string]string{}
	for _, s := range in {
		each, chosen, rejected, margin := naive(s, 2)
		for id, total := range each {
			wantTotals[id] = total
		}
		if chosen != "" {
			wantPairs[s.Prompt.ID] = chosen + rejected + margin
		}
	}
	if d := cmp.Diff(wantTotals, totals); d != "" {
		t.Error("totals", d)
	}
	if d := cmp.Diff(wantPairs, pairs); d != "" {
		t.Error("pairs", d)
	}
	written := map[string]int64{
		"pairs": int64(len(got.Pairs)), "rewards": int64(len(got.Rewards)), "rejected": int64(len(got.Rejected)), "slates": int64(len(in)),
	}
	for _, c := range got.Counts {
		if c.Outcome == schemas.Used {
			written["histogram"] += c.N
		}
	}
	if err := ledger.Check(got.Counts, written, []string{
		"prefer.in = rows.slates", "prefer.out = rows.pairs", "score.out = rows.rewards", "*.dead = rows.rejected", "rows.histogram = prefer.out",
	}); err != nil {
		t.Error(err)
	}
	for _, outcome := range []string{schemas.Filtered, schemas.Dead} {
		if ledger.Total(got.Counts, "prefer", outcome) == 0 {
			t.Errorf("no prompt is %s: the sample shows too little", outcome)
		}
	}
}

func TestConfigRoundTrip(t *testing.T) {
	cfg := prefer.Config{Continues: ", ", Template: template.Paper().Rewrite, Aspects: []string{"pick"}, MinSamples: 1, MinMargin: 0.5}
	transformtest.RoundTrip(t, cfg)
}

func TestValidate(t *testing.T) {
	err := prefer.Config{Aspects: []string{"pick", "pick", "beauty"}, MinMargin: 20.00005}.Validate()
	if err == nil {
		t.Fatal("an empty Config is valid")
	}
	for _, want := range []string{`aspects: "pick" stands there twice`, `aspects: there is no "beauty"`, "min_samples: 0", "min_margin: 20.00005 is not in", "min_margin: 20.00005 has more", "template.id"} {
		if !strings.Contains("\n"+err.Error(), "\nprefer."+want) {
			t.Errorf("no fault %q in\n%v", want, err)
		}
	}
}

func ExampleChoose() {
	p, s := beam.NewPipelineWithRoot()
	slates := beam.CreateList(s, []schemas.Slate{{Prompt: schemas.Prompt{ID: schemas.PromptID("a cat"), Text: "a cat"}}})
	rows := prefer.Choose(s, prefer.DefaultConfig(), slates)
	_, _ = p, rows.Pairs
}
