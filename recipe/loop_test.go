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
		{"selfreward.judgment_pairs=5000", "selfreward.judgment_pairs: 5000 cannot be made yet"},
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
	for _, set := range []string{"dpo.nll_alpha=7", "training.sft.epochs=7", "selfreward.reward=fixed", "metrics.draws=7", "training.start=elsewhere"} {
		if text(false, set) != rows {
			t.Errorf("%s changes what decides the rows", set)
		}
		if text(true, set) == loop {
			t.Errorf("%s does not change what decides the loop", set)
		}
	}
	for _, set := range []string{"training.poll=7s", "training.attempt=7", "selfreward.name=other", "selfreward.guard.max_length=7", "rewrite.in_flight=7"} {
		if text(true, set) != loop {
			t.Errorf("%s changes what decides the loop", set)
		}
	}
	if text(true, "rewrite.candidates=4") == loop {
		t.Error("what decides the rows does not decide the loop")
	}
}

// What the loop is measured on must be kept out of training; jobs that measure nothing do not mind.
func TestMetricsHeldOut(t *testing.T) {
	r := bound(t, "paper", "metrics.prompts.inputs=[{name: mine, path: mine.txt}]")
	if err := r.Validate(); err != nil {
		t.Error(err)
	}
	if err := r.MetricsHeldOut(); err == nil || !strings.HasPrefix(err.Error(), "metrics.prompts.inputs[0].path: mine.txt is not among heldout.benchmarks") {
		t.Error(err)
	}
	if err := bound(t, "paper").MetricsHeldOut(); err != nil {
		t.Error(err)
	}
}
