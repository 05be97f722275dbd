package scene_test

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/scene"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/judge"
	"github.com/promptmill/promptmill/transforms/template"
)

// tersely is a question of the template set tiny as a judge puts it, with what is to follow it.
func tersely(t *testing.T, messages []schemas.Message, cue string, first, second *model.Picture) model.ChatRequest {
	t.Helper()
	if len(messages) != 2 {
		t.Fatalf("%d messages", len(messages))
	}
	return model.ChatRequest{N: 1, Sampling: model.Sampling{MaxTokens: 256}, Messages: []model.Message{
		model.Text(messages[0].Role, messages[0].Content),
		{Role: messages[1].Role, Parts: []model.Part{{Text: "Image 1:"}, {Picture: first}, {Text: "Image 2:"}, {Picture: second}, {Text: messages[1].Content + cue}}},
	}}
}

// Asked in the words of the tiny models, the judge answers in theirs: the truth if nothing is drawn by chance.
func TestTerse(t *testing.T) {
	tiny, err := template.Open("tiny")
	if err != nil {
		t.Fatal(err)
	}
	const raw = "a red dragon"
	pictures := []*model.Picture{drawn(t, raw, 1), drawn(t, raw+", intricate, sharp focus, vivid colors", 2)}
	for _, aspect := range []string{schemas.Aesthetic, schemas.Pick, schemas.Alignment} {
		t.Run(aspect, func(t *testing.T) {
			question, _ := tiny.Task(aspect)
			cue, _ := tiny.Task(template.Teacher + aspect)
			hint := "\n\n" + cue.Fill(template.Better, "Image 1")[0].Content
			plain := ask(t, tersely(t, question.Messages(raw), "", pictures[0], pictures[1]))[0]
			if hinted := ask(t, tersely(t, question.Messages(raw), hint, pictures[0], pictures[1]))[0]; hinted != plain {
				t.Errorf("with a cue %q, without %q", hinted, plain)
			}
			got, err := judge.ParseImages(plain)
			if err != nil {
				t.Fatalf("%q: %v", plain, err)
			}
			var want [2]float64
			for i, p := range pictures {
				data, err := p.Bytes(context.Background())
				if err != nil {
					t.Fatal(err)
				}
				img, err := scene.Decode(data)
				if err != nil {
					t.Fatal(err)
				}
				want[i] = math.Round(min(max(scene.Oracle(img, raw).Level(aspect), 0), 5))
			}
			if got.First != want[0] || got.Second != want[1] {
				t.Errorf("%q: the oracle says %v", plain, want)
			}
			if n := strings.Count(plain, "\n"); n != 1 {
				t.Errorf("%q has %d lines, want 2", plain, n+1)
			}

			off := fmt.Sprintf("image 1 detail 0. score %v\nimage 2 detail 0. score %v", math.Mod(want[0]+3, 6), want[1])
			for _, c := range []struct {
				a, b          string
				first, second float64
			}{
				{plain, off, 5, max(1, 5-math.Abs(math.Mod(want[0]+3, 6)-want[0]))},
				{off, plain, max(1, 5-math.Abs(math.Mod(want[0]+3, 6)-want[0])), 5},
				{"both are nice", plain, 1, 5},
			} {
				messages, _ := tiny.AboutAnswers(aspect, raw, c.a, c.b)
				verdict := ask(t, tersely(t, messages, "", pictures[0], pictures[1]))[0]
				got, err := judge.ParseAnswers(verdict)
				if err != nil || got.First != c.first || got.Second != c.second {
					t.Errorf("%q and %q: %q, want %v and %v, error %v", c.a, c.b, verdict, c.first, c.second, err)
				}
				if !strings.HasPrefix(verdict, plain) {
					t.Errorf("%q does not begin with the judge's own answer", verdict)
				}
			}
		})
	}
}
