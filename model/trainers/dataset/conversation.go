package dataset

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/schemas"
)

// Turns splits a row into what is asked and the answers to it: the last message of a conversation, or the chosen and the
// rejected ones.
func (r Row) Turns() (prompt []schemas.Message, answers [][]schemas.Message) {
	if r.Preference {
		return r.Messages, [][]schemas.Message{r.Chosen, r.Rejected}
	}
	last := max(0, len(r.Messages)-1)
	return r.Messages[:last], [][]schemas.Message{r.Messages[last:]}
}

// Conversation is a row's messages as a model takes them: the pictures where the placeholders are, or all before the text
// of the first user message where there are none.
func Conversation(messages []schemas.Message, images []schemas.Image) ([]model.Message, error) {
	have := Placeholders(messages)
	if len(messages) == 0 || len(images) > 0 && have > 0 && have != len(images) {
		return nil, fmt.Errorf("%d messages with %d of %s for %d pictures", len(messages), have, Placeholder, len(images))
	}
	next := 0
	picture := func() model.Part {
		data := images[next].Bytes
		next++
		p := model.Picture{Bytes: func(context.Context) ([]byte, error) { return data, nil }}
		return model.Part{Picture: &p}
	}
	var out []model.Message
	for _, m := range messages {
		switch m.Role {
		case schemas.RoleSystem, schemas.RoleUser, schemas.RoleAssistant:
		default:
			return nil, fmt.Errorf("a message of role %q", m.Role)
		}
		c := model.Message{Role: m.Role}
		if have == 0 && m.Role == schemas.RoleUser {
			for next < len(images) {
				c.Parts = append(c.Parts, picture())
			}
		}
		texts := []string{m.Content}
		if have > 0 && len(images) > 0 {
			texts = strings.Split(m.Content, Placeholder)
		}
		for i, text := range texts {
			if i > 0 {
				c.Parts = append(c.Parts, picture())
			}
			if text != "" {
				c.Parts = append(c.Parts, model.Part{Text: text})
			}
		}
		out = append(out, c)
	}
	if next < len(images) {
		return nil, errors.New("pictures, but no user message to show them in")
	}
	return out, nil
}
