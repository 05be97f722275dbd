package prompts_test

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"

	"github.com/promptmill/promptmill/pipelines/prompts"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/transforms/dedup"
	"github.com/promptmill/promptmill/transforms/heldout"
	"github.com/promptmill/promptmill/transforms/ledger"
	"github.com/promptmill/promptmill/transforms/parquetio"
	"github.com/promptmill/promptmill/transforms/snapshot"
	"github.com/promptmill/promptmill/transforms/source"
)

func TestMain(m *testing.M) { ptest.Main(m) }

const whole = "../../testdata/prompts/sd_prompts_all.jsonl.gz"

// The whole file of real prompts goes through, and what comes out is what a plain program says it is.
func TestRealPrompts(t *testing.T) {
	dir := t.TempDir()
	header := snapshot.Header{Set: "prompts", RunID: "all", LogicalDate: "2026-01-31"}
	cfg := prompts.Config{
		Source: source.Config{Inputs: []source.Input{{Name: "all", Path: whole}}, Limits: source.Limits{MaxWords: 30}},
		Heldout: heldout.Config{Benchmarks: []heldout.Benchmark{
			{Name: "parti", Path: "builtin:prompts/parti_prompts.tsv", Format: source.TSV, Column: "Prompt"},
		}},
		Dedup:    dedup.Config{Mode: dedup.ModeExact},
		Sink:     parquetio.WriteConfig{Store: dir, Dir: snapshot.RunDir(header.Set, header.RunID), Seed: 7, Buckets: 3},
		Snapshot: snapshot.Config{Store: dir, Header: header, Gates: snapshot.Gates{MaxDeadFraction: 0}},
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	p, s := beam.NewPipelineWithRoot()
	prompts.Build(s, cfg)
	ptest.RunAndValidate(t, p)

	st, err := store.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	m, err := snapshot.Outcome(t.Context(), st, "prompts", "all")
	if err != nil {
		t.Fatal(err)
	}
	want := plain(t)
	if got := ledger.Total(m.Counts, source.Stage, schemas.In); got != int64(want.read) {
		t.Errorf("%d records read, want %d", got, want.read)
	}
	held := ledger.Total(m.Counts, heldout.Stage, schemas.Filtered)
	if got := m.Rows[prompts.Rows]; got > int64(len(want.folded)) || got < int64(len(want.folded))-held {
		t.Errorf("%d prompts, want %d less at most %d of a benchmark", got, len(want.folded), held)
	}
	var last uint64
	seen := map[string]bool{}
	err = parquetio.Rows(t.Context(), st, m.Shards, func(row schemas.Prompt) error {
		rank := schemas.Rank(7, row.RowKey())
		if rank < last {
			t.Errorf("prompt %s is out of order", row.ID)
		}
		last = rank
		key := fold(row.Text)
		if _, ok := want.folded[key]; !ok || seen[key] {
			t.Errorf("prompt %q is not in the file, or there twice", row.Text)
		}
		seen[key] = true
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

type expected struct {
	read   int
	folded map[string]bool
}

// plain reads the file without the pipeline: the distinct prompts of at most 30 words.
func plain(t *testing.T) expected {
	t.Helper()
	f, err := os.Open(whole)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	out := expected{folded: map[string]bool{}}
	lines := bufio.NewScanner(z)
	for lines.Scan() {
		var row struct{ Prompt string }
		if err := json.Unmarshal(lines.Bytes(), &row); err != nil {
			t.Fatal(err)
		}
		out.read++
		if n := len(strings.Fields(row.Prompt)); n > 0 && n <= 30 {
			out.folded[fold(row.Prompt)] = true
		}
	}
	if out.read < 7000 {
		t.Fatalf("only %d prompts in %s", out.read, whole)
	}
	return out
}

// fold is the comparison of duplicates: letters and digits in lower case.
func fold(text string) string {
	return strings.Join(strings.FieldsFunc(strings.ToLower(text), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsNumber(r) && !unicode.IsMark(r)
	}), " ")
}

// The two parts of a set are all of it, whatever the seed, and no prompt is in both.
func TestParts(t *testing.T) {
	dir := t.TempDir()
	st, err := store.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string][]string{}
	for i, part := range []string{"", prompts.Validation, prompts.Test} {
		header := snapshot.Header{Set: "prompts", RunID: fmt.Sprint("run", i), LogicalDate: "2026-01-31"}
		cfg := prompts.Config{
			Source: source.Config{Inputs: []source.Input{{Name: "parti", Path: "builtin:prompts/parti_prompts.tsv", Format: source.TSV, Columns: map[string]string{"prompt": "Prompt"}}}},
			Dedup:  dedup.Config{Mode: dedup.ModeExact}, Part: part,
			Sink:     parquetio.WriteConfig{Store: dir, Dir: snapshot.RunDir(header.Set, header.RunID), Seed: int64(i), Buckets: 1},
			Snapshot: snapshot.Config{Store: dir, Header: header},
		}
		p, s := beam.NewPipelineWithRoot()
		prompts.Build(s, cfg)
		ptest.RunAndValidate(t, p)
		m, err := snapshot.Outcome(t.Context(), st, "prompts", header.RunID)
		if err != nil {
			t.Fatal(err)
		}
		err = parquetio.Rows(t.Context(), st, m.Shards, func(p schemas.Prompt) error {
			rows[part] = append(rows[part], p.ID)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	both := slices.Concat(rows[prompts.Validation], rows[prompts.Test])
	slices.Sort(both)
	slices.Sort(rows[""])
	if !slices.Equal(both, rows[""]) || len(slices.Compact(both)) != len(rows[""]) || len(rows[prompts.Test]) < len(both)*2/5 || len(rows[prompts.Validation]) < len(both)*2/5 {
		t.Errorf("%d and %d of %d prompts", len(rows[prompts.Validation]), len(rows[prompts.Test]), len(rows[""]))
	}
}
