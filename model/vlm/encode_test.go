package vlm_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/modeltest"
	"github.com/promptmill/promptmill/model/vlm"
)

func TestEncoder(t *testing.T) {
	m := open(t, folder(t, small), vlm.Options{})
	e, err := m.Encoder(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p := modeltest.Picture(t, 10, 10, 50)
	messages := []model.Message{{Role: "user", Parts: []model.Part{{Picture: &p}, {Text: "a cat and"}, {Picture: &p}}}}
	ids, slots, err := e.Prompt(messages)
	if err != nil {
		t.Fatal(err)
	}
	r, err := m.Chat(t.Context(), model.ChatRequest{Messages: messages, N: 1, Sampling: model.Sampling{MaxTokens: 1}})
	if err != nil {
		t.Fatal(err)
	}
	if len(ids) != r.Usage.PromptTokens || len(slots) != 2*small.places {
		t.Errorf("%d tokens with places %v, the engine reads %d", len(ids), slots, r.Usage.PromptTokens)
	}
	for _, i := range slots {
		if ids[i] != 259 {
			t.Errorf("place %d is of token %d, not of an image", i, ids[i])
		}
	}
	answer := e.Answer("ok")
	if len(answer) != 3 || answer[2] != 258 {
		t.Errorf("the answer is %v, want two bytes and the end", answer)
	}
	data, err := p.Bytes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if pixels, err := e.Pixels(data); err != nil || len(pixels) != 3*small.side*small.side {
		t.Errorf("%d pixels, %v", len(pixels), err)
	}
	if _, err := e.Pixels(data[:30]); !errors.Is(err, model.ErrBadPicture) {
		t.Errorf("half a picture: %v", err)
	}
	for name, text := range map[string]string{"too long": strings.Repeat("x", small.context), "a place without a picture": "an <image>"} {
		if _, _, err := e.Prompt([]model.Message{model.Text("user", text)}); !errors.Is(err, model.ErrRejected) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
