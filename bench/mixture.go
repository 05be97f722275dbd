package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// The paper's supervised set (section 3.1): 156,487 rows. The numbers of each source are those of the recipe
// paper; all of them can be divided by ten but the pairs, of which a tenth is rounded down.
const (
	mixtureRewrite    = 104_487
	mixtureHuman      = 12_000 // for each aspect
	mixtureGenerated  = 4_000  // for each aspect
	mixtureJudgment   = 10_000 // for each aspect
	mixtureShardRows  = 500
	mixturePixels     = 48
	mixtureTeacherHit = 0.75
)

// benchMixture builds the paper's mixture with `promptmill sft` at two sizes, ten times apart, from stand-ins:
// generated pairs, Pick-a-Pic's and AVA's layouts with generated pictures, a server that draws, and a teacher
// that is right with a probability.
func benchMixture(ctx context.Context, bin, dir string, full bool) error {
	large := 10
	if full {
		large = 1
	}
	fmt.Println("mixture: the paper's supervised set from stand-ins over HTTP, pictures embedded")
	fmt.Printf("  %8s %-11s %9s %8s %8s %8s %10s %8s\n", "rows", "", "calls", "rows/s", "wall s", "CPU s", "CPU ms/row", "peak MB")
	small, err := oneMixture(ctx, bin, dir, large*10)
	if err != nil {
		return err
	}
	big, err := oneMixture(ctx, bin, dir, large)
	if err != nil {
		return err
	}
	fmt.Printf("  ten times the rows: CPU a row %.2f, memory %.2f; asked again, nothing called: CPU a row %.2f, memory %.2f\n\n",
		big.first.perRow()/small.first.perRow(), big.first.rssMB/small.first.rssMB,
		big.again.perRow()/small.again.perRow(), big.again.rssMB/small.again.rssMB)
	return nil
}

// A built is what it cost to build a mixture.
type built struct {
	cost
	rows int64
}

func (b built) perRow() float64 { return b.cpu.Seconds() * 1000 / float64(b.rows) }

// A twice is what it cost the first time, and the second time under another name with the answers there.
type twice struct{ first, again built }

// oneMixture builds a part of the paper's mixture twice.
func oneMixture(ctx context.Context, bin, dir string, part int) (twice, error) {
	dir = filepath.Join(dir, fmt.Sprintf("mixture-%d", part))
	defer os.RemoveAll(dir)
	url, stop, err := startServer(ctx, "teach")
	if err != nil {
		return twice{}, err
	}
	defer stop()
	recipe, err := writeMixture(dir, url, part)
	if err != nil {
		return twice{}, err
	}
	var t twice
	for i, b := range []*built{&t.first, &t.again} {
		// The second run has a store of its own for the sets, and the first one's answers.
		out := filepath.Join(dir, fmt.Sprintf("out-%d", i))
		*b, err = runMixture(ctx, bin, recipe, out, filepath.Join(dir, "cache"), part, i == 0)
		if err != nil {
			return twice{}, err
		}
		if err := os.RemoveAll(out); err != nil {
			return twice{}, err
		}
	}
	return t, nil
}

func runMixture(ctx context.Context, bin, recipe, out, cache string, part int, first bool) (built, error) {
	text, c, err := measured(exec.CommandContext(ctx, bin, "sft", "--recipe", recipe, "--out", out, "--cache", cache, "--json", "--quiet"))
	if err != nil {
		return built{}, err
	}
	var got struct {
		Rows  map[string]int64 `json:"rows"`
		Calls struct {
			Chat  int64 `json:"chat"`
			Image int64 `json:"image"`
		} `json:"calls"`
	}
	if err := json.Unmarshal(lastLine(text), &got); err != nil {
		return built{}, fmt.Errorf("summary of sft: %w", err)
	}
	pairs, vision := int64(mixtureRewrite/part), int64(2*(mixtureHuman+mixtureGenerated+mixtureJudgment)/part)
	if got.Rows["rewrite"] != pairs || got.Rows["vision"] != vision {
		return built{}, fmt.Errorf("mixture: rows %v; wanted %d rewrite and %d vision", got.Rows, pairs, vision)
	}
	calls := got.Calls.Chat + got.Calls.Image
	if (calls > 0) != first {
		return built{}, errors.New("mixture: the first run asks, the second does not; they did otherwise")
	}
	b := built{c, pairs + vision}
	name := "cold"
	if !first {
		name = "answers kept"
	}
	fmt.Printf("  %8d %-12s %8d %8.0f %8.1f %8.1f %10.3f %8.0f\n", b.rows, name, calls,
		float64(b.rows)/c.wall.Seconds(), c.wall.Seconds(), c.cpu.Seconds(), b.perRow(), c.rssMB)
	return b, nil
}

// writeMixture writes the inputs and the recipe of a part of the mixture and returns the recipe's path.
func writeMixture(dir, url string, part int) (string, error) {
	if err := os.MkdirAll(filepath.Join(dir, "pickapic"), 0o755); err != nil {
		return "", err
	}
	pairs := filepath.Join(dir, "pairs.jsonl")
	human := mixtureHuman / part
	err := errors.Join(
		// Of a hundred rows one is empty and two are copies; benchmarks take a few.
		writePairs(pairs, mixtureRewrite/part*21/20),
		writePickAPic(filepath.Join(dir, "pickapic"), human*23/20),
		writeAVA(dir, human*23/10),
	)
	if err != nil {
		return "", err
	}
	model := func(backend string, concurrency int) string {
		return fmt.Sprintf("{backend: %s, model: stand-in, revision: \"1\", endpoint: %q, concurrency: %d}", backend, url, concurrency)
	}
	recipe := filepath.Join(dir, "recipe.yaml")
	text := fmt.Sprintf(`extends: paper
name: bench-mixture
pairs:
  inputs:
    - {name: pairs, path: %[1]s/pairs.jsonl, columns: {raw: raw_prompt}}
models: {teacher: %[2]s, images: %[3]s}
imagegen: {width: %[4]d, height: %[4]d}
evaluation:
  parts:
    - {aspect: pick, rows: %[5]d, pickapic: {name: pickapic, path: %[1]s/pickapic, split: train, labels: strict}}
    - {aspect: aesthetic, rows: %[5]d, ava: {name: ava, path: %[1]s/AVA.txt, images: %[1]s/ava.zip, min_gap: 1}}
    - {aspect: pick, rows: %[6]d, generated: {facts: {name: generated, candidates: 1}}}
    - {aspect: aesthetic, rows: %[6]d, generated: {facts: {name: generated, candidates: 1}}}
  shard_rows: %[7]d
judgment:
  rows: {pick: %[8]d, aesthetic: %[8]d}
  shard_rows: %[7]d
sft: {rewrite_rows: %[9]d}
`, dir, model("openai", 64), model("txt2img", 64), mixturePixels, human, mixtureGenerated/part, mixtureShardRows, mixtureJudgment/part, mixtureRewrite/part)
	return recipe, os.WriteFile(recipe, []byte(text), 0o644)
}
