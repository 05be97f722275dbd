package runners_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	_ "github.com/promptmill/promptmill/model/modeltest/pupil" // a trainer of milliseconds
	_ "github.com/promptmill/promptmill/model/scene"           // backend scene
	"github.com/promptmill/promptmill/pipelines/audit"
	"github.com/promptmill/promptmill/pipelines/evaluation"
	"github.com/promptmill/promptmill/pipelines/judgment"
	"github.com/promptmill/promptmill/pipelines/preference"
	"github.com/promptmill/promptmill/pipelines/prompts"
	"github.com/promptmill/promptmill/pipelines/selfreward"
	"github.com/promptmill/promptmill/pipelines/sft"
	"github.com/promptmill/promptmill/recipe"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/dedup"
	"github.com/promptmill/promptmill/transforms/mix"
	"github.com/promptmill/promptmill/transforms/parquetio"
	"github.com/promptmill/promptmill/transforms/snapshot"
)

// crossing is a recipe for everything there is, small.
const crossing = `extends: demo
name: crossing
models:
  policy: {backend: pupil, model: start}
  images: {backend: scene}
  judge: {backend: pupil, model: start}
  teacher: {backend: scene}
rewrite: {candidates: 3, continues: ""}
templates: {set: paper}
training: {trainer: {backend: pupil, model: ""}, poll: 1ms}
selfreward: {iterations: [{pairs: 4}], judgment_pairs: 3}
metrics: {limit: 8, draws: 1, resamples: 200, judge: true}
judgment_pairs: {asked: 24, aspects: [pick]}
gates: {min_judgment_accuracy: 0}
`

