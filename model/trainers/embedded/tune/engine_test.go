package tune_test

import (
	"math"
	"strings"
	"testing"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/modeltest"
	"github.com/promptmill/promptmill/model/trainers/embedded/tune"
	"github.com/promptmill/promptmill/model/vlm"
)

// TestTrainsWhatAnswers: rows encoded for training have the log-probabilities that the engine gives the same conversations, so
// tokens, padding, pictures and their places are the same.
func TestTrainsWhatAnswers(t *testing.T) {
	dir := folder(t, nil)
	m, err := vlm.Open(t.Context(), dir, vlm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	e, err := m.Encoder(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	first, second := modeltest.Picture(t, 9, 14, 30), modeltest.Picture(t, 20, 20, 220)
	conversations := [][]model.Message{
		{model.Text("user", "a cat")},
		{model.Text("system", "rewrite"), model.Text("user", strings.Repeat("long ", 14)+"é")},
		{{Role: "user", Parts: []model.Part{{Picture: &first}, {Text: "one"}}}},
		{model.Text("system", "judge"), {Role: "user", Parts: []model.Part{{Text: "Image 1:"}, {Picture: &first}, {Text: "Image 2:"}, {Picture: &second}, {Text: "which?"}}}},
		{{Role: "user", Parts: []model.Part{{Picture: &second}, {Picture: &first}}}},
	}
	answers := []string{"the first one", "no"}
	var rows []tune.Row
	for _, c := range conversations {
		ids, slots, err := e.Prompt(c)
		if err != nil {
			t.Fatal(err)
		}
		row := tune.Row{Prompt: ids, Slots: slots, Answers: [][]int32{e.Answer(answers[0]), e.Answer(answers[1])}}
		for _, message := range c {
			for _, part := range message.Parts {
				if part.Picture != nil {
					row.Pictures = append(row.Pictures, func() ([]float32, error) {
						data, err := part.Picture.Bytes(t.Context())
						if err != nil {
							return nil, err
						}
						return e.Pixels(data)
					})
				}
			}
		}
		rows = append(rows, row)
	}
	got, err := openPolicy(t, dir, tune.Options{}).LogProbs(t.Context(), rows)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range conversations {
		want, err := m.LogProbs(t.Context(), c, answers)
		if err != nil {
			t.Fatal(err)
		}
		for a, tokens := range want {
			sum := 0.0
			for _, l := range tokens {
				sum += l
			}
			if math.Abs(sum-float64(got[i][a])) > 1e-4 {
				t.Errorf("conversation %d, answer %d: %v in training, %v in the engine", i, a, got[i][a], sum)
			}
		}
	}
}
