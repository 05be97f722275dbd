package preference_test

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/passert"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"

	_ "github.com/promptmill/promptmill/model/scene"
	"github.com/promptmill/promptmill/pipelines/preference"
	"github.com/promptmill/promptmill/recipe"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/transforms/parquetio"
	"github.com/promptmill/promptmill/transforms/snapshot"
	"github.com/promptmill/promptmill/transforms/transformtest"
)

func TestMain(m *testing.M) { ptest.Main(m) }

// promptSet writes texts as a prompt set and returns its shards.
func promptSet(t *testing.T, dir string, texts ...string) []schemas.Shard {
	t.Helper()
	var rows []schemas.Prompt
	for _, text := range texts {
		rows = append(rows, schemas.Prompt{ID: schemas.PromptID(text), Text: text, Source: "test"})
	}
	p, s, in := ptest.CreateList(rows)
	header := snapshot.Header{Set: "prompts", RunID: "p", LogicalDate: "2026-01-31"}
	shards, counts := parquetio.Write[schemas.Prompt](s, parquetio.WriteConfig{
		Store: dir, Dir: snapshot.RunDir("prompts", "p"), Config: "prompts", Stage: "write", Buckets: 1,
	}, in)
	snapshot.Commit(s, snapshot.Config{Store: dir, Header: header}, shards, counts)
	ptest.RunAndValidate(t, p)
	st, err := store.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	m, err := snapshot.Outcome(t.Context(), st, "prompts", "p")
	if err != nil {
		t.Fatal(err)
	}
	return m.Shards
}

// built is a committed run on five prompts, of which four are taken.
type built struct {
	cfg      preference.Config
	manifest snapshot.Manifest
	store    store.Store
}

func build(t *testing.T, set ...string) built {
	t.Helper()
	dir := transformtest.Cache(t)
	r, _, err := recipe.Load("demo", append(recipe.Using("scene"), set...))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Bind(dir); err != nil {
		t.Fatal(err)
	}
	cfg := preference.New(r)
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	texts := []string{"a red fox in the snow", "a castle by the sea", "portrait of a robot", "a bowl of fruit", "a city at night"}
	cfg.Prompts = parquetio.ReadConfig{Store: dir, Shards: promptSet(t, dir, texts...), Limit: 4}
	header := snapshot.Header{Set: "preference", RunID: "r", LogicalDate: "2026-01-31", Templates: cfg.Templates()}
	cfg.Sink = parquetio.WriteConfig{Store: dir, Dir: snapshot.RunDir("preference", "r")}
	cfg.ShardRows = 10
	cfg.Snapshot = snapshot.Config{Store: dir, Header: header}

	p, s := beam.NewPipelineWithRoot()
	verdicts := beam.ParDo(s, verdict, preference.Build(s, cfg))
	passert.Equals(s, verdicts, "committed")
	ptest.RunAndValidate(t, p)

	st, err := store.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	m, err := snapshot.Outcome(t.Context(), st, "preference", "r")
	if err != nil {
		t.Fatal(err)
	}
	return built{cfg, m, st}
}

func TestPairsFromPrompts(t *testing.T) {
	b := build(t, "rewrite.candidates=4")
	m, st := b.manifest, b.store
	if m.Rows[preference.Candidates] > 16 || m.Rows[preference.Candidates] < 8 || m.Rows[preference.Judgments] != 9*m.Rows[preference.Rewards] {
		t.Errorf("rows %v", m.Rows)
	}
	if _, ok := m.Rows[preference.JudgmentPairs]; ok {
		t.Errorf("judgment pairs that nobody asked for: %v", m.Rows)
	}
	rewards := map[string]float64{}
	err := parquetio.Rows(t.Context(), st, schemas.ShardsOf(m.Shards, preference.Rewards), func(r schemas.Reward) error {
		rewards[r.CandidateID] = r.Total
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	pairs := 0
	err = parquetio.Rows(t.Context(), st, schemas.ShardsOf(m.Shards, preference.Pairs), func(p schemas.PreferencePair) error {
		pairs++
		if p.Margin <= 0 || rewards[p.ChosenID] != p.ChosenScore || rewards[p.RejectedID] != p.RejectedScore {
			t.Errorf("pair %s: %+v", p.ID, p)
		}
		if !strings.Contains(p.Prompt[len(p.Prompt)-1].Content, "Prompt: ") {
			t.Errorf("pair %s: the prompt is %q", p.ID, p.Prompt)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if pairs == 0 || int64(pairs) != m.Rows[preference.Pairs] {
		t.Errorf("%d pairs read, %d in the manifest", pairs, m.Rows[preference.Pairs])
	}
}

// Judgment pairs are of the judgments that the set has, about the pictures that those are about, in a
// configuration of their own.
func TestJudgmentPairs(t *testing.T) {
	b := build(t, "rewrite.candidates=4", "judgment_pairs.asked=20")
	judgments := map[string]schemas.Judgment{}
	err := parquetio.Rows(t.Context(), b.store, schemas.ShardsOf(b.manifest.Shards, preference.Judgments), func(j schemas.Judgment) error {
		judgments[j.ID] = j
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	sum := func(m schemas.Image) string { return fmt.Sprintf("%x", sha256.Sum256(m.Bytes)) }
	pairs, aspects := int64(0), map[string]int{}
	err = parquetio.Rows(t.Context(), b.store, schemas.ShardsOf(b.manifest.Shards, preference.JudgmentPairs), func(p schemas.VisionPreferencePair) error {
		pairs++
		chosen, rejected := judgments[p.ChosenID], judgments[p.RejectedID]
		aspects[chosen.Aspect]++
		asked, _ := b.cfg.Judge.Templates.Task(chosen.Aspect)
		last := p.Prompt[len(p.Prompt)-1].Content
		switch {
		case p.Validate() != nil || p.Kind != schemas.KindJudgment || p.ChosenScore > 5 || p.RejectedScore < 1:
			t.Errorf("pair %+v: %v", p, p.Validate())
		case chosen.CandidateID != rejected.CandidateID || chosen.Aspect != rejected.Aspect || chosen.PromptID != p.PromptID:
			t.Errorf("pair %s compares %+v with %+v", p.ID, chosen, rejected)
		case p.Chosen[0].Content != chosen.Answer || p.Rejected[0].Content != rejected.Answer:
			t.Errorf("pair %s says %q and %q", p.ID, p.Chosen, p.Rejected)
		case len(p.Images) != 2 || sum(p.Images[0]) != chosen.Image1 || sum(p.Images[1]) != chosen.Image2:
			t.Errorf("pair %s has other pictures than its judgments", p.ID)
		case chosen.Template != asked.ID || last[:20] != asked.User[:20] || p.Policy != chosen.Judge || p.Judge != chosen.Judge:
			t.Errorf("pair %s asks %q, policy %s, judge %s", p.ID, last, p.Policy, p.Judge)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if pairs == 0 || pairs != b.manifest.Rows[preference.JudgmentPairs] || len(aspects) != 2 {
		t.Errorf("%d pairs of %v, the manifest has %v", pairs, aspects, b.manifest.Rows)
	}
	if !slices.Contains(b.manifest.Templates, "paper/judgment_pick/1") || b.manifest.Digests[preference.JudgmentPairs] == "" {
		t.Errorf("manifest has templates %v, digests %v", b.manifest.Templates, b.manifest.Digests)
	}
}

func verdict(r snapshot.Result) string { return r.Verdict }

func init() { beam.RegisterFunction(verdict) }
