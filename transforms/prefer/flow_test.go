package prefer_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	"github.com/google/go-cmp/cmp"

	"github.com/promptmill/promptmill/model"
	_ "github.com/promptmill/promptmill/model/scene"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/imagegen"
	"github.com/promptmill/promptmill/transforms/judge"
	"github.com/promptmill/promptmill/transforms/ledger"
	"github.com/promptmill/promptmill/transforms/prefer"
	"github.com/promptmill/promptmill/transforms/rewrite"
	"github.com/promptmill/promptmill/transforms/transformtest"
)

// flow runs prompts through the four steps on the procedural models.
func flow(t *testing.T, in []schemas.Prompt, inFlight int) rows {
	t.Helper()
	spec, cache := model.Spec{Backend: "scene"}, transformtest.Cache(t)
	r, g, j := rewrite.DefaultConfig(), imagegen.DefaultConfig(), judge.DefaultConfig()
	r.Model, r.Cache, r.Seed, r.InFlight = spec, cache, 1, inFlight
	g.Model, g.Cache, g.Seed, g.InFlight = spec, cache, 1, inFlight
	g.Width, g.Height, g.Scheduler = 32, 32, ""
	j.Model, j.Cache, j.Seed, j.InFlight = spec, cache, 1, inFlight

	p, s := beam.NewPipelineWithRoot()
	slates, dead1, counts1 := rewrite.Sample(s, r, beam.Reshuffle(s, beam.CreateList(s, in)))
	slates, dead2, counts2 := imagegen.Draw(s, g, slates)
	slates, dead3, counts3 := judge.Score(s, j, slates)
	out := prefer.Choose(s, prefer.DefaultConfig(), slates)
	pairs := transformtest.Collect[schemas.PreferencePair](s, out.Pairs)
	candidates := transformtest.Collect[schemas.Candidate](s, out.Candidates)
	rewards := transformtest.Collect[schemas.Reward](s, out.Rewards)
	judgments := transformtest.Collect[schemas.Judgment](s, out.Judgments)
	rejected := transformtest.Collect[schemas.Rejected](s, beam.Flatten(s, dead1, dead2, dead3, out.Rejected))
	counts := transformtest.Collect[schemas.Count](s, beam.Flatten(s, counts1, counts2, counts3, out.Counts))
	if err := ptest.Run(p); err != nil {
		t.Fatal(err)
	}
	return rows{pairs(), candidates(), rewards(), judgments(), rejected(), ledger.Sum(counts())}
}

func TestFlow(t *testing.T) {
	var in []schemas.Prompt
	for i, text := range []string{"a red cat", "an old castle on a hill", "portrait of a robot", "two trees", "city at night", "a blue dragon"} {
		in = append(in, schemas.Prompt{ID: schemas.PromptID(text), Text: text, Source: "test", SourceID: fmt.Sprint(i)})
	}
	want := flow(t, in, 32)
	written := map[string]int64{
		"prompts": int64(len(in)), "pairs": int64(len(want.Pairs)), "candidates": int64(len(want.Candidates)),
		"rewards": int64(len(want.Rewards)), "judgments": int64(len(want.Judgments)), "rejected": int64(len(want.Rejected)),
	}
	if err := ledger.Check(want.Counts, written, []string{
		"prefer.in = rows.prompts", "rewrite.in = 8*prefer.in", "draw.in = rewrite.out", "draw_raw.in = draw_raw.out + draw_raw.dead",
		"judge.in = 9*draw.out", "score.in = draw.out", "*.dead = rows.rejected",
		"rewrite.out = rows.candidates", "judge.out = rows.judgments", "score.out = rows.rewards", "prefer.out = rows.pairs",
	}); err != nil {
		t.Error(err)
	}
	if len(want.Pairs) < 4 {
		t.Errorf("%d pairs of %d prompts: %v", len(want.Pairs), len(in), want.Counts)
	}
	for _, p := range want.Pairs {
		if err := p.Validate(); err != nil {
			t.Error(err)
		}
	}
	slices.Reverse(in)
	got := flow(t, in, 1)
	// Who of two equal requests asks and who finds the answer in the log is open.
	spent := func(c schemas.Count) bool { return c.Outcome == schemas.Used && c.Stage != "prefer" }
	want.Counts, got.Counts = slices.DeleteFunc(want.Counts, spent), slices.DeleteFunc(got.Counts, spent)
	if d := cmp.Diff(want, got); d != "" {
		t.Error("one at a time, in reverse:", d)
	}
}
