package facts_test

import (
	"math"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/google/go-cmp/cmp"

	"github.com/promptmill/promptmill/model/scene"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/transforms/facts"
)

func prompts(texts ...string) (rows []schemas.Prompt) {
	for _, text := range texts {
		rows = append(rows, schemas.Prompt{ID: schemas.PromptID(text), Text: text, Source: "test"})
	}
	return rows
}

func oracle(t *testing.T, cfg facts.OracleConfig) result {
	t.Helper()
	return run(t, cfg.Store, func(s beam.Scope) (a, b, c beam.PCollection) {
		return facts.Oracle(s, cfg, beam.CreateList(s, prompts("a red fox in the snow", "castle by the sea", "portrait of a robot", "a bowl of fruit")))
	})
}

// levels measures the pictures of a fact as the oracle does.
func levels(t *testing.T, url string, f schemas.Fact) (out [2]float64) {
	t.Helper()
	st, err := store.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	for i, ref := range []schemas.ImageRef{f.First, f.Second} {
		data, err := store.GetBlob(t.Context(), st, ref.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		img, err := scene.Decode(data)
		if err != nil {
			t.Fatal(err)
		}
		out[i] = scene.Oracle(img, f.Prompt).Level(f.Aspect)
	}
	return out
}

func TestOracle(t *testing.T) {
	cfg := facts.DefaultOracle()
	cfg.Pairs, cfg.Store, cfg.Seed, cfg.Width, cfg.Height = 10, t.TempDir(), 3, 64, 64
	got := oracle(t, cfg)
	got.want(t, map[string]int64{"facts.in": 120, "facts.out": 120})
	// With noise of .4 people agree with the measure in most pairs that are not close, and not in all.
	var agree, stated, ties float64
	seen := map[string]int{}
	for _, f := range got.facts {
		seen[f.Aspect]++
		if f.FactSource != schemas.FactOracle || f.First.Width != 64 {
			t.Errorf("fact %s: %+v", f.ID, f)
		}
		if f.Preference == schemas.Tie {
			ties++
			continue
		}
		stated++
		if l := levels(t, cfg.Store, f); (l[0] > l[1]) == (f.Preference == schemas.First) {
			agree++
		}
	}
	if share := agree / stated; share < .75 || share > .99 || ties < 6 || ties > 60 {
		t.Errorf("%.0f of %.0f preferences agree with the measure, %.0f ties", agree, stated, ties)
	}
	if seen[schemas.Aesthetic] != 40 || seen[schemas.Pick] != 40 || seen[schemas.Alignment] != 40 {
		t.Errorf("facts per aspect: %v", seen)
	}
	// The same again, and with one pair a prompt a part of it.
	if d := cmp.Diff(got, oracle(t, cfg), cmp.AllowUnexported(result{})); d != "" {
		t.Error(d)
	}
	all := map[string]bool{}
	for _, id := range got.ids() {
		all[id] = true
	}
	cfg.Pairs = 1
	for _, f := range oracle(t, cfg).facts {
		if !all[f.ID] {
			t.Errorf("fact %s is not among those of more pairs", f.ID)
		}
	}
}

// Without noise the oracle says what it measures.
func TestOracleWithoutNoise(t *testing.T) {
	cfg := facts.DefaultOracle()
	cfg.Pairs, cfg.Store, cfg.Noise, cfg.TieBelow = 5, t.TempDir(), 0, 1
	for _, f := range oracle(t, cfg).facts {
		l := levels(t, cfg.Store, f)
		want := schemas.Tie
		switch d := l[0] - l[1]; {
		case math.Abs(d) < 1:
		case d > 0:
			want = schemas.First
		default:
			want = schemas.Second
		}
		if f.Preference != want {
			t.Errorf("levels %v: %s", l, f.Preference)
		}
	}
}

// Pictures that were drawn for a prompt carry no opinion.
func TestGenerated(t *testing.T) {
	url := t.TempDir()
	st, err := store.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	ref := func(prompt string, seed int64) schemas.ImageRef {
		sha, err := store.PutBlob(t.Context(), st, shot(t, prompt, seed))
		if err != nil {
			t.Fatal(err)
		}
		return schemas.ImageRef{SHA256: sha, Width: 32, Height: 32, Seed: seed}
	}
	p := prompts("a red fox", "a castle", "a tree")
	slates := []schemas.Slate{
		{Prompt: p[0], Raw: ref("a red fox", 1), Candidates: []schemas.Candidate{
			{ID: "a", Image: ref("a red fox, vivid", 1)}, {ID: "b"}, {ID: "c", Image: ref("a red fox, dark", 1)}, {ID: "d", Image: ref("a red fox, fog", 1)},
		}},
		{Prompt: p[1], Raw: ref("a castle", 1), Candidates: []schemas.Candidate{{ID: "e", Image: ref("a castle", 1)}}},
		{Prompt: p[2], Candidates: []schemas.Candidate{{ID: "f", Image: ref("a tree", 1)}}},
	}
	cfg := facts.DefaultGenerated()
	cfg.Candidates = 2
	got := run(t, url, func(s beam.Scope) (a, b, c beam.PCollection) {
		rows, counts := facts.Generated(s, cfg, beam.CreateList(s, slates))
		return rows, beam.CreateList(s, []schemas.Rejected{}), counts
	})
	got.want(t, map[string]int64{"facts.in": 6, "facts.out": 4, "facts.filtered.same_picture": 2})
	raw := slates[0].Raw.SHA256
	for _, f := range got.facts {
		if f.Preference != schemas.NoPreference || f.FactSource != schemas.FactNone || f.Prompt != "a red fox" || f.FirstScore != nil {
			t.Errorf("%+v", f)
		}
		if (f.First.SHA256 == raw) == (f.Second.SHA256 == raw) {
			t.Errorf("fact %s is not about the raw prompt's picture and another", f.ID)
		}
	}
}
