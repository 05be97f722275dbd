package preference_test

import (
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

func TestPairsFromPrompts(t *testing.T) {
	dir := transformtest.Cache(t)
	r, _, err := recipe.Load("demo", []string{"rewrite.candidates=4"})
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
	if m.Rows[preference.Candidates] > 16 || m.Rows[preference.Candidates] < 8 || m.Rows[preference.Judgments] != 9*m.Rows[preference.Rewards] {
		t.Errorf("rows %v", m.Rows)
	}
	rewards := map[string]float64{}
	err = parquetio.Rows(t.Context(), st, of(m, preference.Rewards), func(r schemas.Reward) error {
		rewards[r.CandidateID] = r.Total
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	pairs := 0
	err = parquetio.Rows(t.Context(), st, of(m, preference.Pairs), func(p schemas.PreferencePair) error {
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

func verdict(r snapshot.Result) string { return r.Verdict }

func init() { beam.RegisterFunction(verdict) }

func of(m snapshot.Manifest, config string) []schemas.Shard {
	var out []schemas.Shard
	for _, s := range m.Shards {
		if s.Config == config {
			out = append(out, s)
		}
	}
	return out
}
