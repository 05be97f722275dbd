package audit_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/audit"
	"github.com/promptmill/promptmill/transforms/judge"
	"github.com/promptmill/promptmill/transforms/ledger"
	"github.com/promptmill/promptmill/transforms/parquetio"
	"github.com/promptmill/promptmill/transforms/teacher"
	"github.com/promptmill/promptmill/transforms/template"
	"github.com/promptmill/promptmill/transforms/transformtest"
)

func init() {
	parquetio.Register[teacher.Item]()
	model.Register("test-vain", model.Backend{Chat: func(context.Context, model.Spec) (model.Chat, error) { return vain{}, nil }})
}

const mine = "Output for Image 1:\nScore: 4\nExplanation: my view.\nOutput for Image 2:\nScore: 2\nExplanation: my view."

// vain prefers its own answer, except about a fair text; about a mute one it says nothing of use.
type vain struct{}

func (vain) Info() model.Info { return model.Info{Name: "vain", Weights: "vain"} }

func (vain) Chat(_ context.Context, req model.ChatRequest) (model.ChatResponse, error) {
	calls.Add(1)
	text := req.Messages[len(req.Messages)-1].Parts[4].Text
	answer := mine
	if a, b, asked := strings.Cut(text, "\nAnswer B:\n"); asked {
		own, other := "5", "1"
		if strings.Contains(text, "Text: fair") {
			own, other = other, own
		}
		answer = "Answer A: " + other + "\nAnswer B: " + own
		if strings.Contains(a, mine) && !strings.Contains(b, mine) {
			answer = "Answer A: " + own + "\nAnswer B: " + other
		}
	} else if strings.Contains(text, "Text: mute") {
		answer = "I'm sorry, I can't."
	}
	return model.ChatResponse{Answers: []model.Answer{{Text: answer, Finish: model.FinishStop}}, Usage: model.Usage{Calls: 1}}, nil
}

// everyItem has one for each thing that vain does.
func everyItem() (in []teacher.Item) {
	for i, of := range []struct{ prompt, answer, teacher string }{
		{"first", "other", "teacher"},
		{"second", "another", "teacher"},
		{"fair", "better", "teacher"},
		{"third", "written before", "vain"},
		{"fourth", mine, "teacher"},
		{"mute", "said", "teacher"},
	} {
		in = append(in, teacher.Item{
			ID: fmt.Sprint(i), Aspect: schemas.Pick, Prompt: of.prompt, Teacher: of.teacher,
			Messages: []schemas.Message{{Role: schemas.RoleUser, Content: "?"}, {Role: schemas.RoleAssistant, Content: of.answer}},
			Image1:   schemas.ImageRef{SHA256: schemas.PromptID(of.prompt + "1")}, Image2: schemas.ImageRef{SHA256: schemas.PromptID(of.prompt + "2")},
		})
	}
	return in
}

func TestAnswersAreDeterministic(t *testing.T) {
	transformtest.Deterministic(t, func(cfg audit.Config, in []teacher.Item) (transformtest.Rows[audit.Observation], error) {
		return transformtest.Run[audit.Observation](transformtest.NoneDead(audit.Answers), cfg, in)
	}, config(t, "test-vain"), everyItem(), &calls, 0)
}

// The judge's own answer beside another's, in both orders; beside one that it wrote itself nothing is its own.
func TestAnswers(t *testing.T) {
	got := counted(t, audit.Answers, config(t, "test-vain"), everyItem())
	if err := ledger.Check(got, nil, []string{"audit_answers.in = 12", "audit_answers.out = 8", "audit_answers.filtered = 4"}); err != nil {
		t.Error(err)
	}
	a := audit.Summarise(ledger.Sum(got), "").Aspects[0]
	if d := cmp.Diff(audit.Contest{Won: 4, Lost: 2, Rate: 2. / 3}, a.Own); d != "" || a.Aspect != template.Judgment+schemas.Pick {
		t.Errorf("%s: %s", a.Aspect, d)
	}
	if d := cmp.Diff(judge.Orders{Same: 4}, a.Orders); d != "" {
		t.Error(d)
	}
	// The judge's own is the longer one each time.
	if a.Longer.Won != 6 || a.Longer.Lost != 2 {
		t.Errorf("longer %+v", a.Longer)
	}
}
