package vlm

import (
	"context"
	"fmt"

	"github.com/promptmill/promptmill/model"
)

// An Encoder turns conversations into what the graphs read, exactly as Chat and LogProbs do, without running them: for those
// who train the model. It is safe for concurrent use until the model is closed.
type Encoder struct {
	m      *Model
	places int // that a picture takes
}

// Encoder returns the model's encoder.
func (m *Model) Encoder(ctx context.Context) (*Encoder, error) {
	width, height := m.settings.pictures.size()
	black, err := m.vision.encode(ctx, make([]float32, 3*width*height))
	if err != nil {
		return nil, fmt.Errorf("vlm: %w", err)
	}
	return &Encoder{m, len(black)}, nil
}

// Prompt returns a conversation's tokens, and the places among them of the pictures' features, in order. What Chat would
// refuse is model.ErrRejected here too.
func (e *Encoder) Prompt(messages []model.Message) (ids []int32, slots []int, err error) {
	if ids, err = e.m.tokenize(messages); err != nil {
		return nil, nil, err
	}
	each := picturesOf(messages, e.places)
	if ids, err = e.m.layOut(ids, each); err != nil {
		return nil, nil, err
	}
	if err = e.m.fits(ids); err != nil {
		return nil, nil, err
	}
	for i, id := range ids {
		if id == e.m.settings.image.token && len(slots) < len(each)*e.places {
			slots = append(slots, i)
		}
	}
	return ids, slots, nil
}

// Answer returns an answer's tokens and the end behind them.
func (e *Encoder) Answer(text string) []int32 { return e.m.answer(text) }

// Pixels returns an encoded picture as the vision encoder takes it, [3, height, width]. A picture that cannot be decoded is
// model.ErrBadPicture.
func (e *Encoder) Pixels(data []byte) ([]float32, error) {
	img, err := model.Decode(data, model.PictureLimits{})
	if err != nil {
		return nil, err
	}
	return e.m.settings.pictures.prepare(img), nil
}

// Context is the most tokens that a prompt and its answer may have together; 0 is no bound.
func (e *Encoder) Context() int { return e.m.settings.text.Context }

// Tokens is how many tokens the tokenizer has.
func (e *Encoder) Tokens() int { return e.m.tokens.Vocab() }

// Logits is among how many tokens the model chooses.
func (e *Encoder) Logits() int { return int(e.m.decoder.vocab) }
