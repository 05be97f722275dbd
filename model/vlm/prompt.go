package vlm

import (
	"context"

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
	if err == nil {
		err = m.fits(ids) // before anything is computed
	}
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
	if err := m.fits(p.ids); err != nil {
		return nil, err
	}
	return p, nil
}
