package train

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"

	"github.com/promptmill/promptmill/model/scene"
	"github.com/promptmill/promptmill/model/trainers/dataset"
	"github.com/promptmill/promptmill/model/vlm"
	"github.com/promptmill/promptmill/schemas"
)

// Rows are those of the supervised set that the tasks are learned from.
type Rows struct {
	Rewrites []schemas.ChatExample `json:"rewrites"`
	// Vision are evaluations and judgments.
	Vision []schemas.VisionChatExample `json:"vision"`
}

// A school is the rows by task, as the model that is taught reads them.
type school struct {
	encoder  *vlm.Encoder
	byTask   map[string][]*exercise
	pictures map[[sha256.Size]byte]*Picture
}

// An exercise is one row, which is encoded when it is first looked at.
type exercise struct {
	id       string
	messages []schemas.Message
	images   []schemas.Image
	read     bool
	task     task
}

// newSchool takes the rows. Every kind must be there.
func newSchool(r Rows, e *vlm.Encoder) (*school, error) {
	s := &school{e, map[string][]*exercise{}, map[[sha256.Size]byte]*Picture{}}
	for _, row := range r.Rewrites {
		s.byTask[row.Task] = append(s.byTask[row.Task], &exercise{id: row.ID, messages: row.Messages})
	}
	for _, row := range r.Vision {
		s.byTask[row.Task] = append(s.byTask[row.Task], &exercise{id: row.ID, messages: row.Messages, images: row.Images})
	}
	for _, kind := range []string{schemas.TaskRewrite, schemas.TaskEvaluation, schemas.TaskJudgment} {
		if len(s.byTask[kind]) == 0 {
			return nil, fmt.Errorf("train the vision-language model: the supervised set has no row of task %s", kind)
		}
	}
	return s, nil
}

// draw is a row of a kind by chance, of which what comes behind the words given counts; all, if none are given.
func (s *school) draw(kind string, after ...string) drawTask {
	of := s.byTask[kind]
	return func(_ context.Context, rng *rand.Rand) (task, error) {
		x := of[rng.IntN(len(of))]
		if !x.read {
			if err := s.read(x); err != nil {
				return task{}, fmt.Errorf("row %s: %w", x.id, err)
			}
		}
		t := x.task
		t.after = after
		return t, nil
	}
}

// read encodes a row as the model's folder says.
func (s *school) read(x *exercise) error {
	last := len(x.messages) - 1
	if last < 1 || x.messages[last].Role != schemas.RoleAssistant {
		return fmt.Errorf("%d messages, of which an assistant's is not the last", last+1)
	}
	messages, err := dataset.Conversation(x.messages[:last], x.images)
	if err != nil {
		return err
	}
	if x.task.prompt, _, err = s.encoder.Prompt(messages); err != nil {
		return err
	}
	x.task.answer = s.encoder.Answer(x.messages[last].Content)
	for _, img := range x.images {
		p, err := s.picture(img.Bytes)
		if err != nil {
			return err
		}
		x.task.pictures = append(x.task.pictures, p)
	}
	x.read = true
	return nil
}

// picture decodes a picture, once however many rows have it.
func (s *school) picture(data []byte) (*Picture, error) {
	sum := sha256.Sum256(data)
	if p := s.pictures[sum]; p != nil {
		return p, nil
	}
	img, err := scene.Decode(data)
	if err != nil {
		return nil, err
	}
	p := newPicture(img, "") // the statistics do not rest on the prompt
	s.pictures[sum] = &p
	return &p, nil
}
