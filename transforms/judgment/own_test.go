package judgment_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/judgment"
	"github.com/promptmill/promptmill/transforms/ledger"
	"github.com/promptmill/promptmill/transforms/teacher"
	"github.com/promptmill/promptmill/transforms/transformtest"
)

// critic scores two pictures as the prompt's last word says.
type critic struct{}

func (critic) Info() model.Info { return model.Info{Name: "critic", Weights: "critic"} }

func (critic) Chat(_ context.Context, req model.ChatRequest) (model.ChatResponse, error) {
	calls.Add(1)
	text := req.Messages[0].Parts[4].Text
	first, second := 4, 1
	answer := model.Answer{Finish: model.FinishStop}
	switch {
	case strings.Contains(text, "says second"):
		first, second = second, first
	case strings.Contains(text, "says equal"):
		first = second
	case strings.Contains(text, "says nothing"):
		answer.Finish = model.FinishLength
	}
	answer.Text = fmt.Sprintf("Output for Image 1:\nScore: %d\nExplanation: so.\nOutput for Image 2:\nScore: %d\nExplanation: so.", first, second)
	return model.ChatResponse{Answers: []model.Answer{answer}, Usage: model.Usage{Calls: 1}}, nil
}

func init() {
	transformtest.Register[teacher.Item]()
	transformtest.Register[judgment.Pair]()
	model.Register("test-critic", model.Backend{Chat: func(context.Context, model.Spec) (model.Chat, error) { return critic{}, nil }})
}

// saidFacts are facts about which the critic says what their prompts say.
func saidFacts() (facts []schemas.Fact) {
	add := func(says, preference string) {
		it := item(len(facts), fmt.Sprintf("picture %d says %s", len(facts), says))
		facts = append(facts, schemas.Fact{
			ID: it.FactID, Group: it.Group, Source: "test", Aspect: []string{schemas.Pick, schemas.Alignment}[len(facts)%2], Prompt: it.Prompt,
			First: it.Image1, Second: it.Image2, Preference: preference, FactSource: schemas.FactHuman,
		})
	}
	for range 4 {
		add("first", schemas.First)
		add("first", schemas.First)
		add("second", schemas.Second)
		add("second", schemas.First)
	}
	add("equal", schemas.First)
	add("nothing", schemas.Second)
	add("first", schemas.Tie)
	return facts
}

func ownConfig(t testing.TB) judgment.Config {
	cfg := config(t)
	cfg.Model = model.Spec{Backend: "test-critic"}
	cfg.Aspects = []string{schemas.Pick, schemas.Alignment}
	return cfg
}

func TestOwnIsDeterministic(t *testing.T) {
	transformtest.Deterministic(t, func(cfg judgment.Config, in []schemas.Fact) (transformtest.Rows[teacher.Item], error) {
		return transformtest.Run[teacher.Item](transformtest.NoneDead(judgment.Own), cfg, in)
	}, ownConfig(t), saidFacts(), &calls, 0)
}

// Answers that agree with what people said are standard answers, and each meets one about other pictures.
func TestOwn(t *testing.T) {
	cfg := ownConfig(t)
	p, s := beam.NewPipelineWithRoot()
	items, n1 := judgment.Own(s, cfg, beam.Reshuffle(s, beam.CreateList(s, saidFacts())))
	pairs, n2 := judgment.PairsOf(s, cfg.Seed, items)
	gotItems, gotPairs := transformtest.Collect[teacher.Item](s, items), transformtest.Collect[judgment.Pair](s, pairs)
	gotCounts := transformtest.Collect[schemas.Count](s, beam.Flatten(s, n1, n2))
	if err := ptest.Run(p); err != nil {
		t.Fatal(err)
	}
	if err := ledger.Check(gotCounts(), nil, []string{"own_answers.in = 19", "own_answers.out = 12", "judgment_pairs.in = own_answers.out", "judgment_pairs.out = 12"}); err != nil {
		t.Error(err)
	}
	for reason, n := range map[string]int64{judgment.Contradicts: 5, judgment.NoPreference: 1, "truncated": 1} {
		if want := (schemas.Count{Stage: judgment.StageOwn, Outcome: schemas.Filtered, Reason: reason, N: n}); !slices.Contains(ledger.Sum(gotCounts()), want) {
			t.Errorf("no %+v in %+v", want, ledger.Sum(gotCounts()))
		}
	}
	for _, it := range gotItems() {
		if err := it.Validate(); err != nil || it.Teacher != "critic" || (it.Score1 > it.Score2) != (it.Preference == schemas.First) {
			t.Errorf("%+v: %v", it, err)
		}
	}
	for _, pair := range gotPairs() {
		if pair.Standard.Aspect != pair.Irrelevant.Aspect || pair.Standard.Image1 == pair.Irrelevant.Image1 {
			t.Errorf("%+v", pair)
		}
	}
}
