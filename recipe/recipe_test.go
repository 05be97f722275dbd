package recipe_test

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"github.com/promptmill/promptmill/recipe"
)

func bound(t *testing.T, name string, set ...string) *recipe.Recipe {
	t.Helper()
	r, _, err := recipe.Load(name, set)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Bind("cache"); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestBuiltinRecipesAreSound(t *testing.T) {
	for _, name := range recipe.Builtin() {
		t.Run(name, func(t *testing.T) {
			if err := bound(t, name).Validate(); err != nil {
				t.Error(err)
			}
		})
	}
}

// The paper's recipe is the reference of every key: one that is missing there would be shown nowhere.
func TestPaperRecipeHasEveryKey(t *testing.T) {
	text, err := os.ReadFile("paper.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := yaml.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	for _, key := range missing("", reflect.TypeFor[recipe.Recipe](), got) {
		t.Errorf("paper.yaml lacks %s", key)
	}
}

// missing lists the keys of t that v lacks. Optional keys (omitempty) need not be there, and lists are the
// user's.
func missing(path string, t reflect.Type, v any) []string {
	if t.Kind() != reflect.Struct || t == reflect.TypeFor[time.Duration]() {
		return nil
	}
	m, ok := v.(map[string]any)
	if !ok {
		return []string{path + " (not a map)"}
	}
	var out []string
	for f := range t.Fields() {
		key, opts, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if key == "-" || strings.Contains(opts, "omitempty") {
			continue
		}
		if opts == "inline" {
			out = append(out, missing(path, f.Type, v)...)
			continue
		}
		at := strings.TrimPrefix(path+"."+key, ".")
		value, ok := m[key]
		if !ok {
			out = append(out, at)
			continue
		}
		out = append(out, missing(at, f.Type, value)...)
	}
	return out
}

func TestRunIDsRestOnWhatDecidesTheRows(t *testing.T) {
	text := func(set ...string) string { return string(recipe.Canonical(bound(t, "demo", set...).Decides())) }
	same := text()
	for _, set := range []string{
		"rewrite.in_flight=3", "models.judge.concurrency=9", "models.policy.endpoint=http://other", "gates.max_dead_fraction=0.5",
		"parquet.shard_rows=7", "plan.chat_seconds=9", "name=other", "models.policy.total_timeout=3s", "judgment_pairs.temperature=0.5",
	} {
		if text(set) != same {
			t.Errorf("%s changes what decides the rows", set)
		}
	}
	for _, set := range []string{
		"seed=6", "rewrite.candidates=4", "models.judge.revision=2", "judge.samples=2", "prefer.min_margin=1", "imagegen.steps=9",
		"select.prompts=7", "dedup.mode=off", "models.images.options={a: b}",
		"judgment_pairs.asked=1",
	} {
		if text(set) == same {
			t.Errorf("%s does not change what decides the rows", set)
		}
	}
}

func TestTemplateFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mine.txt")
	if err := os.WriteFile(file, []byte("Make it nicer.\nPrompt: {prompt}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := bound(t, "demo", "templates.files={rewrite: "+file+"}")
	if r.Rewrite.Template.User != "Make it nicer.\nPrompt: {prompt}" || !strings.HasPrefix(r.Rewrite.Template.ID, "mine.txt/rewrite/") {
		t.Errorf("template is %+v", r.Rewrite.Template)
	}
	if cmp.Diff(r.Rewrite.Template, r.Prefer.Template) != "" {
		t.Error("pairs would not have the words that the policy saw")
	}
	r, _, err := recipe.Load("demo", []string{"templates.files={rewrite: " + file + ".none}"})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Bind("cache"); !errors.Is(err, os.ErrNotExist) || !strings.HasPrefix(err.Error(), "templates.files.rewrite: ") {
		t.Errorf("Bind says %v", err)
	}
}

func TestUnderNamesTheSection(t *testing.T) {
	r := bound(t, "demo", "pairs.limits.min_chars=-1", "prompts.limits.max_words=-2")
	err := r.Validate()
	if err == nil || !strings.Contains(err.Error(), "pairs.limits.min_chars: ") || !strings.Contains(err.Error(), "prompts.limits.max_words: ") {
		t.Errorf("Validate says %v", err)
	}
}

func TestRecipeSurvivesJSON(t *testing.T) {
	want := bound(t, "paper")
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got recipe.Recipe
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(*want, got); diff != "" {
		t.Error(diff)
	}
}

func TestJudgmentPairsWantJudgments(t *testing.T) {
	err := bound(t, "paper", "judge.aspects=[aesthetic]").Validate()
	if err == nil || !strings.HasPrefix(err.Error(), "judgment_pairs.aspects[1]: pick is not among judge.aspects") {
		t.Errorf("Validate says %v", err)
	}
	if err := bound(t, "paper", "judge.aspects=[aesthetic]", "judgment_pairs.asked=0").Validate(); err != nil {
		t.Error(err)
	}
}

// The digests of runs rest on the JSON of the steps' settings: what steps share stands in it as their own.
func TestStepsThatAskAreFlat(t *testing.T) {
	r := bound(t, "demo")
	common := []string{"aspects", "cache", "in_flight", "max_tokens", "model", "retries", "seed", "temperature", "top_p"}
	for name, tt := range map[string]struct {
		step any
		own  []string
	}{
		"judge":          {r.Judge, []string{"extra_attempts", "samples", "templates"}},
		"judgment_pairs": {r.JudgmentPairs, []string{"asked", "extra_attempts", "of", "templates"}},
		"teacher":        {r.Teacher, []string{"both_orders", "questions", "stored"}},
		"judgment":       {r.Judgment.Judgment, []string{"questions", "stored"}},
	} {
		var keys map[string]json.RawMessage
		if err := json.Unmarshal(recipe.Canonical(tt.step), &keys); err != nil {
			t.Fatal(err)
		}
		want := slices.Sorted(slices.Values(slices.Concat(common, tt.own)))
		if diff := cmp.Diff(want, slices.Sorted(maps.Keys(keys))); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestInFlightReachesEverySectionAndNoRunID(t *testing.T) {
	decides := func(r *recipe.Recipe) string {
		return string(recipe.Canonical([]any{r.Decides(), r.DecidesLoop(), r.DecidesEvaluation(), r.DecidesJudgment(), r.DecidesAudit()}))
	}
	want := decides(bound(t, "demo"))
	r, _, err := recipe.Load("demo", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.SetInFlight(7)
	if err := r.Bind("cache"); err != nil {
		t.Fatal(err)
	}
	bounds := regexp.MustCompile(`"in_flight":\d+`).FindAllString(string(recipe.Canonical([]any{r, r.AuditConfig()})), -1)
	if bounds = slices.Compact(slices.Sorted(slices.Values(bounds))); !slices.Equal(bounds, []string{`"in_flight":7`}) {
		t.Errorf("bounds of the sections: %q", bounds)
	}
	if decides(r) != want {
		t.Error("a run id changes with how many elements are at work")
	}
}
