package source_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/parquet-go/parquet-go"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/source"
)

func TestPairs(t *testing.T) {
	cfg := one(write(t, "a.csv", []byte("raw,rewritten,id\na cat,\"a cat, 8 k\",1\na dog,,2\n")))
	got := bothRunners(t, cfg, true)
	want := []schemas.RewritePair{{ID: schemas.PairID("a cat", "a cat, 8 k"), Raw: "a cat", Rewritten: "a cat, 8 k", Source: "in", SourceID: "1"}}
	if diff := cmp.Diff(want, got.pairs); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if len(got.rejected) != 1 || got.rejected[0].Reason != source.Empty || got.rejected[0].Payload != "a dog,,2" {
		t.Errorf("dead letters %+v", got.rejected)
	}
}

// The preset reads the authors' columns, and their filter is a matter of settings.
func TestBeautifulPrompt(t *testing.T) {
	type bp struct {
		Raw    string  `json:"raw_prompt"`
		Prompt string  `json:"prompt"`
		Pick   float64 `json:"pick_score"`
		Aes    float64 `json:"aesthetic_score"`
	}
	var rows []bp
	for i := range 1000 {
		// 15, 30 or 40 words, a third each; the pick score is low for every tenth.
		n := []int{15, 30, 40}[i%3]
		rows = append(rows, bp{fmt.Sprintf("raw %d", i), fmt.Sprintf("%d%s", i, strings.Repeat(" word", n-1)), 19 - float64(min(1, i%10))/10 - 5*float64(max(0, 1-i%10)), 6})
	}
	data, err := json.Marshal(rows)
	if err != nil {
		t.Fatal(err)
	}
	cfg := one(write(t, "data.json", data))
	cfg.Inputs[0].Format = source.BeautifulPrompt
	if err := source.InspectPairs(context.Background(), cfg); err != nil {
		t.Fatal(err)
	}
	if got := bothRunners(t, cfg, true); len(got.pairs) != 1000 {
		t.Errorf("%d pairs without the filter", len(got.pairs))
	}
	if got := bothRunners(t, cfg, false); len(got.prompts) != 1000 || !strings.HasPrefix(got.prompts[0].Text, "raw ") {
		t.Errorf("%d prompts", len(got.prompts))
	}
	cfg.Inputs[0].Filter = source.Filter{MinPickScore: 18.5, MinTokens: 25, ThinBelowTokens: 35, ThinFraction: 0.3}
	got := bothRunners(t, cfg, true)
	n := map[string]int64{}
	for _, c := range got.counts {
		n[c.Outcome+" "+c.Reason] = c.N
	}
	if n["filtered low_pick_score"] != 100 || n["filtered short_rewriting"] != 300 {
		t.Errorf("counts %v", n)
	}
	// 300 rows are under 35 tokens; 30% of them go, give or take four standard deviations.
	if s := n["filtered sampled_out"]; s < 58 || s > 122 {
		t.Errorf("%d rows sampled out", s)
	}
	cfg.Seed = 1
	again := bothRunners(t, cfg, true)
	if cmp.Equal(got.pairs, again.pairs) {
		t.Error("another seed left out the same rows")
	}
	cfg.Inputs[0].Filter = source.Filter{MaxTokens: 35}
	if got := bothRunners(t, cfg, true); len(got.pairs) != 667 || !slices.ContainsFunc(got.counts, func(c schemas.Count) bool { return c.Reason == source.LongRewriting && c.N == 333 }) {
		t.Errorf("%d pairs of at most 35 words, counts %v", len(got.pairs), got.counts)
	}
}

