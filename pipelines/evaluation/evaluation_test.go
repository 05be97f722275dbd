package evaluation_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	"github.com/google/go-cmp/cmp"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/modeltest/fakeserver"
	_ "github.com/promptmill/promptmill/model/openai"
	_ "github.com/promptmill/promptmill/model/scene"
	"github.com/promptmill/promptmill/pipelines/evaluation"
	"github.com/promptmill/promptmill/pipelines/judgment"
	"github.com/promptmill/promptmill/pipelines/rounds"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/transforms/facts"
	"github.com/promptmill/promptmill/transforms/imagegen"
	"github.com/promptmill/promptmill/transforms/parquetio"
	"github.com/promptmill/promptmill/transforms/snapshot"
	"github.com/promptmill/promptmill/transforms/source"
	"github.com/promptmill/promptmill/transforms/teacher"
	"github.com/promptmill/promptmill/transforms/transformtest"
)

func TestMain(m *testing.M) { ptest.Main(m) }

var gates = snapshot.Gates{MaxDeadFraction: .2}

// config has the oracle's facts about two aspects and generated pictures, and the procedural judge as teacher.
func config(t testing.TB, dir string) evaluation.Config {
	t.Helper()
	var lines strings.Builder
	for i := range 40 {
		fmt.Fprintf(&lines, "a %s %s number %d\n", []string{"red", "blue", "green", "golden"}[i%4], []string{"fox", "castle", "robot", "city", "tree"}[i%5], i)
	}
	path := filepath.Join(t.TempDir(), "prompts.txt")
	if err := os.WriteFile(path, []byte(lines.String()), 0o666); err != nil {
		t.Fatal(err)
	}
	prompts := source.Config{Inputs: []source.Input{{Name: "prompts", Path: path}}}
	pairs := source.Config{Inputs: []source.Input{{Name: "pairs", Path: "builtin:prompts/pairs.jsonl", MaxRows: 30}}}
	draw := imagegen.DefaultConfig()
	draw.Model, draw.Width, draw.Height = model.Spec{Backend: "scene"}, 32, 32
	c := evaluation.DefaultConfig()
	c.Parts = []evaluation.Part{
		{Aspect: schemas.Pick, Rows: 3, Generated: &evaluation.Generated{Pairs: pairs, Imagegen: draw, Facts: facts.DefaultGenerated()}},
		{Aspect: schemas.Pick, Rows: 8, Oracle: &evaluation.Oracle{Prompts: prompts, Facts: facts.DefaultOracle()}},
		{Aspect: schemas.Aesthetic, Rows: 9, Oracle: &evaluation.Oracle{Prompts: prompts, Facts: facts.DefaultOracle()}},
	}
	c.Round, c.ShardRows, c.Seed, c.Gates = 40, 8, 7, gates
	c.Teacher.Model, c.Teacher.BothOrders = model.Spec{Backend: "scene"}, .5
	c.Cache, c.Sink.Store = dir, dir
	return c
}

// ensure runs graphs in this process.
func ensure(t testing.TB, st store.Store, ran *int) rounds.Ensure {
	return func(ctx context.Context, h snapshot.Header, _ string, _ int64, graph func(beam.Scope)) (snapshot.Manifest, error) {
		if m, err := snapshot.Outcome(ctx, st, h.Set, h.RunID); err == nil {
			return m, nil
		}
		t.Helper()
		p, s := beam.NewPipelineWithRoot()
		graph(s)
		if err := ptest.Run(p); err != nil {
			return snapshot.Manifest{}, err
		}
		*ran++
		return snapshot.Outcome(ctx, st, h.Set, h.RunID)
	}
}