// Nothing over 64 KB crosses a shuffle of any pipeline: bytes there cost ten times their size in memory.
func TestElementsAreSmall(t *testing.T) {
	dir := t.TempDir()
	b := newWeighbridge(t, dir)
	r := crossingRecipe(t, dir)
	header := func(set, runID string) snapshot.Header {
		return snapshot.Header{Set: set, RunID: runID, LogicalDate: "2026-01-31"}
	}
	sink := func(set string) parquetio.WriteConfig {
		return parquetio.WriteConfig{Store: dir, Dir: snapshot.RunDir(set, "r"), Buckets: 1}
	}
	commit := func(set string) snapshot.Config { return snapshot.Config{Store: dir, Header: header(set, "r")} }
	must := func(m snapshot.Manifest, err error) snapshot.Manifest {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	run := func(ctx context.Context, c snapshot.Config, build func(beam.Scope)) (snapshot.Manifest, error) {
		return b.ensure(ctx, c.Header, "", 0, build)
	}
	promptsOf := func(ctx context.Context) (snapshot.Manifest, error) {
		cfg := prompts.Config{Source: r.Prompts, Heldout: r.Heldout, Dedup: r.Dedup, Sink: sink("prompts"), Snapshot: commit("prompts")}
		return run(ctx, cfg.Snapshot, func(s beam.Scope) { prompts.Build(s, cfg) })
	}

	loop := &selfreward.Loop{
		Recipe: r, LogicalDate: "2026-01-31", Store: b.st, Cache: dir, Say: t.Logf, Header: header, Ensure: b.ensure, Prompts: promptsOf,
		Heldout: func(ctx context.Context) (snapshot.Manifest, error) {
			cfg := prompts.Config{Source: r.Metrics.Prompts, Dedup: dedup.Config{Mode: dedup.ModeExact}, Sink: sink("heldout"), Snapshot: commit("heldout")}
			return run(ctx, cfg.Snapshot, func(s beam.Scope) { prompts.Build(s, cfg) })
		},
		Supervised: func(ctx context.Context) (snapshot.Manifest, error) {
			cfg := sft.Config{Source: r.Pairs, Heldout: r.Heldout, Mix: mix.Config{Rewrite: r.Rewrite.Template}, Sink: sink("sft"), Snapshot: commit("sft")}
			return run(ctx, cfg.Snapshot, func(s beam.Scope) { sft.Build(s, cfg) })
		},
	}
	if _, err := loop.Run(t.Context(), "", ""); err != nil {
		t.Fatal(err)
	}

	must(loop.Supervised(t.Context())) // the loop may begin with a policy that was trained before
	read := must(promptsOf(t.Context()))
	cfg := preference.New(r)
	cfg.Prompts = parquetio.ReadConfig{Store: dir, Shards: schemas.ShardsOf(read.Shards, prompts.Rows), Limit: 24}
	cfg.Sink, cfg.ShardRows, cfg.Snapshot = sink("preference"), 100, commit("preference")
	preferred := must(run(t.Context(), cfg.Snapshot, func(s beam.Scope) { preference.Build(s, cfg) }))

	e := r.Evaluation
	e.Sink = sink("evaluation")
	evaluated := must(evaluation.Run(t.Context(), b.st, e, header("evaluation", "r"), b.ensure))
	j := r.Judgment
	j.Sink, j.Evaluations = sink("judgment"), schemas.ShardsOf(evaluated.Shards, evaluation.Items)
	judged := must(judgment.Run(t.Context(), b.st, j, header("judgment", "r"), b.ensure))
	p := sft.Config{Source: r.Pairs, Heldout: r.Heldout, Sink: sink("pairs"), Snapshot: commit("pairs")}
	pairs := must(run(t.Context(), p.Snapshot, func(s beam.Scope) { sft.BuildPairs(s, p) }))
	mixture := sft.Mixture{
		Pairs: &pairs, Evaluation: &evaluated, Judgment: &judged, Mix: mix.Config{Rewrite: r.Rewrite.Template},
		ShardRows: 1000, VisionShardRows: 100, Cache: dir, Sink: sink("mixture"),
	}
	must(mixture.Run(t.Context(), b.st, header("mixture", "r"), b.ensure))

	totals, err := audit.Totals(t.Context(), r.Audit.Facts)
	if err != nil {
		t.Fatal(err)
	}
	a := audit.Config{
		Parts: r.Audit.Facts, Totals: totals, Audit: r.AuditConfig(), Sink: sink("audit"), Snapshot: commit("audit"),
		Judgments: schemas.ShardsOf(preferred.Shards, preference.Judgments),
	}
	must(run(t.Context(), a.Snapshot, func(s beam.Scope) { audit.Build(s, a) }))

	if left := b.unweighed(pipelineScopes(t)); len(left) > 0 {
		t.Errorf("never weighed: %v", left)
	}
}

func crossingRecipe(t *testing.T, dir string) *recipe.Recipe {
	t.Helper()
	path := filepath.Join(t.TempDir(), "crossing.yaml")
	if err := os.WriteFile(path, []byte(crossing), 0o666); err != nil {
		t.Fatal(err)
	}
	lines := ""
	for i := range 80 {
		lines += fmt.Sprintf("a lighthouse number %d in the fog\n", i)
	}
	facts := filepath.Join(t.TempDir(), "prompts.txt")
	if err := os.WriteFile(facts, []byte(lines), 0o666); err != nil {
		t.Fatal(err)
	}
	set := []string{"judgment.rows={aesthetic: 4, pick: 4, alignment: 4}"}
	for i := range 3 {
		set = append(set, fmt.Sprintf("evaluation.parts[%d].rows=16", i), fmt.Sprintf("audit.facts[%d].rows=8", i),
			fmt.Sprintf("evaluation.parts[%d].oracle.prompts.inputs=[{name: facts, path: %q}]", i, facts))
	}
	r, _, err := recipe.Load(path, set)
	if err == nil {
		err = r.Bind(dir)
	}
	if err == nil {
		err = r.Validate()
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// pipelineScopes are those that the pipelines' sources give their graphs.
func pipelineScopes(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../pipelines/*/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no pipeline: %v", err)
	}
	named := regexp.MustCompile(`\.Scope\("(\w+\.\w+)"\)`)
	var all []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range named.FindAllSubmatch(text, -1) {
			all = append(all, string(m[1]))
		}
	}
	return all
}
