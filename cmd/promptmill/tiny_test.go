package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/promptmill/promptmill/model/tiny/train"
	"github.com/promptmill/promptmill/runners"
	"github.com/promptmill/promptmill/schemas"
)

var updateTiny = flag.Bool("update-tiny", false, "write the sample of the tiny models' supervised set that model/tiny/train is tested on")

// TestTinyRows builds a small set of what the tiny models are taught, and compares it with the sample on which their training
// is tested. Generated pictures are left out: their last bits are a matter of the CPU.
func TestTinyRows(t *testing.T) {
	if err := flag.CommandLine.Parse(nil); err != nil { // as launch does
		t.Fatal(err)
	}
	runners.Init()
	a := &app{out: io.Discard, err: io.Discard, start: time.Now()}
	a.flags.quiet, a.flags.runner = true, "prism"
	a.setLogs()
	prompts, err := tinyPrompts()
	if err != nil {
		t.Fatal(err)
	}
	bpe, err := train.Tokenizer(prompts)
	if err != nil {
		t.Fatal(err)
	}
	got, err := a.tinyRows(t.Context(), prompts, bpe, tinyFlags{out: filepath.Join(t.TempDir(), "tiny"), set: []string{
		"seed=2", "evaluation.max_generated=0", "evaluation.round=24", "judgment.rows={aesthetic: 5, pick: 5, alignment: 5}", "sft.rewrite_rows=64",
		"evaluation.parts[0].rows=12", "evaluation.parts[1].rows=12", "evaluation.parts[2].rows=12",
	}})
	if err != nil {
		t.Fatal(err)
	}
	tasks := map[string]int{}
	for _, r := range got.Vision {
		tasks[r.Task]++
	}
	if len(got.Rewrites) < 58 || tasks[schemas.TaskEvaluation] < 30 || tasks[schemas.TaskJudgment] < 12 {
		t.Errorf("%d rewritings, %v", len(got.Rewrites), tasks)
	}
	path := filepath.Join("..", "..", "model", "tiny", "train", "testdata", "rows.json.gz")
	if *updateTiny {
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		if err := json.NewEncoder(z).Encode(got); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, packed.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var want train.Rows
	if err := json.NewDecoder(z).Decode(&want); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("the set is another than the sample: %s", d)
	}
}
