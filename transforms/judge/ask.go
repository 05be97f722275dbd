package judge

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/responselog"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/deadletter"
)

// An Asker puts questions about two pictures to a model, through the response log. It is safe for
// concurrent use.
type Asker struct {
	chat     model.Chat
	pictures *responselog.PictureLog
	sampling model.Sampling
}

// openAsker opens the model and the response log, whose store has the pictures.
func openAsker(ctx context.Context, a Asking) (*Asker, error) {
	log, err := responselog.Open(ctx, a.Cache)
	if err != nil {
		return nil, err
	}
	chat, err := model.OpenChat(ctx, a.Model)
	if err != nil {
		return nil, err
	}
	return &Asker{
		chat: responselog.Chat(chat, log), pictures: responselog.Pictures(nil, log, model.PictureLimits{}), // reads pictures only
		sampling: model.Sampling{Temperature: a.Temperature, TopP: a.TopP, MaxTokens: a.MaxTokens},
	}, nil
}

// Weights is the identity of the model.
func (a *Asker) Weights() string { return a.chat.Info().Weights }

// A Question is put about two pictures.
type Question struct {
	// Messages are the words. The pictures, named by their SHA-256, come before those of the user, under the
	// labels Image 1 and Image 2.
	Messages []schemas.Message
	Images   [2]string
	// Template names the wording in the response log.
	Template string
	Seed     int64
	// Parse is ParseImages or ParseAnswers.
	Parse func(string) (Scores, error)
}

// A Reply is one answer, read.
type Reply struct {
	// Text is the answer as it came, in UTF-8.
	Text   string
	Scores Scores
	// Fault is "" for an answer of use; else a Fault, or, of a request that got no answer, a reason of package
	// deadletter, which Detail explains.
	Fault, Detail string
	Usage         model.Usage
}

// Unanswered says that no answer came: asking again with another seed is pointless.
func (r Reply) Unanswered() bool {
	return r.Fault == deadletter.Rejected || r.Fault == deadletter.Unavailable
}

// Ask asks once. The error is one for which the bundle must fail.
func (a *Asker) Ask(ctx context.Context, q Question) (Reply, error) {
	first, second := a.pictures.Picture(q.Images[0]), a.pictures.Picture(q.Images[1])
	req := a.request(q.Template, q.Messages, &first, &second)
	req.N, req.Seed = 1, q.Seed
	resp, err := a.chat.Chat(ctx, req)
	if err != nil {
		reason, fatal := deadletter.Reason(ctx, err)
		if fatal != nil {
			return Reply{Usage: resp.Usage}, fmt.Errorf("template %s: %w", q.Template, fatal)
		}
		return Reply{Fault: reason, Detail: err.Error(), Usage: resp.Usage}, nil
	}
	r := readReply(resp.Answers[0], q.Parse)
	r.Usage = resp.Usage
	return r, nil
}

// request puts messages about two pictures, which come before the user's words under their labels. How many answers
// there are to be and the seed are left to the caller.
func (a *Asker) request(template string, messages []schemas.Message, first, second *model.Picture) model.ChatRequest {
	req := model.ChatRequest{Sampling: a.sampling, Template: template, Messages: make([]model.Message, 0, len(messages))}
	for _, m := range messages {
		msg := model.Text(m.Role, m.Content)
		if m.Role == schemas.RoleUser {
			msg.Parts = []model.Part{{Text: "Image 1:"}, {Picture: first}, {Text: "Image 2:"}, {Picture: second}, {Text: m.Content}}
		}
		req.Messages = append(req.Messages, msg)
	}
	return req
}

// Insist asks until an answer is of use, or the model gives none at all: attempts times at most, each time
// with the seed of that attempt, counted from 0. The reply is the last one, its Usage that of all; asked is how
// often it asked.
func (a *Asker) Insist(ctx context.Context, q Question, attempts int, seed func(attempt int) int64) (r Reply, asked int, err error) {
	var usage model.Usage
	for asked < attempts {
		q.Seed = seed(asked)
		r, err = a.Ask(ctx, q)
		asked++
		usage.Add(r.Usage)
		if err != nil || r.Fault == "" || r.Unanswered() {
			break
		}
	}
	r.Usage = usage
	return r, asked, err
}

// readReply reads an answer. One that was cut off is not used even where its scores are there: it would be
// training data later on.
func readReply(a model.Answer, parse func(string) (Scores, error)) Reply {
	text := strings.ToValidUTF8(a.Text, "\uFFFD") // Parquet's strings are UTF-8
	r := Reply{Text: text, Detail: text}
	var err error
	switch a.Finish {
	case model.FinishLength:
		err = Truncated
	case model.FinishFilter:
		err = Refusal
	default:
		r.Scores, err = parse(a.Text)
	}
	var f Fault
	if errors.As(err, &f) {
		r.Fault = string(f)
	}
	return r
}
