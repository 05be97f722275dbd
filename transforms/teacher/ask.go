package teacher

import (
	"context"
	"fmt"
	"slices"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/judge"
	"github.com/promptmill/promptmill/transforms/template"
)

// taught is what became of one fact.
type taught struct {
	fact schemas.Fact
	item Item // if reason is ""
	// reason is why the fact is left out, detail the text or error that led to it after so many attempts.
	reason, detail string
	attempts       int
	// answers are the fates of the answers asked for with a cue in this order: "" is kept.
	answers []string
	order   string
	// bias is what the two orders say together, "" if only one was asked.
	bias  string
	usage model.Usage
}

// teach asks about one fact.
func (fn *teachFn) teach(ctx context.Context, f schemas.Fact) (taught, error) {
	got := taught{fact: f, order: schemas.AsIs}
	if schemas.Seed(fn.Config.Seed, "teacher.order", f.ID, 0)%2 == 1 {
		got.order = schemas.Swapped
	}
	var err error
	switch {
	case !slices.Contains(fn.Config.Aspects, f.Aspect):
		got.reason = OtherAspect
	case f.Preference == schemas.Tie:
		got.reason = Tie
	case f.Preference == schemas.NoPreference:
		err = fn.compare(ctx, &got)
	default:
		err = fn.cued(ctx, &got)
	}
	if err != nil {
		return got, fmt.Errorf("teacher: fact %s: %w", f.ID, err)
	}
	return got, nil
}

// cued asks about a fact with a preference until an answer can be kept.
func (fn *teachFn) cued(ctx context.Context, got *taught) error {
	f := got.fact
	var firstReply judge.Reply
	for attempt := range fn.Config.Attempts() {
		r, cue, err := fn.ask(ctx, got, got.order, attempt)
		if err != nil {
			return err
		}
		if attempt == 0 {
			firstReply = r
		}
		got.attempts, got.reason, got.detail = attempt+1, fate(f, got.order, r, cue), r.Detail
		got.answers = append(got.answers, got.reason)
		if got.reason == "" {
			got.item = fn.item(f, got.order, r, attempt)
		}
		if got.reason == "" || r.Unanswered() {
			break
		}
	}
	if float64(schemas.Seed(fn.Config.Seed, "teacher.both", f.ID, 0)) >= fn.Config.BothOrders*(1<<31) {
		return nil
	}
	other, _, err := fn.ask(ctx, got, turned(got.order), 0)
	if err != nil {
		return err
	}
	got.bias = together(firstReply, other)
	return nil
}

// compare asks about a fact without a preference in both orders.
func (fn *teachFn) compare(ctx context.Context, got *taught) error {
	var replies [2]judge.Reply
	var attempts [2]int
	for i, order := range []string{got.order, turned(got.order)} {
		for attempt := range fn.Config.Attempts() {
			r, _, err := fn.ask(ctx, got, order, attempt)
			if err != nil {
				return err
			}
			replies[i], attempts[i] = r, attempt
			if r.Fault == "" || r.Unanswered() {
				break
			}
		}
		if r := replies[i]; r.Fault != "" {
			got.reason, got.detail, got.attempts = r.Fault, r.Detail, attempts[i]+1
			return nil
		}
	}
	got.bias = together(replies[0], replies[1])
	switch got.bias {
	case judge.Same:
		got.item = fn.item(got.fact, got.order, replies[0], attempts[0])
	case judge.Undecided:
		got.reason = Equal
	default:
		got.reason = Disagrees
	}
	return nil
}

// ask puts the question once; cue is the text of the cue, "" without a preference.
func (fn *teachFn) ask(ctx context.Context, got *taught, order string, attempt int) (r judge.Reply, cue string, err error) {
	f := got.fact
	question, _ := fn.Config.Questions.Task(f.Aspect) // Validate saw to it
	messages, id := question.Messages(f.Prompt), question.ID
	if f.Preference != schemas.NoPreference {
		t, _ := fn.Config.Questions.Task(template.Teacher + f.Aspect)
		better := "Image 1"
		if (f.Preference == schemas.First) == (order == schemas.Swapped) {
			better = "Image 2"
		}
		filled := t.Fill(template.Placeholder, f.Prompt, template.Better, better)
		cue, id = filled[len(filled)-1].Content, t.ID
		messages[len(messages)-1].Content += "\n\n" + cue
	}
	first, second := shown(f, order)
	r, err = fn.desk.Asker.Ask(ctx, judge.Question{
		Messages: messages, Images: [2]string{first.SHA256, second.SHA256}, Template: id,
		Seed: schemas.Seed(fn.Config.Seed, "teacher/"+order, f.ID, attempt*1000), Parse: judge.ParseImages,
	})
	got.usage.Add(r.Usage)
	return r, cue, err
}

// shown are Image 1 and Image 2 in that order.
func shown(f schemas.Fact, order string) (first, second schemas.ImageRef) {
	if order == schemas.Swapped {
		return f.Second, f.First
	}
	return f.First, f.Second
}

func turned(order string) string {
	if order == schemas.AsIs {
		return schemas.Swapped
	}
	return schemas.AsIs
}

// fate says why an answer cannot be kept, or "".
func fate(f schemas.Fact, order string, r judge.Reply, cue string) string {
	first, second := r.Scores.First, r.Scores.Second
	if order == schemas.Swapped {
		first, second = second, first
	}
	switch {
	case r.Fault != "":
		return r.Fault
	case leaks(r.Text, cue):
		return Leak
	case first == second:
		return Equal
	case (first > second) != (f.Preference == schemas.First):
		return Contradicts
	}
	return ""
}

// together says what answers in the two orders have in common.
func together(one, other judge.Reply) string {
	if one.Fault != "" || other.Fault != "" {
		return judge.Unread
	}
	return judge.BothOrders(one.Scores.First-one.Scores.Second, other.Scores.First-other.Scores.Second)
}
