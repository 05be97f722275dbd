package heldout_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/passert"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	"github.com/google/go-cmp/cmp"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/heldout"
)

func TestMain(m *testing.M) { ptest.Main(m) }

func init() {
	register.Function1x1(textOf)
	register.Function1x1(rawOf)
	register.Function1x2(keyed)
	register.Function2x1(line)
}

func textOf(p schemas.Prompt) string { return p.Text }

func rawOf(p schemas.RewritePair) string { return p.Raw }

func keyed(c schemas.Count) (string, int64) {
	return strings.TrimSpace(c.Stage + " " + c.Outcome + " " + c.Reason), c.N
}

func line(key string, n int64) string {
	b, _ := json.Marshal(n)
	return key + " " + string(b)
}

func addUp(a, b int64) int64 { return a + b }

func init() { register.Function2x1(addUp) }

var benchmarks = heldout.Config{Benchmarks: []heldout.Benchmark{
	{Name: "parti", Path: "../../testdata/prompts/parti_prompts.tsv", Column: "Prompt"},
	{Name: "geneval", Path: "../../testdata/prompts/geneval.jsonl"},
}}

const (
	panda = `A high-contrast photo of a panda riding a horse. The panda is wearing a wizard hat and is reading a book.`
	near  = `the saying "BE EXCELLENT TO EACH OTHER" on a rough wall with a graffiti image of a green alien wearing a hat`
)

var texts = []string{
	"A photo of a BENCH!",                                // geneval, exact but for case and punctuation
	"a photo of a bench, oil on canvas, highly detailed", // not one
	"bond",        // parti, one word
	"a bond",      // not one
	panda + " 8k", // parti, 13 words in a row and many more
	"in this picture the panda is wearing a wizard hat and is reading a book the horse is standing and so on", // 13 in a row
	near,                           // parti, one word of 21 differs, at the end
	"a castle on a hill at sunset", // not one
}

var left = []any{"a photo of a bench, oil on canvas, highly detailed", "a bond", "a castle on a hill at sunset"}

func TestPromptsAndPairs(t *testing.T) {
	for _, runner := range []string{"prism", "direct"} {
		t.Run(runner, func(t *testing.T) {
			var prompts []schemas.Prompt
			var pairs []schemas.RewritePair
			for _, s := range texts {
				prompts = append(prompts, schemas.Prompt{ID: schemas.PromptID(s), Text: s})
				pairs = append(pairs, schemas.RewritePair{ID: schemas.PairID(s, "bond"), Raw: s, Rewritten: "bond"})
			}
			p, s := beam.NewPipelineWithRoot()
			kept, counts := heldout.Prompts(s, benchmarks, beam.CreateList(s, prompts))
			passert.Equals(s, beam.ParDo(s, textOf, kept), left...)
			kept, more := heldout.Pairs(s, benchmarks, beam.CreateList(s, pairs))
			passert.Equals(s, beam.ParDo(s, rawOf, kept), left...)
			for _, c := range []beam.PCollection{counts, more} {
				sums := beam.CombinePerKey(s, addUp, beam.ParDo(s, keyed, c))
				passert.Equals(s, beam.ParDo(s, line, sums), "heldout in 8", "heldout out 3", "heldout filtered parti 4", "heldout filtered geneval 1")
			}
			if _, err := beam.Run(context.Background(), runner, p); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// Each benchmark prompt is its own: of the benchmarks themselves nothing is left.
func TestNothingOfABenchmarkIsLeft(t *testing.T) {
	data, err := os.ReadFile("../../testdata/prompts/geneval.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	var prompts []schemas.Prompt
	for l := range strings.Lines(string(data)) {
		var r struct{ Prompt string }
		if err := json.Unmarshal([]byte(l), &r); err != nil {
			t.Fatal(err)
		}
		prompts = append(prompts, schemas.Prompt{ID: schemas.PromptID(r.Prompt), Text: r.Prompt})
	}
	p, s := beam.NewPipelineWithRoot()
	kept, _ := heldout.Prompts(s, benchmarks, beam.CreateList(s, prompts))
	passert.Empty(s, kept)
	ptest.RunAndValidate(t, p)
}

func TestNoBenchmarks(t *testing.T) {
	p, s := beam.NewPipelineWithRoot()
	kept, _ := heldout.Prompts(s, heldout.Config{}, beam.CreateList(s, []schemas.Prompt{{ID: "x", Text: "bond"}}))
	passert.Equals(s, beam.ParDo(s, textOf, kept), "bond")
	ptest.RunAndValidate(t, p)
}

func TestDigestsAndInspect(t *testing.T) {
	ctx := context.Background()
	d, err := heldout.Digests(ctx, benchmarks)
	if err != nil || len(d) != 2 || len(d["parti"]) != 64 || d["parti"] == d["geneval"] {
		t.Errorf("digests %v, %v", d, err)
	}
	if err := heldout.Inspect(ctx, benchmarks); err != nil {
		t.Error(err)
	}
	empty := filepath.Join(t.TempDir(), "empty.txt")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err = heldout.Inspect(ctx, heldout.Config{Benchmarks: []heldout.Benchmark{
		{Name: "gone", Path: "nowhere.tsv"},
		{Name: "empty", Path: empty},
		{Name: "column", Path: benchmarks.Benchmarks[0].Path, Column: "prompt"},
	}})
	for _, want := range []string{"heldout.benchmarks[0].path: benchmark gone", "heldout.benchmarks[1].path: benchmark empty", "has no prompts", `but there is "Prompt"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
}

func TestValidate(t *testing.T) {
	err := heldout.Config{Benchmarks: []heldout.Benchmark{{}}, ShingleWords: -1, Threshold: 2}.Validate()
	for _, want := range []string{"heldout.benchmarks[0].name: ", "heldout.benchmarks[0].path: ", "heldout.shingle_words: ", "heldout.threshold: "} {
		if err == nil || !strings.Contains("\n"+err.Error(), "\n"+want) {
			t.Errorf("no line %q in %v", want, err)
		}
	}
	cfg := heldout.Config{Benchmarks: []heldout.Benchmark{{Name: "n", Path: "p", Format: "tsv", Column: "c"}}, ShingleWords: 2, Threshold: 0.9}
	data, _ := json.Marshal(cfg)
	var back heldout.Config
	if err := json.Unmarshal(data, &back); err != nil || !cmp.Equal(cfg, back) {
		t.Errorf("round trip: %+v, %v", back, err)
	}
}