func TestDiffusionDB(t *testing.T) {
	type meta struct {
		ImageName string  `parquet:"image_name"`
		Prompt    string  `parquet:"prompt"`
		PartID    uint16  `parquet:"part_id"`
		NSFW      float32 `parquet:"prompt_nsfw"`
	}
	var b bytes.Buffer
	w := parquet.NewGenericWriter[meta](&b, parquet.MaxRowsPerRowGroup(2))
	if _, err := w.Write([]meta{{"a.png", "a cat", 1, 0.1}, {"b.png", "a dog", 1, 0.9}, {"c.png", "a cow", 2, 2}, {"d.png", "  ", 2, 0}, {"e.png", "a hen", 2, 0.5}}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	cfg := one(write(t, "metadata.parquet", b.Bytes()))
	cfg.Inputs[0].Format = source.DiffusionDB
	cfg.Inputs[0].Filter.MaxPromptNSFW = 0.5
	got := bothRunners(t, cfg, false)
	want := []schemas.Prompt{
		{ID: schemas.PromptID("a cat"), Text: "a cat", Source: "in", SourceID: "a.png"},
		{ID: schemas.PromptID("a hen"), Text: "a hen", Source: "in", SourceID: "e.png"},
	}
	if diff := cmp.Diff(want, got.prompts); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if len(got.rejected) != 1 || got.rejected[0].Key != "in:metadata.parquet#3" || got.rejected[0].Payload != `{"image_name":"d.png","prompt":"  ","prompt_nsfw":"0"}` {
		t.Errorf("dead letters %+v", got.rejected)
	}
}

func TestRead(t *testing.T) {
	path := write(t, "a.tsv", []byte("Prompt\tCategory\nx\tc\ny\tc\n"))
	in := source.Input{Name: "parti", Path: path, Columns: map[string]string{"prompt": "Prompt"}}
	var got []string
	for p, err := range source.Read(context.Background(), in) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, p.Text)
	}
	if diff := cmp.Diff([]string{"x", "y"}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	in.Path = write(t, "b.tsv", []byte("Prompt\nx\n\xff\ny\n"))
	var last error
	for _, last = range source.Read(context.Background(), in) {
	}
	if last == nil || !strings.Contains(last.Error(), "parti:b.tsv@9: invalid_utf8") {
		t.Errorf("error %v", last)
	}
}

func TestValidate(t *testing.T) {
	cfg := source.Config{
		Inputs: []source.Input{
			{Name: "a b", Path: "", Format: "xml", Columns: map[string]string{"promt": "x"}, MaxRows: -1, Filter: source.Filter{ThinFraction: 2}},
			{Name: "x", Path: "gs://bucket/file"},
			{Name: "x", Path: "f"},
		},
		Limits: source.Limits{MinChars: 5, MaxChars: 4, MaxWords: -1, Language: "klingon", MaxLineBytes: -1},
	}
	err := cfg.Validate()
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"source.inputs[0].name: ", "source.inputs[0].path: ", "source.inputs[0].format: ", "source.inputs[0].columns.promt: ", "source.inputs[0].max_rows: ",
		"source.inputs[0].filter.thin_fraction: ", "source.inputs[0].filter.thin_below_tokens: ", "source.inputs[1].path: gs:// ", "source.inputs[2].name: ",
		"source.limits.min_chars: ", "source.limits.max_words: ", "source.limits.language: ", "source.limits.max_line_bytes: ",
	} {
		if !strings.Contains("\n"+err.Error(), "\n"+want) {
			t.Errorf("no line %q in\n%v", want, err)
		}
	}
}

func TestConfigRoundTrip(t *testing.T) {
	cfg := source.Config{
		Inputs: []source.Input{{Name: "a", Path: "p", Format: source.CSV, Columns: map[string]string{"prompt": "x"}, MaxRows: 1, Filter: source.Filter{MaxPromptNSFW: 1, MinPickScore: 2, MinTokens: 3, ThinBelowTokens: 4, ThinFraction: 0.5}}},
		Limits: source.Limits{MinChars: 1, MaxChars: 2, MaxWords: 3, Language: source.Latin, MaxLineBytes: 4},
		Seed:   7,
	}
	data, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var back source.Config
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(cfg, back); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
