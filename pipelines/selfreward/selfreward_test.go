package selfreward_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"

	_ "github.com/promptmill/promptmill/model/modeltest/pupil"
	_ "github.com/promptmill/promptmill/model/scene"
	"github.com/promptmill/promptmill/pipelines/metrics"
	"github.com/promptmill/promptmill/pipelines/preference"
	"github.com/promptmill/promptmill/pipelines/prompts"
	"github.com/promptmill/promptmill/pipelines/selfreward"
	"github.com/promptmill/promptmill/pipelines/sft"
	"github.com/promptmill/promptmill/pipelines/training"
	"github.com/promptmill/promptmill/recipe"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/transforms/heldout"
	"github.com/promptmill/promptmill/transforms/mix"
	"github.com/promptmill/promptmill/transforms/parquetio"
	"github.com/promptmill/promptmill/transforms/snapshot"
	"github.com/promptmill/promptmill/transforms/transformtest"
)

func TestMain(m *testing.M) { ptest.Main(m) }

const base = `extends: paper
name: small
prompts:
  inputs: [{name: own, path: %[1]q}]
pairs:
  inputs: [{name: stand-in, path: "builtin:prompts/pairs.jsonl"}]
dedup: {mode: exact}
models:
  policy: {backend: pupil, model: start, revision: "", endpoint: "", concurrency: 0}
  images: {backend: scene, model: "", revision: "", endpoint: "", concurrency: 0}
  judge: {backend: pupil, model: start, revision: "", endpoint: "", concurrency: 0}
rewrite: {candidates: 3}
imagegen: {width: 32, height: 32}
judge: {samples: 2}
training:
  trainer: {backend: pupil, model: ""}
  poll: 1ms
selfreward:
  iterations: [{pairs: 4}, {pairs: 8}]
  judgment_pairs: 0
audit:
  facts:
    - aspect: pick
      rows: 12
      oracle:
        prompts: {inputs: [{name: oracle, path: "builtin:prompts/parti_prompts.tsv", format: tsv, columns: {prompt: Prompt}}]}
        facts: {name: oracle, pairs: 1, noise: 0.1, tie_below: 0.05, width: 32, height: 32}
  validation: ""
heldout:
  benchmarks: [{name: test, path: %[2]q, format: text}]
metrics:
  prompts:
    inputs: [{name: test, path: %[2]q, format: text}]
  judge: false
  scorers: [{name: oracle_total, model: {backend: scene}}]
  resamples: 200
`

// A bench is a store and what loops on it share.
type bench struct {
	dir, recipe string
	// built are the runs that were built and not found.
	built []string
}

