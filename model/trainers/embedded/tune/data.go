package tune

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/trainers/dataset"
	"github.com/promptmill/promptmill/model/vlm"
	"github.com/promptmill/promptmill/schemas"
)

// listed is how many faults of rows an error tells.
const listed = 5

// read encodes the rows of all files. Files of text and files with pictures may be mixed. All faulty rows make one failure
// that names the first.
func (j *job) read(ctx context.Context, e *vlm.Encoder) ([]Row, error) {
	r := reader{method: j.Method, encoder: e, pictures: map[[32]byte]func() ([]float32, error){}}
	var rows []Row
	var bad []error
	faulty := 0
	for _, u := range j.Data {
		o, err := dataset.Open(ctx, u) // whether it can be read at all is the world's, what is in it is the data's
		if err != nil {
			return nil, fmt.Errorf("training data: %w", err)
		}
		_ = o.Close()
		for row, err := range dataset.Read(ctx, []string{u}) {
			if err != nil {
				return nil, fail(err)
			}
			out, err := r.row(row)
			if err == nil {
				rows = append(rows, out)
			} else if faulty++; faulty <= listed {
				bad = append(bad, fmt.Errorf("%s: %w", row, err))
			}
		}
	}
	switch {
	case faulty > 0:
		return nil, fail(fmt.Errorf("%d of %d rows cannot be trained on; repair or drop them:\n%w", faulty, faulty+len(rows), errors.Join(bad...)))
	case len(rows) == 0:
		return nil, fail(errors.New("the data have no rows"))
	}
	return rows, nil
}

// A reader encodes rows; a picture that several refer to is there once.
type reader struct {
	method   string
	encoder  *vlm.Encoder
	pictures map[[32]byte]func() ([]float32, error)
}

func (r *reader) row(row dataset.Row) (Row, error) {
	if row.Preference != (r.method == model.MethodDPO) {
		return Row{}, fmt.Errorf("it is not a row for %s, which takes messages for sft and prompt, chosen and rejected for dpo", r.method)
	}
	messages, answers := row.Turns()
	var texts []string
	for _, a := range answers {
		if len(a) != 1 || a[0].Role != schemas.RoleAssistant || strings.TrimSpace(a[0].Content) == "" {
			return Row{}, errors.New("an answer is not one message of the assistant with a text")
		}
		texts = append(texts, a[0].Content)
	}
	if len(texts) == 2 && texts[0] == texts[1] {
		return Row{}, errors.New("the chosen answer is the rejected one")
	}
	conversation, err := dataset.Conversation(messages, row.Images)
	if err != nil {
		return Row{}, err
	}
	var out Row
	if out.Prompt, out.Slots, err = r.encoder.Prompt(conversation); err != nil {
		return Row{}, err
	}
	for _, image := range row.Images {
		pixels, err := r.picture(image.Bytes)
		if err != nil {
			return Row{}, err
		}
		out.Pictures = append(out.Pictures, pixels)
	}
	for _, text := range texts {
		ids := r.encoder.Answer(text)
		if n, most := len(out.Prompt)+len(ids), r.encoder.Context(); most > 0 && n > most {
			return Row{}, fmt.Errorf("prompt and answer have %d tokens; the model takes %d", n, most)
		}
		out.Answers = append(out.Answers, ids)
	}
	return out, nil
}

// picture checks a picture and keeps it as it is stored: its pixels take more room and are made when they are used.
func (r *reader) picture(data []byte) (func() ([]float32, error), error) {
	sum := sha256.Sum256(data)
	if known := r.pictures[sum]; known != nil {
		return known, nil
	}
	pixels := func() ([]float32, error) { return r.encoder.Pixels(data) }
	if _, err := pixels(); err != nil {
		return nil, err
	}
	r.pictures[sum] = pixels
	return pixels, nil
}
