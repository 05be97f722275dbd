package train_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/promptmill/promptmill/model/scene"
	"github.com/promptmill/promptmill/model/tiny/train"
)

func TestReadPrompts(t *testing.T) {
	lines := `{"prompt":"A Red  Cat, , highly detailed,8 k"}
{"prompt":"A Red  Cat, , highly detailed,8 k"}
{"prompt":"one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen, ` + strings.Repeat("long ", 13) + `"}
{"prompt":","}
{"prompt":"ab"}
`
	got, err := train.ReadPrompts(strings.NewReader(lines))
	if err != nil {
		t.Fatal(err)
	}
	want := []train.Prompt{
		{Raw: "a red cat", Modifiers: []string{"highly detailed", "8 k"}},
		{Raw: "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if _, err := train.ReadPrompts(strings.NewReader(lines + "{")); err == nil {
		t.Error("no error for a line that ends too early")
	}
}

func TestCaptionsStayInTheirPart(t *testing.T) {
	prompts, _ := train.Load(t)
	count := map[train.Part]int{}
	for _, p := range prompts {
		count[train.PartOf(p.Raw)]++
	}
	for part, share := range map[train.Part]float64{train.Training: .84, train.Validation: .08, train.Test: .08} {
		if got := float64(count[part]) / float64(len(prompts)); got < share-.02 || got > share+.02 {
			t.Errorf("part %d has %.3f of the prompts, want about %.2f", part, got, share)
		}
		corpus, err := train.NewCorpus(prompts, part)
		if err != nil {
			t.Fatal(err)
		}
		own := map[string]bool{}
		for _, p := range prompts {
			if train.PartOf(p.Raw) == part {
				own[p.Raw] = true
			}
		}
		rng, again := rand.New(rand.NewPCG(1, 2)), rand.New(rand.NewPCG(1, 2))
		colours := strings.NewReplacer(pairsOf(scene.Colours())...)
		for range 200 {
			c := corpus.Caption(rng, train.Mix{Bare: .3, Real: .3})
			if !own[c.Raw] && !own[strings.TrimSpace(c.Raw)] && colours.Replace(c.Raw) == c.Raw {
				t.Errorf("caption %q is of no prompt of part %d", c.Raw, part)
			}
			if d := cmp.Diff(c, corpus.Caption(again, train.Mix{Bare: .3, Real: .3})); d != "" {
				t.Fatal(d)
			}
			if !strings.HasPrefix(c.Full, c.Raw) {
				t.Errorf("caption %q does not begin with %q", c.Full, c.Raw)
			}
		}
	}
}

// pairsOf makes a replacer that removes words.
func pairsOf(words []string) (out []string) {
	for _, w := range words {
		out = append(out, w+" ", "")
	}
	return out
}

func TestSwappedSubjectsSpreadOverCategories(t *testing.T) {
	prompts, _ := train.Load(t)
	corpus, err := train.NewCorpus(prompts, train.Training)
	if err != nil {
		t.Fatal(err)
	}
	var seen [scene.Categories]int
	rng := rand.New(rand.NewPCG(3, 4))
	const n = 3000
	for range n {
		kind, _ := scene.Subject(corpus.Caption(rng, train.Mix{Swapped: 1}).Raw)
		seen[kind]++
	}
	for kind, k := range seen {
		if k < n/30 || k > n/4 {
			t.Errorf("%d of %d captions are of a %v", k, n, scene.Category(kind))
		}
	}
}
