package recipe_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/promptmill/promptmill/recipe"
)

// Every loop of every embedded study has a sound recipe, and no two have one name.
func TestBuiltinStudiesAreSound(t *testing.T) {
	for _, name := range recipe.Studies() {
		s, err := recipe.LoadStudy(name)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, v := range s.Variants {
			r := bound(t, s.Recipe, s.Assignments(v, s.Seeds[0], "test")...)
			if err := r.Validate(); err != nil {
				t.Errorf("%s, %s: %v", name, v.Name, err)
			}
			if err := r.LoopFaults(); err != nil {
				t.Errorf("%s, %s: %v", name, v.Name, err)
			}
			if r.MetricsSeed() == r.Seed || slices.Contains(names, r.SelfReward.Name) {
				t.Errorf("%s, %s: seed %d, loop %s after %v", name, v.Name, r.MetricsSeed(), r.SelfReward.Name, names)
			}
			names = append(names, r.SelfReward.Name)
		}
	}
}

func TestStudyFaults(t *testing.T) {
	const good = "name: s\nmeasure: total\nseeds: [1]\nvariants:\n  - {name: a}\n"
	for _, tt := range []struct{ change, to, want string }{
		{"name: s", "name: s/s", `study.yaml:1:7: name: "s/s"`},
		{"seeds: [1]", "seeds: [1, 1]", "study.yaml:3:12: seeds[1]: 1 stands there twice"},
		{"seeds: [1]", "seeds: []", "seeds: none"},
		{"measure: total", "measure: ''", "measure: empty"},
		{"{name: a}", "{name: a}\n  - {name: a}", "variants[1].name: \"a\" stands there twice"},
		{"{name: a}", "{name: a, sets: []}", `unknown key "sets" in variants[0]`},
		{"name: s\n", "name: s\nmetrics_seed: 0\n", "metrics_seed: 0"},
	} {
		path := filepath.Join(t.TempDir(), "study.yaml")
		if err := os.WriteFile(path, []byte(strings.Replace(good, tt.change, tt.to, 1)), 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := recipe.LoadStudy(path); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v; want %q", tt.to, err, tt.want)
		}
	}
	if _, err := recipe.LoadStudy("nowhere"); err == nil || !strings.Contains(err.Error(), "settings") {
		t.Errorf("a study that is not there: %v", err)
	}
}
