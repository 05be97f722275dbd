package vlm

import (
	"context"
	"fmt"
	"strings"

	"github.com/promptmill/promptmill/model"
)

// A prompt is a conversation as the decoder reads it.
type prompt struct {
	ids      []int32
	features [][]float32 // one for each image token of the pictures, in order
	pictures []string    // digests
}

// newPrompt writes a conversation, encodes its pictures and puts their places in.
func (m *Model) newPrompt(ctx context.Context, messages []model.Message) (*prompt, error) {
	ids, err := m.tokenize(messages)
	if err != nil {
		return nil, err
	}
	p := &prompt{}
	var each []int // features of each picture
	for _, message := range messages {
		for _, part := range message.Parts {
			if part.Picture == nil {
				continue
			}
			f, err := m.vision.features(ctx, *part.Picture, m.slots)
			if err != nil {
				return nil, err
			}
			p.features, p.pictures, each = append(p.features, f...), append(p.pictures, part.Picture.SHA256), append(each, len(f))
		}
	}
	if p.ids, err = m.layOut(ids, each); err != nil {
		return nil, err
	}
	return p, nil
}

// tokenize is what the chat template makes of a conversation.
func (m *Model) tokenize(messages []model.Message) ([]int32, error) {
	s := m.settings
	text, err := s.template.render(messages)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", model.ErrRejected, err)
	}
	ids := m.tokens.Encode(text, s.bos == "" || !strings.HasPrefix(text, s.bos))
	if s.text.Context > 0 && len(ids) >= s.text.Context { // before anything is computed
		return nil, m.tooLong(len(ids))
	}
	if len(ids) == 0 {
		return nil, fmt.Errorf("%w: the chat template makes nothing of the conversation", model.ErrRejected)
	}
	return ids, nil
}

// layOut makes room for pictures of so many features each, and pads.
func (m *Model) layOut(ids []int32, each []int) ([]int32, error) {
	s := m.settings
	ids, err := s.image.place(ids, each)
	if err != nil {
		return nil, err
	}
	ids = s.padding.apply(ids)
	if s.text.Context > 0 && len(ids) >= s.text.Context {
		return nil, m.tooLong(len(ids))
	}
	return ids, nil
}

// answer are the tokens of an answer and the first end token after them.
func (m *Model) answer(text string) []int32 {
	return append(m.tokens.Encode(text, false), m.settings.eos[0])
}

func (m *Model) tooLong(tokens int) error {
	return fmt.Errorf("%w: the prompt has %d tokens; the model takes %d with the answer; shorten the text", model.ErrRejected, tokens, m.settings.text.Context)
}

// place gives each picture as many image tokens as it has features. A template writes one for a picture, or all.
func (t imageTokens) place(ids []int32, each []int) ([]int32, error) {
	found, all := 0, 0
	for _, id := range ids {
		if id == t.token {
			found++
		}
	}
	for _, n := range each {
		all += n
	}
	switch found {
	case len(each):
	case all:
		return ids, nil
	default:
		return nil, fmt.Errorf("%w: the conversation has %d pictures and its text %d places %s for them; the text must not contain that token, and the chat template must write it",
			model.ErrRejected, len(each), found, t.name)
	}
	out := make([]int32, 0, len(ids)+all)
	for _, id := range ids {
		if id != t.token {
			out = append(out, id)
			continue
		}
		out = append(out, t.before...)
		for range each[0] {
			out = append(out, t.token)
		}
		out = append(out, t.after...)
		each = each[1:]
	}
	return out, nil
}
