package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/promptmill/promptmill/model/tiny/train"
	"github.com/promptmill/promptmill/pipelines/sft"
	"github.com/promptmill/promptmill/pipelines/training"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/parquetio"
	"github.com/promptmill/promptmill/transforms/snapshot"
)

// tinyRaws is how many raw prompts the people of the procedural world are asked about, two pairs of pictures each.
const tinyRaws = 6000

// tinyRows builds, and publishes in --out, the sets evaluation, judgment and sft of recipe tiny, with the text-to-image model
// that lies there, and returns what is to be trained on.
func (a *app) tinyRows(ctx context.Context, prompts []train.Prompt, bpe *train.BPE, f tinyFlags) (rows train.Rows, err error) {
	inputs := filepath.Join(f.out, "inputs")
	if err := train.WriteInputs(inputs, prompts, bpe, tinyRaws, 1); err != nil {
		return rows, err
	}
	set := []string{"pairs.inputs[0].path=" + quote(inputs, train.PairsFile), "heldout.benchmarks[2].path=" + quote(inputs, train.HeldoutFile)}
	for i := range 3 {
		set = append(set, fmt.Sprintf("evaluation.parts[%d].oracle.prompts.inputs[0].path=%s", i, quote(inputs, train.PromptsFile)))
	}
	if _, err := os.Stat(filepath.Join(f.out, "t2i", "model_index.json")); err == nil {
		set = append(set, `models.images={backend: diffusion, model: `+quote(f.out, "t2i")+`, revision: ""}`)
	}
	job := *a
	job.flags.recipe, job.flags.out, job.flags.set = "tiny", f.out, append(set, f.set...)
	j, err := job.newJob(ctx)
	if err != nil {
		return rows, err
	}
	defer func() { err = j.closeLog(ctx, err) }()
	var m snapshot.Manifest
	for _, s := range []struct {
		name  string
		build func(context.Context) (snapshot.Manifest, error)
	}{
		{"evaluation", func(ctx context.Context) (snapshot.Manifest, error) { return j.evaluationSet(ctx, false) }},
		{"judgment", func(ctx context.Context) (snapshot.Manifest, error) { return j.judgmentSet(ctx, false) }},
		{"sft", j.supervisedSet},
	} {
		parent, err := snapshot.Newest(ctx, j.st, s.name)
		if err != nil {
			return rows, err
		}
		if m, err = s.build(ctx); err != nil {
			return rows, err
		}
		v, err := snapshot.Publish(ctx, j.st, m, parent)
		if err != nil {
			return rows, err
		}
		a.say("vlm: %s/%s@%d, rows %v", j.st.URL(), s.name, v, m.Rows)
	}
	shards := func(config string) []schemas.Shard {
		return slices.DeleteFunc(schemas.ShardsOf(m.Shards, config), func(s schemas.Shard) bool { return s.Split != training.Split })
	}
	if err := parquetio.Rows(ctx, j.st, shards(sft.Rows), func(r schemas.ChatExample) error {
		rows.Rewrites = append(rows.Rewrites, r)
		return nil
	}); err != nil {
		return rows, err
	}
	return rows, parquetio.Rows(ctx, j.st, shards(sft.Vision), func(r schemas.VisionChatExample) error {
		rows.Vision = append(rows.Vision, r)
		return nil
	})
}

// quote is a path as YAML text.
func quote(parts ...string) string { return fmt.Sprintf("%q", filepath.Join(parts...)) }