func open(t testing.TB, dir string) store.Store {
	t.Helper()
	st, err := store.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func build(t testing.TB, c evaluation.Config, runID string) (snapshot.Manifest, int, error) {
	t.Helper()
	st, ran := open(t, c.Sink.Store), 0
	h := snapshot.Header{Set: "evaluation", RunID: runID, LogicalDate: "2026-01-31"}
	m, err := evaluation.Run(t.Context(), st, c, h, ensure(t, st, &ran))
	return m, ran, err
}

func evaluations(t testing.TB, st store.Store, m snapshot.Manifest) []schemas.Evaluation {
	t.Helper()
	var out []schemas.Evaluation
	err := parquetio.Rows(t.Context(), st, schemas.ShardsOf(m.Shards, evaluation.Rows), func(r schemas.Evaluation) error {
		out = append(out, r)
		return r.Validate()
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestRun(t *testing.T) {
	dir := transformtest.Cache(t)
	c := config(t, dir)
	m, _, err := build(t, c, "whole")
	if err != nil {
		t.Fatal(err)
	}
	// The size of a round changes nothing.
	c.Round = 11
	again, ran, err := build(t, c, "rounds")
	if err != nil {
		t.Fatal(err)
	}
	if ran < 5 {
		t.Errorf("%d graphs ran, want several rounds", ran)
	}
	if m.Digest != again.Digest || m.Rows[evaluation.Rows] != 20 || again.Rows[evaluation.Rows] != 20 {
		t.Errorf("rows %v and %v, digests %s and %s", m.Rows, again.Rows, m.Digest, again.Digest)
	}
	if _, ran, err := build(t, c, "rounds"); err != nil || ran != 0 {
		t.Errorf("a second run of what is there: %d graphs, %v", ran, err)
	}
	got := map[string]int{}
	for _, r := range evaluations(t, open(t, dir), m) {
		got[r.Source+"/"+r.Aspect+"/"+r.FactSource]++
		for _, img := range r.Images {
			if name, err := store.PutBlob(t.Context(), open(t, dir), img.Bytes); err != nil || img.Path != name+".png" {
				t.Errorf("row %s has %d bytes under %q: %v", r.ID, len(img.Bytes), img.Path, err)
			}
		}
	}
	want := map[string]int{"generated/pick/none": 3, "oracle/pick/oracle": 8, "oracle/aesthetic/oracle": 9}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	var report teacher.Report
	var targets []evaluation.Target
	if err := errors.Join(json.Unmarshal([]byte(m.Metadata["teacher"]), &report), json.Unmarshal([]byte(m.Metadata["targets"]), &targets)); err != nil {
		t.Fatal(err)
	}
	if len(report.Acceptance) != 4 || len(report.Bias) != 3 || len(targets) != 3 {
		t.Errorf("metadata %v", m.Metadata)
	}
}

// What the two wire formats answer alike makes the same rows.
func TestWireFormats(t *testing.T) {
	var digests []string
	var calls []int
	for _, tt := range []struct {
		server  fakeserver.Config
		options map[string]string
	}{
		{fakeserver.Config{GreedyRefusesN: true}, nil},
		{fakeserver.Config{VILA: true}, map[string]string{"prefix": "", "n": "no", "seed": "no"}},
	} {
		s := fakeserver.New(t, tt.server)
		c := config(t, transformtest.Cache(t))
		c.Teacher.Model = model.Spec{Backend: "openai", Model: "vila", Revision: "1", Endpoint: s.URL, Options: tt.options}
		c.Teacher.Temperature, c.Teacher.Retries, c.Gates = 0, 0, snapshot.Gates{MaxDeadFraction: 1}
		c.AllowShort, c.Parts = true, c.Parts[1:]
		m, _, err := build(t, c, "wire")
		if err != nil {
			t.Fatal(err)
		}
		if m.Rows[evaluation.Rows] < 5 {
			t.Errorf("rows %v", m.Rows)
		}
		digests, calls = append(digests, m.Digests[evaluation.Rows]), append(calls, s.Stats().OK)
	}
	if digests[0] != digests[1] || calls[0] == 0 || calls[1] == 0 {
		t.Errorf("digests %v, calls %v", digests, calls)
	}
}

func TestShort(t *testing.T) {
	c := config(t, transformtest.Cache(t))
	c.Parts = c.Parts[1:2]
	c.Parts[0].Rows = 1000
	_, _, err := build(t, c, "short")
	var short *rounds.ShortError
	if !errors.As(err, &short) || !errors.Is(err, snapshot.ErrGate) || short.Want != 1000 || short.Got < 8 || !strings.Contains(err.Error(), "teacher ") {
		t.Fatalf("error %v", err)
	}
	c.AllowShort = true
	m, _, err := build(t, c, "short")
	if err != nil || m.Rows[evaluation.Rows] != short.Got {
		t.Errorf("rows %v, want %d: %v", m.Rows, short.Got, err)
	}
}

// Judgments are made of what the evaluation set holds, whatever the size of the rounds.
func TestJudgment(t *testing.T) {
	dir := transformtest.Cache(t)
	c := config(t, dir)
	m, _, err := build(t, c, "e")
	if err != nil {
		t.Fatal(err)
	}
	j := judgment.DefaultConfig()
	j.Rows = map[string]int64{schemas.Aesthetic: 3, schemas.Pick: 4}
	j.Judgment.Model, j.Cache, j.Seed, j.Sink.Store, j.Gates = model.Spec{Backend: "scene"}, dir, 7, dir, gates
	j.Evaluations = schemas.ShardsOf(m.Shards, evaluation.Items)
	st, ran := open(t, dir), 0
	got, err := judgment.Run(t.Context(), st, j, snapshot.Header{Set: "judgment", RunID: "j", LogicalDate: "2026-01-31"}, ensure(t, st, &ran))
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]schemas.Evaluation{}
	for _, e := range evaluations(t, st, m) {
		known[e.ID] = e
	}
	n := map[string]int64{}
	err = parquetio.Rows(t.Context(), st, schemas.ShardsOf(got.Shards, judgment.Rows), func(r schemas.JudgmentExample) error {
		n[r.Aspect]++
		standard, irrelevant := known[r.StandardID], known[r.IrrelevantID]
		if standard.ID == "" || irrelevant.Aspect != r.Aspect || standard.Aspect != r.Aspect {
			t.Errorf("row %s: standard %s, irrelevant %s", r.ID, r.StandardID, r.IrrelevantID)
		}
		for _, img := range r.Images {
			if slices.ContainsFunc(irrelevant.Images, func(i schemas.Image) bool { return i.Path == img.Path }) {
				t.Errorf("row %s: the irrelevant answer is about %s too", r.ID, img.Path)
			}
		}
		question := r.Messages[len(r.Messages)-2].Content
		for _, answer := range []schemas.Evaluation{standard, irrelevant} {
			if text := answer.Messages[len(answer.Messages)-1].Content; !strings.Contains(question, text) {
				t.Errorf("row %s does not show the answer %q", r.ID, text)
			}
		}
		return r.Validate()
	})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(j.Rows, n); d != "" {
		t.Error(d)
	}
	var bars []judgment.Bar
	if err := json.Unmarshal([]byte(got.Metadata["histogram"]), &bars); err != nil {
		t.Fatal(err)
	}
	var pool, kept int64
	for _, b := range bars {
		pool, kept = pool+b.Pool, kept+b.Kept
	}
	if kept != 7 || pool < kept {
		t.Errorf("histogram %+v", bars)
	}
	j.Rows[schemas.Pick] = 500
	var short *rounds.ShortError
	if _, err = judgment.Run(t.Context(), st, j, snapshot.Header{Set: "judgment", RunID: "k", LogicalDate: "2026-01-31"}, ensure(t, st, &ran)); !errors.As(err, &short) {
		t.Errorf("error %v", err)
	}
}

func TestConfigFaults(t *testing.T) {
	c := config(t, t.TempDir())
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		change func(*evaluation.Config)
		fault  string
	}{
		{func(c *evaluation.Config) { c.Parts = nil }, "evaluation.parts: none"},
		{func(c *evaluation.Config) { c.Parts[0].Rows = 0 }, "evaluation.parts[0].rows: 0 is not positive"},
		{func(c *evaluation.Config) { c.Parts[0].Generated = nil }, "evaluation.parts[0]: 0 sources"},
		{func(c *evaluation.Config) { c.Parts[0].AVA = &facts.AVAConfig{} }, "evaluation.parts[0].ava.name: "},
		{func(c *evaluation.Config) { c.Parts[1].Oracle.Facts.Noise = 9 }, "evaluation.parts[1].oracle.facts.noise: 9"},
		{func(c *evaluation.Config) { c.Parts[2].Aspect = schemas.Pick }, "evaluation.parts[2]: its name and aspect are those of parts[1]"},
		{func(c *evaluation.Config) { c.Round = 0 }, "evaluation.round: 0"},
		{func(c *evaluation.Config) { c.MaxGenerated = 1 }, "evaluation.max_generated: 1"},
		{func(c *evaluation.Config) { c.ShardRows = 0 }, "evaluation.shard_rows: 0"},
		{func(c *evaluation.Config) { c.Teacher.TopP = 2 }, "teacher.top_p: 2"},
	} {
		bad := config(t, t.TempDir())
		tt.change(&bad)
		if err := bad.Validate(); err == nil || !strings.Contains("\n"+err.Error(), "\n"+tt.fault) {
			t.Errorf("error %v, want %s", err, tt.fault)
		}
	}
}
