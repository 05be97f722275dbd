package sft_test

import (
	"strings"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"

	"github.com/promptmill/promptmill/pipelines/sft"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/transforms/heldout"
	"github.com/promptmill/promptmill/transforms/ledger"
	"github.com/promptmill/promptmill/transforms/mix"
	"github.com/promptmill/promptmill/transforms/parquetio"
	"github.com/promptmill/promptmill/transforms/snapshot"
	"github.com/promptmill/promptmill/transforms/source"
	"github.com/promptmill/promptmill/transforms/template"
)

func TestMain(m *testing.M) { ptest.Main(m) }

// build commits the stand-in pairs and returns manifest and rows by split, in file order.
func build(t *testing.T, seed int64, buckets int) (snapshot.Manifest, map[string][]schemas.ChatExample) {
	t.Helper()
	dir := t.TempDir()
	header := snapshot.Header{Set: "sft", RunID: "r1", LogicalDate: "2026-01-31"}
	cfg := sft.Config{
		Source: source.Config{Inputs: []source.Input{{Name: "pairs", Path: "builtin:prompts/pairs.jsonl"}}},
		// GenEval is made of prompts that nobody types into these pairs; this one is.
		Heldout: heldout.Config{Benchmarks: []heldout.Benchmark{{Name: "pairs", Path: "testdata/heldout.jsonl"}}},
		Mix:     mix.Config{Rewrite: template.Paper().Rewrite},
		Sink: parquetio.WriteConfig{
			Store: dir, Dir: snapshot.RunDir(header.Set, header.RunID), Seed: seed, Buckets: buckets,
			Splits: []parquetio.Split{{Name: "train", Permille: 900}, {Name: "validation", Permille: 100}},
		},
		Snapshot: snapshot.Config{Store: dir, Header: header},
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	p, s := beam.NewPipelineWithRoot()
	sft.Build(s, cfg)
	ptest.RunAndValidate(t, p)
	st, err := store.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	m, err := snapshot.Outcome(t.Context(), st, "sft", "r1")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string][]schemas.ChatExample{}
	for _, shard := range m.Shards {
		err := parquetio.Rows(t.Context(), st, []schemas.Shard{shard}, func(r schemas.ChatExample) error {
			rows[shard.Split] = append(rows[shard.Split], r)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return m, rows
}

func TestPairsBecomeChatRows(t *testing.T) {
	m, rows := build(t, 1, 2)
	if n := ledger.Total(m.Counts, heldout.Stage, schemas.Filtered); n != 1 {
		t.Errorf("%d pairs of the benchmark removed, want 1", n)
	}
	train, validation := rows["train"], rows["validation"]
	if got := int64(len(train) + len(validation)); got != m.Rows[sft.Rows] || got < 900 {
		t.Errorf("%d rows read, %d in the manifest", got, m.Rows[sft.Rows])
	}
	if n := len(validation); n < 60 || n > 140 {
		t.Errorf("%d rows of about 1000 in a tenth", n)
	}
	asked := map[string]string{}
	for split, list := range rows {
		for _, r := range list {
			last := r.Messages[len(r.Messages)-1]
			question := r.Messages[len(r.Messages)-2]
			if last.Role != "assistant" || question.Role != "user" || !strings.Contains(question.Content, "Prompt: ") {
				t.Fatalf("row %s: %+v", r.ID, r.Messages)
			}
			if other, ok := asked[question.Content]; ok {
				t.Errorf("%q is in %s and %s", question.Content, other, split)
			}
			asked[question.Content] = split
		}
	}
}

func TestSeedShuffles(t *testing.T) {
	m1, rows1 := build(t, 1, 1)
	m2, rows2 := build(t, 2, 1)
	if m1.Digest != m2.Digest {
		t.Error("another order is another data set")
	}
	same := 0
	for i := range min(len(rows1["train"]), len(rows2["train"])) {
		if rows1["train"][i].ID == rows2["train"][i].ID {
			same++
		}
	}
	if same > 10 {
		t.Errorf("%d rows in the same place under another seed", same)
	}
}
