package recipe_test

import (
	"strings"
	"testing"

	"github.com/promptmill/promptmill/recipe"
)

func TestLoopFaults(t *testing.T) {
	for _, tt := range []struct{ set, want string }{
		{"training.trainer={backend: \"\", model: \"\"}", "training.trainer.backend: "},
		{"training.poll=0s", "training.poll: 0s"},
		{"training.placeholders=some", "training.placeholders: "},
		{"training.sft.batch_size=0", "training.sft.batch_size: 0"},
		{"dpo.beta=0", "dpo.beta: 0"},
		{"dpo.nll_alpha=-1", "dpo.nll_alpha: -1"},
		{"selfreward.name=a/b", "selfreward.name: "},
		{"selfreward.start=middle", "selfreward.start: "},
		{"selfreward.reward=other", "selfreward.reward: "},
		{"selfreward.iterations=[]", "selfreward.iterations: "},
		{"selfreward.iterations=[{pairs: 9}, {pairs: 3}]", "selfreward.iterations[1].pairs: 3 is less than before"},
		{"selfreward.oversample=0.5", "selfreward.oversample: 0.5"},
		{"selfreward.judgment_pairs=-1", "selfreward.judgment_pairs: -1 is negative"},
		{"gates.min_judgment_accuracy=1", "gates.min_judgment_accuracy: 1 is not"},
		{"selfreward.guard.max_kl=-1", "selfreward.guard.max_kl: -1 is negative"},
		{"metrics.part=train", `metrics.part: "train" is not validation or test`},
		{"selfreward.guard.max_length=0.5", "selfreward.guard.max_length: 0.5"},
		{"metrics.draws=0", "metrics.draws: 0"},
		{"metrics.resamples=1", "metrics.resamples: 1"},
		{"metrics.scorers=[{name: a, model: {backend: scene}}, {name: a, model: {backend: scene}}]", "metrics.scorers[1].name: "},
	} {
		err := bound(t, "paper", tt.set).Validate()
		if err == nil || !strings.HasPrefix(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v; want %q alone", tt.set, err, tt.want)
		}
	}
}

// What is done with rows does not decide them; what decides a loop is more than its rows.
func TestWhatDecidesALoop(t *testing.T) {
	text := func(loop bool, set ...string) string {
		r := bound(t, "demo", set...)
		if loop {
			return string(recipe.Canonical(r.DecidesLoop()))
		}
		return string(recipe.Canonical(r.Decides()))
	}
	rows, loop := text(false), text(true)
	for _, set := range []string{"dpo.nll_alpha=7", "training.sft.epochs=7", "selfreward.reward=fixed", "metrics.draws=7", "training.start=elsewhere", "gates.min_judgment_accuracy=0.7"} {
		if text(false, set) != rows {
			t.Errorf("%s changes what decides the rows", set)
		}
		if text(true, set) == loop {
			t.Errorf("%s does not change what decides the loop", set)
		}
	}
	for _, set := range []string{"training.poll=7s", "training.attempt=7", "selfreward.name=other", "selfreward.guard.max_length=7", "rewrite.in_flight=7", "gates.max_dead_fraction=0.7"} {
		if text(true, set) != loop {
			t.Errorf("%s changes what decides the loop", set)
		}
	}
	if text(true, "rewrite.candidates=4") == loop {
		t.Error("what decides the rows does not decide the loop")
	}
}

// What the loop is measured on must be kept out of training, and what it wants must be measured; other jobs do not mind.
func TestLoopFaultsOfValidRecipes(t *testing.T) {
	for _, tt := range []struct {
		set  []string
		want string
	}{
		{nil, ""},
		{[]string{"metrics.prompts.inputs=[{name: mine, path: mine.txt}]"}, "metrics.prompts.inputs[0].path: mine.txt is not among heldout.benchmarks"},
		{[]string{"selfreward.reward=fixed"}, "selfreward.judgment_pairs: 5000 pairs of the judge's own answers, but selfreward.reward is fixed"},
		{[]string{"selfreward.reward=fixed", "selfreward.judgment_pairs=0"}, ""},
		{[]string{"judgment_pairs.asked=0"}, "selfreward.judgment_pairs: 5000, but judgment_pairs.asked is 0"},
		{[]string{"metrics.judge=false"}, "selfreward.judgment_pairs: 5000, but metrics.judge is false"},
		{[]string{"metrics.prompts.inputs=[]", "selfreward.judgment_pairs=0", "selfreward.guard.max_kl=1"}, "selfreward.guard.max_kl: there are no metrics.prompts"},
		{[]string{"audit.facts=[]"}, "metrics.judge: there are no audit.facts"},
	} {
		r := bound(t, "paper", tt.set...)
		if err := r.Validate(); err != nil {
			t.Errorf("%v: %v", tt.set, err)
		}
		err := r.LoopFaults()
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.want) || strings.Contains(err.Error(), "\n")) {
			t.Errorf("%v: %v; want %q alone", tt.set, err, tt.want)
		}
	}
	if err := bound(t, "demo").LoopFaults(); err != nil {
		t.Error(err)
	}
}