func newBench(t *testing.T) *bench {
	dir := transformtest.Cache(t)
	lines := func(name string, things ...string) string {
		path := filepath.Join(t.TempDir(), name)
		var b strings.Builder
		for i, thing := range things {
			for _, place := range []string{"in the fog", "under water", "on the moon", "at dawn"} {
				fmt.Fprintf(&b, "a %s %s %d\n", thing, place, i)
			}
		}
		if err := os.WriteFile(path, []byte(b.String()), 0o666); err != nil {
			t.Fatal(err)
		}
		return path
	}
	b := &bench{dir: dir, recipe: filepath.Join(t.TempDir(), "recipe.yaml")}
	text := fmt.Sprintf(base, lines("prompts.txt", "fox", "castle", "robot", "ship"), lines("test.txt", "dragon", "violin"))
	if err := os.WriteFile(b.recipe, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	return b
}

// loop is the loop of the bench's recipe with assignments.
func (b *bench) loop(t *testing.T, set ...string) *selfreward.Loop {
	t.Helper()
	r, _, err := recipe.Load(b.recipe, set)
	if err == nil {
		err = r.Bind(b.dir)
	}
	if err == nil {
		err = r.Validate()
	}
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(t.Context(), b.dir)
	if err != nil {
		t.Fatal(err)
	}
	l := &selfreward.Loop{Recipe: r, LogicalDate: "2026-01-31", Store: st, Cache: b.dir, Say: t.Logf}
	l.Header = func(set, runID string) snapshot.Header {
		return snapshot.Header{Set: set, RunID: runID, LogicalDate: "2026-01-31"}
	}
	l.Ensure = func(ctx context.Context, h snapshot.Header, _ string, _ int64, graph func(beam.Scope)) (snapshot.Manifest, error) {
		if m, err := snapshot.Outcome(ctx, st, h.Set, h.RunID); err == nil {
			return m, nil
		}
		b.built = append(b.built, h.Set)
		p, s := beam.NewPipelineWithRoot()
		graph(s)
		if err := ptest.Run(p); err != nil {
			return snapshot.Manifest{}, err
		}
		return snapshot.Outcome(ctx, st, h.Set, h.RunID)
	}
	sink := func(set string) parquetio.WriteConfig {
		return parquetio.WriteConfig{Store: b.dir, Dir: snapshot.RunDir(set, "r"), Seed: r.Seed, Buckets: 1}
	}
	commit := func(set string) snapshot.Config { return snapshot.Config{Store: b.dir, Header: l.Header(set, "r")} }
	l.Prompts = func(ctx context.Context) (snapshot.Manifest, error) {
		cfg := prompts.Config{Source: r.Prompts, Heldout: r.Heldout, Dedup: r.Dedup, Sink: sink("prompts"), Snapshot: commit("prompts")}
		return l.Ensure(ctx, cfg.Snapshot.Header, "", 0, func(s beam.Scope) { prompts.Build(s, cfg) })
	}
	l.Heldout = func(ctx context.Context) (snapshot.Manifest, error) {
		cfg := prompts.Config{Source: r.Metrics.Prompts, Dedup: r.Dedup, Sink: sink("heldout"), Snapshot: commit("heldout")}
		return l.Ensure(ctx, cfg.Snapshot.Header, "", 0, func(s beam.Scope) { prompts.Build(s, cfg) })
	}
	l.Supervised = func(ctx context.Context) (snapshot.Manifest, error) {
		cfg := sft.Config{Source: r.Pairs, Heldout: heldout.Config{}, Mix: mix.Config{Rewrite: r.Rewrite.Template}, Sink: sink("sft"), Snapshot: commit("sft")}
		return l.Ensure(ctx, cfg.Snapshot.Header, "", 0, func(s beam.Scope) { sft.Build(s, cfg) })
	}
	return l
}

func (b *bench) count(set string) int {
	n := 0
	for _, s := range b.built {
		if s == set {
			n++
		}
	}
	return n
}

func step(t *testing.T, s selfreward.State, name string) selfreward.Step {
	t.Helper()
	for _, step := range s.Steps {
		if step.Name == name {
			return step
		}
	}
	t.Fatalf("no step %s in %v", name, s.Steps)
	return selfreward.Step{}
}

// jobs is how many trainings the store has.
func jobs(t *testing.T, dir string) int {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, training.Jobs))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func run(t *testing.T, l *selfreward.Loop, from, until string) selfreward.State {
	t.Helper()
	s, err := l.Run(t.Context(), from, until)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestLoop(t *testing.T) {
	b := newBench(t)
	half := run(t, b.loop(t), "", "dpo-1")
	if step(t, half, "dpo-1").State != selfreward.Done || step(t, half, "measure-1").State != selfreward.Pending {
		t.Errorf("stopped at %+v", half.Steps)
	}
	s := run(t, b.loop(t), "", "")
	for _, step := range s.Steps {
		want := selfreward.Done
		if strings.HasPrefix(step.Name, "judgments") {
			want = selfreward.Skipped
		}
		if step.State != want || step.Attempts != 1 || want == selfreward.Skipped && !strings.Contains(step.Note, "selfreward.judgment_pairs is 0") {
			t.Errorf("%+v", step)
		}
	}
	st := b.loop(t).Store
	if jobs(t, b.dir) != 3 {
		t.Errorf("%d trainings", jobs(t, b.dir))
	}

	// Nested prompts, the policy of each iteration, exactly as many pairs as wanted.
	var before map[string]bool
	weights := step(t, s, "sft").Weights
	for i, want := range []int{4, 8} {
		pairs := step(t, s, fmt.Sprintf("pairs-%d", i+1))
		m, err := snapshot.Load(t.Context(), st, pairs.Set, pairs.RunID)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		err = parquetio.Rows(t.Context(), st, m.Shards, func(p schemas.PreferencePair) error {
			seen[p.PromptID] = true
			if p.Policy != weights || p.Judge != weights {
				t.Errorf("iteration %d: policy %s, judge %s; want %s", i+1, p.Policy, p.Judge, weights)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		shared := 0
		for id := range before {
			if seen[id] {
				shared++
			}
		}
		if len(seen) != want || m.Metadata["judgment_pairs"] == "" || shared < len(before)/2 {
			t.Errorf("iteration %d: %d pairs, %d of %d prompts shared, metadata %v", i+1, len(seen), shared, len(before), m.Metadata)
		}
		dpo := step(t, s, fmt.Sprintf("dpo-%d", i+1))
		m, err = snapshot.Load(t.Context(), st, dpo.Set, dpo.RunID)
		if err != nil {
			t.Fatal(err)
		}
		made, _, err := training.Load(t.Context(), st, m)
		if err != nil {
			t.Fatal(err)
		}
		if made.Start != weights || made.Weights != dpo.Weights || made.LearningRate != 1e-5 || made.DPOBeta != .1 {
			t.Errorf("iteration %d: checkpoint %+v from %s", i+1, made, weights)
		}
		before, weights = seen, dpo.Weights
	}
	if s.Weights() != weights {
		t.Errorf("the loop ends with %s, not %s", s.Weights(), weights)
	}

	// The figures of all systems, and the page with them.
	stages, err := selfreward.Stages(t.Context(), st, b.loop(t).Recipe, s)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range stages {
		names = append(names, f.Name)
		if v := f.Scores["oracle_total"]; f.Prompts != 8 || !(0 < v.Low && v.Low <= v.Mean && v.Mean <= v.High && v.High < 15) {
			t.Errorf("%s: %d prompts, %+v", f.Name, f.Prompts, v)
		}
	}
	if want := append(metrics.FixedSystems(), "sft", "dpo1", "dpo2"); !slices.Equal(names, want) {
		t.Errorf("stages %v, want %v", names, want)
	}
	page, _, err := st.Read(t.Context(), selfreward.Report("main"))
	if err != nil || !strings.Contains(string(page), "dpo2") || !strings.Contains(string(page), weights) {
		t.Errorf("report: %v\n%s", err, page)
	}

	// Done again, nothing is done; in a store of its own, all is the same.
	built := len(b.built)
	if again := run(t, b.loop(t), "", ""); again.Digest() != s.Digest() || len(b.built) != built {
		t.Errorf("again: digest %s, built %v", again.Digest(), b.built[built:])
	}
	b.ablations(t, s)
}

// ablations are loops beside the first one: they pay for what is different only.
func (b *bench) ablations(t *testing.T, self selfreward.State) {
	fixed := run(t, b.loop(t, "selfreward.name=fixed", "selfreward.reward=fixed"), "", "")
	weights := step(t, fixed, "sft").Weights
	if weights != step(t, self, "sft").Weights || step(t, fixed, "dpo-1").Weights != step(t, self, "dpo-1").Weights {
		t.Error("policy 0 and the first iteration of both rewards are not the same")
	}
	pairs := step(t, fixed, "pairs-2")
	m, err := snapshot.Load(t.Context(), b.loop(t).Store, pairs.Set, pairs.RunID)
	if err != nil || m.Models["judge"] != weights || m.Models["policy"] != step(t, fixed, "dpo-1").Weights {
		t.Errorf("fixed reward: models %v, %v", m.Models, err)
	}
	if n := jobs(t, b.dir); n > 4 {
		t.Errorf("%d trainings of two loops that share two", n)
	}
	// The size of the rounds does not change what is trained on.
	rounds := run(t, b.loop(t, "selfreward.name=rounds", "selfreward.oversample=2"), "", "")
	for _, name := range []string{"pairs-1", "pairs-2", "dpo-2"} {
		if step(t, rounds, name).Digest != step(t, self, name).Digest {
			t.Errorf("%s: other rows after rounds of another size", name)
		}
	}
}

func TestAnotherRecipe(t *testing.T) {
	b := newBench(t)
	first := run(t, b.loop(t), "", "dpo-1")
	change := "dpo.nll_alpha=1"
	if _, err := b.loop(t, change).Run(t.Context(), "", ""); !errors.Is(err, selfreward.ErrOtherRecipe) || !strings.Contains(err.Error(), "--from") {
		t.Errorf("another recipe: %v", err)
	}
	l := b.loop(t)
	l.LogicalDate = "2026-02-01"
	if _, err := l.Run(t.Context(), "", ""); !errors.Is(err, selfreward.ErrOtherRecipe) {
		t.Errorf("another day: %v", err)
	}
	for _, name := range []string{"dpo-7", "nonsense"} {
		if _, err := b.loop(t).Run(t.Context(), "", name); !errors.Is(err, selfreward.ErrNoStep) || !strings.Contains(err.Error(), "measure-2") {
			t.Errorf("until %s: %v", name, err)
		}
	}
	if _, err := b.loop(t).Run(t.Context(), "dpo-2", ""); err == nil || !strings.Contains(err.Error(), "give --from measure-1") {
		t.Errorf("from a step whose inputs are not there: %v", err)
	}
	then := run(t, b.loop(t, change), "dpo-1", "dpo-1")
	if step(t, then, "pairs-1").RunID != step(t, first, "pairs-1").RunID || step(t, then, "dpo-1").Weights == step(t, first, "dpo-1").Weights {
		t.Error("from dpo-1 on with another loss: the pairs are to stay, the weights not")
	}
	// What is driven otherwise is the same recipe.
	run(t, b.loop(t, change, "training.poll=2ms", "selfreward.guard.max_length=4", "rewrite.in_flight=3"), "", "dpo-1")
}

func TestWhatStopsTheLoop(t *testing.T) {
	for _, tt := range []struct {
		name, step string
		set        []string
		is         error
		says       string
	}{
		{"too few prompts", "pairs-2", []string{"selfreward.iterations=[{pairs: 2}, {pairs: 1000}]"}, snapshot.ErrGate, "at least 1000 are wanted"},
		{"failing trainer", "sft", []string{"training.trainer.options={case: bad_data}"}, training.ErrFailed, "row 3 is a poem"},
		{"NaN", "sft", []string{"training.trainer.options={case: diverges}"}, training.ErrFailed, "a loss of NaN"},
		{"collapse", "measure-1", []string{"selfreward.iterations=[{pairs: 2}]", "selfreward.guard.max_length=1.0001", "selfreward.guard.min_length=0.9999"}, selfreward.ErrCollapsed, "selfreward.guard."},
		{"outside judge", "pairs-1", []string{"models.judge={backend: scene, model: \"\"}", "selfreward.start=policy"}, nil, "selfreward.reward: self wants"},
		{"no start", "sft", []string{"training.start=/nowhere"}, os.ErrNotExist, "training.start"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			s, err := b.loop(t, tt.set...).Run(t.Context(), "", "")
			if err == nil || tt.is != nil && !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.says) {
				t.Fatalf("%v; want %v, %q", err, tt.is, tt.says)
			}
			stopped := step(t, s, tt.step)
			if stopped.State != selfreward.Stopped || stopped.Note == "" {
				t.Errorf("%+v", stopped)
			}
			if errors.Is(err, training.ErrFailed) {
				if errors.Is(err, snapshot.ErrGate) {
					t.Error("a trainer that fails is no gate's doing")
				}
				versions, err := snapshot.Versions(t.Context(), b.loop(t).Store, "loop/main/checkpoint")
				if err != nil || len(versions) != 0 || stopped.Weights != "" {
					t.Errorf("registered: %v, %v, %+v", versions, err, stopped)
				}
			}
			// The same command stops there again.
			if again, err := b.loop(t, tt.set...).Run(t.Context(), "", ""); err == nil || step(t, again, tt.step).Attempts != 2 {
				t.Errorf("again: %v, %+v", err, again.Steps)
			}
		})
	}
}

// An outside judge stays what it is; policy 0 may be given.
func TestGivenPolicyAndJudge(t *testing.T) {
	b := newBench(t)
	s := run(t, b.loop(t, "models.judge={backend: scene, model: \"\"}", "selfreward.start=policy", "selfreward.reward=fixed",
		"judge.aspects=[pick]", "judgment_pairs.asked=0", "metrics.prompts.inputs=[]"), "", "")
	pairs := step(t, s, "pairs-2")
	m, err := snapshot.Load(t.Context(), b.loop(t).Store, pairs.Set, pairs.RunID)
	if err != nil || m.Models["judge"] != "scene-chat-v2" || m.Rows[preference.Pairs] != 8 {
		t.Errorf("models %v, rows %v, %v", m.Models, m.Rows, err)
	}
	if b.count("sft") != 0 || jobs(t, b.dir) != 2 {
		t.Errorf("built %v, %d trainings", b.built, jobs(t, b.dir))
	}
}
