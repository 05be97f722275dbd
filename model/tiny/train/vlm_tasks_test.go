package train

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/promptmill/promptmill/model/tokenizer"
	"github.com/promptmill/promptmill/transforms/judge"
)

// Nearly every example fits its lesson's shape, and the judge's parser reads what the teacher writes.
func TestTasks(t *testing.T) {
	f, err := os.Open("../../../testdata/prompts/sd_prompts_all.jsonl.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	prompts, err := ReadPrompts(f)
	if err != nil {
		t.Fatal(err)
	}
	corpus, err := NewCorpus(prompts, Training)
	if err != nil {
		t.Fatal(err)
	}
	words, err := tokenizer.Open(filepath.Join("..", "weights", sftFolder, "tokenizer.json"))
	if err != nil {
		t.Fatal(err)
	}
	pool := NewPool(corpus, Render, 40, .5, 1)
	rewritings := newRewritings(prompts, Training, words)
	read := func(parse func(string) (judge.Scores, error)) func(string) bool {
		return func(answer string) bool { _, err := parse(answer); return err == nil }
	}
	for _, c := range []struct {
		name  string
		draw  drawTask
		shape shape
		valid func(answer string) bool
	}{
		{"rewrite", rewritings.task, rewriteShape, func(a string) bool { return a != "" }},
		{"language", rewritings.text, languageShape, func(a string) bool { return a != "" }},
		{"evaluate", pool.evaluation, evaluateShape, read(judge.ParseImages)},
		{"judge", pool.judgment, judgeShape, read(judge.ParseAnswers)},
	} {
		t.Run(c.name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 2))
			const n = 400
			short := 0
			for range n {
				task, err := c.draw(context.Background(), rng)
				if err != nil {
					t.Fatal(err)
				}
				prompt, answer := task.encode(words)
				if len(prompt) != c.shape.prompt || len(answer) > c.shape.answer {
					short++
				}
				if !c.valid(task.answer) {
					t.Fatalf("the answer to %q cannot be read: %q", task.prompt, task.answer)
				}
			}
			if short > n/50 {
				t.Errorf("%d of %d do not fit %+v", short, n, c.shape)
			}
		})
	}
}
