package vlm_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/modeltest"
	"github.com/promptmill/promptmill/model/vlm"
	"github.com/promptmill/promptmill/model/vlm/vlmtest"
)

func readFixture(t *testing.T, name string, v any) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatal(err)
	}
}

func TestBeamEqualsTransformers(t *testing.T) {
	var cases []struct {
		Text    string
		Width   int
		Penalty float64 `json:"length_penalty"`
		Most    int     `json:"max_tokens"`
		EOS     []int32
		Found   []struct {
			IDs   []int32
			Score float64
		}
	}
	readFixture(t, "beams.json", &cases)
	models := map[int]*vlm.Model{}
	ref := newPlain(t, folder(t, small), small)
	for _, c := range cases {
		m := models[len(c.EOS)]
		if m == nil {
			s := small
			s.files = map[string]any{"generation_config.json": map[string]any{"eos_token_id": c.EOS}}
			m = open(t, folder(t, s), vlm.Options{})
			models[len(c.EOS)] = m
		}
		got, err := m.Beam(t.Context(), []model.Message{model.Text("user", c.Text)}, vlm.BeamSearch{Width: c.Width, LengthPenalty: c.Penalty, MaxTokens: c.Most})
		if err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("%q, width %d, penalty %v, %d end tokens", c.Text, c.Width, c.Penalty, len(c.EOS))
		if len(got) != len(c.Found) {
			t.Errorf("%s: %d answers, want %d", name, len(got), len(c.Found))
			continue
		}
		for i, want := range c.Found {
			ids, finish := want.IDs, model.FinishLength
			if slices.Contains(c.EOS, ids[len(ids)-1]) {
				ids, finish = ids[:len(ids)-1], model.FinishStop
			}
			if g := got[i]; g.Text != ref.tokens.Decode(ids, true) || g.Finish != finish || g.Tokens != len(want.IDs) || math.Abs(g.Score-want.Score) > 1e-4*math.Abs(want.Score) {
				t.Errorf("%s: answer %d is %+v; want %q, %s, score %v", name, i, g, ref.tokens.Decode(ids, true), finish, want.Score)
			}
		}
	}
}

// A search as wide as the vocabulary looks at every answer of two tokens.
func TestBeamEqualsBruteForce(t *testing.T) {
	dir := folder(t, small)
	m, ref := open(t, dir, vlm.Options{}), newPlain(t, dir, small)
	row := ref.prompt("a cat")
	type answer struct {
		text  string
		score float64
	}
	first := ref.logProbs(row)
	var rows [][]int64
	for token := range first {
		rows = append(rows, append(slices.Clone(row), int64(token)))
	}
	second := ref.logits(rows...)
	all := []answer{{"", first[258]}}
	for token, p := range first {
		if token == 258 {
			continue
		}
		end := (token + 1) * len(rows[0]) * small.tokens()
		for next, q := range normalized(second[end-small.tokens() : end]) {
			all = append(all, answer{ref.tokens.Decode([]int32{int32(token), int32(next)}, true), (p + q) / 2})
		}
	}
	slices.SortFunc(all, func(a, b answer) int { return int(math.Copysign(1, b.score-a.score)) })
	got, err := m.Beam(t.Context(), []model.Message{model.Text("user", "a cat")}, vlm.BeamSearch{Width: small.tokens(), LengthPenalty: 1, MaxTokens: 2})
	if err != nil {
		t.Fatal(err)
	}
	for i, h := range got {
		if math.Abs(h.Score-all[i].score) > 1e-4 || i < 20 && h.Text != all[i].text && all[i].score-all[i+1].score > 1e-4 {
			t.Fatalf("answer %d is %q, %v; want %+v", i, h.Text, h.Score, all[i])
		}
	}
	s, err := model.OpenChat(t.Context(), model.Spec{Backend: "vlm", Model: dir, Options: map[string]string{"beams": "8", "length_penalty": "1"}})
	if err != nil {
		t.Fatal(err)
	}
	req := ask("a cat", 2, 1, model.Sampling{MaxTokens: 2})
	if res := chat(t, s, req); res.Answers[0] != got[0].Answer || res.Answers[1] != got[0].Answer {
		t.Errorf("Chat with beams: %q; want twice %q", res.Answers, got[0].Text)
	}
	if s.Info().Weights == m.Info().Weights {
		t.Error("with beams and without the identity is the same")
	}
}

// A conversation in a published template and the text that transformers makes of it are one prompt.
func TestTemplatesEqualTransformers(t *testing.T) {
	var cases []struct {
		Template string
		Messages []struct {
			Role    string
			Content []struct{ Type, Text string }
		}
		Text string
	}
	readFixture(t, "templates.json", &cases)
	pictures := []model.Picture{modeltest.Picture(t, 16, 16, 0), modeltest.Picture(t, 16, 16, 255)}
	image := map[string]string{"gemma-3.jinja": "<start_of_image>", "qwen2-vl.jinja": "<|image_pad|>", "llama-3.2-vision.jinja": "<|image|>"}
	models := map[string]*vlm.Model{}
	build := func(template, token string) *vlm.Model {
		s := small
		s.context, s.vocab = 1024, 266
		tokens := vlmtest.Tokenizer("<start_of_image>", "<|image_pad|>", "<|image|>")
		s.files = map[string]any{"tokenizer.json": tokens, "processor_config.json": map[string]any{"image_token": token}, "chat_template.jinja": template}
		return open(t, folder(t, s), vlm.Options{Parallel: 1})
	}
	for i, c := range cases {
		token := image[c.Template]
		if token == "" {
			token = "<image>"
		}
		m := models[c.Template]
		if m == nil {
			source, err := os.ReadFile(filepath.Join("testdata", "templates", c.Template))
			if err != nil {
				t.Fatal(err)
			}
			m = build(string(source), token)
			models[c.Template] = m
		}
		if models[token] == nil {
			models[token] = build("{{ messages[0]['content'] }}", token)
		}
		rest := pictures
		var messages []model.Message
		for _, given := range c.Messages {
			message := model.Message{Role: given.Role}
			for _, p := range given.Content {
				part := model.Part{Text: p.Text}
				if p.Type == "image" {
					part.Picture, rest = &rest[0], rest[1:]
				}
				message.Parts = append(message.Parts, part)
			}
			messages = append(messages, message)
		}
		whole := model.Message{Role: "user"}
		for j, text := range strings.Split(c.Text, token) {
			if j > 0 {
				whole.Parts = append(whole.Parts, model.Part{Picture: &pictures[j-1]})
			}
			whole.Parts = append(whole.Parts, model.Part{Text: text})
		}
		got, err := m.LogProbs(t.Context(), messages, []string{"x"})
		if err != nil {
			t.Errorf("case %d, %s: %v", i, c.Template, err)
			continue
		}
		want, err := models[token].LogProbs(t.Context(), []model.Message{whole}, []string{"x"})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got[0], want[0]) {
			t.Errorf("case %d, %s: not the text %q", i, c.Template, c.Text)
		}
	}
}
