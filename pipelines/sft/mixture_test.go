package sft_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"

	"github.com/promptmill/promptmill/model/scene"
	"github.com/promptmill/promptmill/pipelines/evaluation"
	"github.com/promptmill/promptmill/pipelines/rounds"
	"github.com/promptmill/promptmill/pipelines/sft"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/transforms/mix"
	"github.com/promptmill/promptmill/transforms/parquetio"
	"github.com/promptmill/promptmill/transforms/snapshot"
	"github.com/promptmill/promptmill/transforms/teacher"
	"github.com/promptmill/promptmill/transforms/template"
	"github.com/promptmill/promptmill/transforms/transformtest"
)

const prompts = 120

func promptOf(i int) string { return fmt.Sprintf("a fox number %d", i) }

// items are evaluations of two pictures for each prompt. Every tenth prompt shares a picture with the one before.
func items(t *testing.T, st store.Store) []teacher.Item {
	t.Helper()
	picture := func(i int) schemas.ImageRef {
		data, err := scene.Draw(promptOf(i), int64(i)).PNG(scene.Side, scene.Side)
		if err != nil {
			t.Fatal(err)
		}
		sha, err := store.PutBlob(t.Context(), st, data)
		if err != nil {
			t.Fatal(err)
		}
		return schemas.ImageRef{SHA256: sha, Width: scene.Side, Height: scene.Side}
	}
	var out []teacher.Item
	for i := range prompts {
		group := schemas.PromptID(promptOf(i))
		first := picture(2 * i)
		if i%10 == 9 {
			first = out[i-1].Image1
		}
		messages := append(template.Paper().Pick.Messages(promptOf(i)), schemas.Message{Role: schemas.RoleAssistant, Content: "Score: 3, 2"})
		it := teacher.Item{
			Group: group, FactID: fmt.Sprint("f", i), Source: "oracle", Aspect: schemas.Pick, Preference: schemas.First,
			FactSource: schemas.FactOracle, Messages: messages, Order: schemas.AsIs, Score1: 3, Score2: 2, Template: "t", Teacher: "w",
			Prompt: promptOf(i), Image1: first, Image2: picture(2*i + 1),
		}
		it.ID = schemas.VisionID(schemas.TaskEvaluation, messages, it.Image1.SHA256, it.Image2.SHA256)
		out = append(out, it)
	}
	return out
}

// commit writes rows as a run of one configuration.
func commit[T schemas.Row](t *testing.T, dir, set, config string, rows []T) *snapshot.Manifest {
	t.Helper()
	h := snapshot.Header{Set: set, RunID: "r", LogicalDate: "2026-01-31"}
	p, s, col := ptest.CreateList(rows)
	sink := parquetio.WriteConfig{Store: dir, Dir: snapshot.RunDir(set, "r"), Config: config, Stage: "write", Seed: 7, Buckets: 3}
	shards, counts := parquetio.Write[T](s, sink, col)
	snapshot.Commit(s, snapshot.Config{Store: dir, Header: h}, shards, counts)
	if err := ptest.Run(p); err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	m, err := snapshot.Outcome(t.Context(), st, set, "r")
	if err != nil {
		t.Fatal(err)
	}
	return &m
}

func TestMixture(t *testing.T) {
	dir := transformtest.Cache(t)
	st, err := store.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	var pairs []sft.Pair
	for i := range prompts + 80 { // the first are prompts of pictures, too
		raw, rewritten := promptOf(i), promptOf(i)+", oil painting"
		pairs = append(pairs, sft.Pair{ID: schemas.PairID(raw, rewritten), Raw: raw, Rewritten: rewritten, Source: "s", SourceID: fmt.Sprint(i)})
	}
	evaluations := commit(t, dir, "evaluation", evaluation.Items, items(t, st))
	evaluations.Rows[evaluation.Rows] = evaluations.Rows[evaluation.Items]
	m := sft.Mixture{
		Pairs: commit(t, dir, "pairs", sft.Pairs, pairs), RewriteRows: 180, Evaluation: evaluations,
		Mix: mix.Config{Rewrite: template.Paper().Rewrite}, ValidationPermille: 300, ShardRows: 100, VisionShardRows: 20,
		Cache: dir, Seed: 7, Sink: parquetio.WriteConfig{Store: dir},
	}
	ensure := func(ctx context.Context, h snapshot.Header, _ string, _ int64, graph func(beam.Scope)) (snapshot.Manifest, error) {
		p, s := beam.NewPipelineWithRoot()
		graph(s)
		if err := ptest.Run(p); err != nil {
			return snapshot.Manifest{}, err
		}
		return snapshot.Outcome(ctx, st, h.Set, h.RunID)
	}
	got, err := m.Run(t.Context(), st, snapshot.Header{Set: "sft", RunID: "m", LogicalDate: "2026-01-31"}, ensure)
	if err != nil {
		t.Fatal(err)
	}
	if got.Rows[sft.Rows] != 180 || got.Rows[sft.Vision] != prompts {
		t.Errorf("rows %v", got.Rows)
	}
	// Whatever is in one split, a prompt or a picture, is in no other.
	side, n := map[string]string{}, map[string]int{}
	put := func(what, split string) {
		if was, ok := side[what]; ok && was != split {
			t.Errorf("%q is in %s and %s", what, was, split)
		}
		side[what] = split
	}
	for _, shard := range got.Shards {
		split := shard.Split
		ask := func(messages []schemas.Message) string {
			text := messages[len(messages)-2].Content
			at := strings.Index(text, "a fox number ")
			return strings.TrimRight(strings.SplitN(text[at:], "\n", 2)[0], ` ."`)
		}
		n[shard.Config+"/"+split] += int(shard.Rows)
		one := []schemas.Shard{shard}
		if shard.Config == sft.Rows {
			err = parquetio.Rows(t.Context(), st, one, func(r schemas.ChatExample) error {
				put(ask(r.Messages), split)
				return r.Validate()
			})
		} else {
			err = parquetio.Rows(t.Context(), st, one, func(r schemas.VisionChatExample) error {
				put(ask(r.Messages), split)
				for _, img := range r.Images {
					put(fmt.Sprintf("%x", sha256.Sum256(img.Bytes)), split)
				}
				return r.Validate()
			})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, k := range []string{"rewrite/train", "rewrite/validation", "vision/train", "vision/validation"} {
		if n[k] < 15 {
			t.Errorf("%d rows in %s", n[k], k)
		}
	}
	m.RewriteRows = 1000
	var short *rounds.ShortError
	_, err = m.Run(t.Context(), st, snapshot.Header{Set: "sft", RunID: "n", LogicalDate: "2026-01-31"}, ensure)
	if !errors.As(err, &short) || !errors.Is(err, snapshot.ErrGate) || short.Got != prompts+80 {
		t.Errorf("error %v", err)
	}
}
