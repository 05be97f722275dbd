package selfreward_test

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/promptmill/promptmill/pipelines/metrics"
	"github.com/promptmill/promptmill/pipelines/preference"
	"github.com/promptmill/promptmill/pipelines/selfreward"
	"github.com/promptmill/promptmill/pipelines/training"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/parquetio"
	"github.com/promptmill/promptmill/transforms/snapshot"
)

// own is a loop of one iteration that is to learn from three pairs of the judge's own answers.
var own = []string{
	"selfreward.iterations=[{pairs: 4}]", "selfreward.judgment_pairs=3", "judgment_pairs.asked=24", "judgment_pairs.aspects=[pick]",
	"metrics.judge=true", "metrics.draws=1", "selfreward.start=policy",
}

// load returns what a step made.
func load(t *testing.T, b *bench, s selfreward.Step) snapshot.Manifest {
	t.Helper()
	m, err := snapshot.Load(t.Context(), b.loop(t).Store, s.Set, s.RunID)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestJudgmentPairs(t *testing.T) {
	b := newBench(t)
	s := run(t, b.loop(t, append(own, "gates.min_judgment_accuracy=0")...), "", "")
	made := step(t, s, "judgments-1")
	if made.State != selfreward.Done || made.Rows[selfreward.Own] != 3 || made.Rows[selfreward.Mixed] != 7 {
		t.Fatalf("%+v", made)
	}
	m := load(t, b, made)
	kinds := map[string]int{}
	for _, shard := range m.Shards {
		if shard.Config != selfreward.Mixed {
			continue
		}
		err := parquetio.Rows(t.Context(), b.loop(t).Store, []schemas.Shard{shard}, func(p schemas.VisionPreferencePair) error {
			kinds[p.Kind]++
			if want := map[string]int{schemas.KindRewrite: 0, schemas.KindJudgment: 2}[p.Kind]; len(p.Images) != want || p.Images == nil {
				t.Errorf("%s: %d pictures, nil %v", p.Kind, len(p.Images), p.Images == nil)
			}
			if p.Policy != "pupil-start" {
				t.Errorf("%s of policy %s", p.Kind, p.Policy)
			}
			return p.Validate()
		})
		if err != nil {
			t.Error(err)
		}
	}
	if kinds[schemas.KindRewrite] != 4 || kinds[schemas.KindJudgment] != 3 || !strings.Contains(m.Metadata["judgment_pairs"], "held-out items") {
		t.Errorf("rows %v, metadata %v", kinds, m.Metadata)
	}
	checkpoint, _, err := training.Load(t.Context(), b.loop(t).Store, load(t, b, step(t, s, "dpo-1")))
	if err != nil || checkpoint.Rows != 7 || checkpoint.Data != m.Digests[selfreward.Mixed] {
		t.Errorf("trained on %+v, %v", checkpoint, err)
	}

	// The figures as a judge: in the manifest, the JSON and the page.
	trust := step(t, s, "measure-1").Trust
	if trust == nil || len(trust.Judge) != 1 || trust.Judge[0].Accuracy.Of < 5 || trust.Judge[0].Correlation <= 0 || trust.Judgment.Of == 0 {
		t.Fatalf("trust %+v", trust)
	}
	if text := load(t, b, step(t, s, "measure-1")).Metadata["judge"]; !strings.Contains(text, `"aspect":"pick"`) {
		t.Errorf("manifest: %q", text)
	}
	stages, err := selfreward.Stages(t.Context(), b.loop(t).Store, b.loop(t).Recipe, s)
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(stages)
	page, _, err2 := b.loop(t).Store.Read(t.Context(), selfreward.Report("main"))
	if err = errors.Join(err, err2); err != nil || !strings.Contains(string(data), `"judge_accuracy":{"pick":{"value":`) || !strings.Contains(string(page), "judge of judgments") {
		t.Errorf("%v\n%s\n%s", err, data, page)
	}
	b.gated(t, s)
}

// gated is the loop beside the first whose judge of judgments is never good enough: it leaves the pairs out, asks for none,
// and says so.
func (b *bench) gated(t *testing.T, with selfreward.State) {
	before := map[string]int{"audit": b.count("audit"), "metrics": b.count("metrics")}
	s := run(t, b.loop(t, append(own, "selfreward.name=gated", "gates.min_judgment_accuracy=0.999")...), "", "")
	out := step(t, s, "judgments-1")
	for _, want := range []string{"left out", "held-out items", "gates.min_judgment_accuracy, 0.999"} {
		if out.State != selfreward.Skipped || !strings.Contains(out.Note, want) {
			t.Errorf("%+v lacks %q", out, want)
		}
	}
	pairs := load(t, b, step(t, s, "pairs-1"))
	round, err := snapshot.Load(t.Context(), b.loop(t).Store, pairs.Parents[0].Set, pairs.Parents[0].RunID)
	if err != nil || round.Rows[preference.JudgmentPairs] != 0 || pairs.Metadata["judgment_pairs"] != out.Note {
		t.Errorf("round %v, metadata %v, %v", round.Rows, pairs.Metadata, err)
	}
	if pairs.Digest != load(t, b, step(t, with, "pairs-1")).Digest || step(t, s, "dpo-1").Weights == step(t, with, "dpo-1").Weights {
		t.Error("the pairs of rewritings are to be the same, the weights not")
	}
	// What both loops measure of the original and of policy 0 is measured once.
	if audits, measured := b.count("audit")-before["audit"], b.count("metrics")-before["metrics"]; audits != 1 || measured != 1 {
		t.Errorf("%d audits and %d measurements for one new policy", audits, measured)
	}
}

func TestGuardKL(t *testing.T) {
	one := []string{"selfreward.start=policy", "selfreward.iterations=[{pairs: 2}]", "metrics.draws=1"}
	b := newBench(t)
	s, err := b.loop(t, append(one, "selfreward.guard.max_kl=0.4")...).Run(t.Context(), "", "")
	if !errors.Is(err, selfreward.ErrCollapsed) || !strings.Contains(err.Error(), "selfreward.guard.max_kl is 0.4") || step(t, s, "measure-1").State != selfreward.Stopped {
		t.Errorf("half a nat a token: %v", err)
	}
	s = run(t, b.loop(t, append(one, "selfreward.guard.max_kl=0.6")...), "", "")
	stages, err := selfreward.Stages(t.Context(), b.loop(t).Store, b.loop(t).Recipe, s)
	if err != nil {
		t.Fatal(err)
	}
	for _, stage := range stages {
		want, measured := map[string]float64{"sft": 0, "dpo1": .5}[stage.Name]
		if kl, ok := stage.Scores[metrics.KL]; ok != measured || math.Abs(kl.Mean-want) > 1e-9 {
			t.Errorf("%s: %v, %v", stage.Name, kl, ok)
		}
	}
	outside := newBench(t)
	s, err = outside.loop(t, append(one, "selfreward.guard.max_kl=0.4", "models.policy={backend: scene, model: \"\"}")...).Run(t.Context(), "", "")
	if !errors.Is(err, selfreward.ErrUnfit) || !strings.HasPrefix(err.Error(), "selfreward.guard.max_kl: ") || len(s.Steps) > 0 {
		t.Errorf("%v, %+v", err, s.Steps)
	}
}

// A half of the held-out prompts is measured, the same whatever the seed; the measurements have a seed of their own.
func TestMetricsSeed(t *testing.T) {
	b := newBench(t)
	one := []string{"selfreward.start=policy", "selfreward.iterations=[{pairs: 2}]", "metrics.draws=1", "metrics.seed=5"}
	first := run(t, b.loop(t, one...), "", "measure-0")
	second := run(t, b.loop(t, append(one, "selfreward.name=second", "seed=77")...), "", "measure-0")
	for _, name := range []string{"original", "measure-0"} {
		if step(t, first, name).RunID != step(t, second, name).RunID {
			t.Errorf("%s is measured again for another seed of the loop", name)
		}
	}
}
