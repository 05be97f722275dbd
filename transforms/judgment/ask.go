package judgment

import (
	"context"
	"fmt"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/judge"
	"github.com/promptmill/promptmill/transforms/template"
)

// judged is what became of one pair.
type judged struct {
	pair Pair
	item Item // if reason is ""
	// reason is why the pair is left out, detail the text or error that led to it after so many attempts.
	reason, detail string
	attempts       int
	usage          model.Usage
}

// judge asks about one pair until an answer parses.
func (fn *judgeFn) judge(ctx context.Context, p Pair) (judged, error) {
	got := judged{pair: p}
	standard := schemas.AnswerA
	if schemas.Seed(fn.Config.Seed, "judgment.order", p.Standard.ID, 0)%2 == 1 {
		standard = schemas.AnswerB
	}
	messages, id := question(fn.Config.Questions, p, standard)
	r, asked, err := fn.desk.Asker.Insist(ctx, judge.Question{
		Messages: messages, Images: [2]string{p.Standard.Image1.SHA256, p.Standard.Image2.SHA256}, Template: id, Parse: judge.ParseAnswers,
	}, fn.Config.Attempts(), func(attempt int) int64 {
		return schemas.Seed(fn.Config.Seed, "judgment", p.Standard.ID, attempt*1000)
	})
	if err != nil {
		return got, fmt.Errorf("judgment: evaluation %s: %w", p.Standard.ID, err)
	}
	got.attempts, got.reason, got.detail, got.usage = asked, r.Fault, r.Detail, r.Usage
	if got.reason != "" {
		return got, nil
	}
	better, worse := r.Scores.First, r.Scores.Second
	if standard == schemas.AnswerB {
		better, worse = worse, better
	}
	switch {
	case better == worse:
		got.reason = Equal
	case better < worse:
		got.reason = NotBetter
	default:
		got.item = fn.item(p, standard, better, worse, r.Text, got.attempts-1)
	}
	return got, nil
}

// question is what a set's words ask about a pair, and the name of the wording. The question that the answers
// are to is the set's own.
func question(set template.Set, p Pair, standard string) ([]schemas.Message, string) {
	a, b := p.Standard.Answer(), p.Irrelevant.Answer()
	if standard == schemas.AnswerB {
		a, b = b, a
	}
	return set.AboutAnswers(p.Standard.Aspect, p.Standard.Prompt, a, b)
}
