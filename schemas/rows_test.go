package schemas_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/promptmill/promptmill/schemas"
)

func TestValidate(t *testing.T) {
	for _, row := range []schemas.Row{prompt, pair, candidate, judgment, reward, pref, visionPref, chat, visionChat, rejected, fact, evaluation, judging} {
		if err := row.Validate(); err != nil {
			t.Errorf("%T: %v", row, err)
		}
	}
	for _, tt := range []struct {
		row  schemas.Row
		want string
	}{
		{schemas.Prompt{Text: "x"}, "field id: empty"},
		{schemas.Prompt{ID: "p1", Text: "caf\xc3"}, "prompt p1: field text: not valid UTF-8"},
		{schemas.RewritePair{ID: "r1", Raw: "x"}, "pair r1: field rewritten: empty"},
		{with(candidate, func(r *schemas.Candidate) { r.Text = "" }), "candidate c1: field text: empty"},
		{with(candidate, func(r *schemas.Candidate) { r.Index = -1 }), "field index: -1 is less than 0"},
		{with(judgment, func(r *schemas.Judgment) { r.Aspect = "" }), "judgment j1: field aspect: empty"},
		{with(judgment, func(r *schemas.Judgment) { r.Score1 = math.NaN() }), "field score1: NaN is not a number"},
		{with(reward, func(r *schemas.Reward) { r.Total = 5 }), "reward c1: field total: 5 is not the sum of the aspects, 4.5"},
		{with(reward, func(r *schemas.Reward) { r.Samples = 0 }), "field samples: 0 is less than 1"},
		{with(pref, func(r *schemas.PreferencePair) { r.Rejected = slices.Clone(good) }), "preference x1: field rejected: equal to chosen"},
		{with(pref, func(r *schemas.PreferencePair) { r.Margin = 0 }), "field margin: 0 is not positive"},
		{with(pref, func(r *schemas.PreferencePair) { r.Margin = 2 }), "field margin: 2 is not chosen_score - rejected_score, 3"},
		{with(pref, func(r *schemas.PreferencePair) { r.Chosen = nil }), "field chosen: no messages"},
		{with(pref, func(r *schemas.PreferencePair) { r.Chosen = []schemas.Message{{Role: schemas.RoleAssistant}} }), "field chosen: message 0: empty content"},
		{with(pref, func(r *schemas.PreferencePair) { r.Prompt = good }), `field prompt: the last role is "assistant", not "user"`},
		{with(pref, func(r *schemas.PreferencePair) { r.Prompt = []schemas.Message{{Role: "human", Content: "x"}} }), `field prompt: "human" is not one of`},
		{with(pref, func(r *schemas.PreferencePair) { r.Prompt = slices.Concat(question, question) }), "message 2: a system message after the first"},
		{with(visionPref, func(r *schemas.VisionPreferencePair) { r.Images = []schemas.Image{{Path: "a.png"}} }), "preference x1: field images: image 0: no bytes"},
		{with(chat, func(r *schemas.ChatExample) { r.Messages = good }), "example e1: field messages: no user message"},
		{with(chat, func(r *schemas.ChatExample) { r.Task = "chat" }), `field task: "chat" is not one of`},
		{with(visionChat, func(r *schemas.VisionChatExample) { r.Messages = question }), `field messages: the last role is "user", not "assistant"`},
		{with(rejected, func(r *schemas.Rejected) { r.Reason = "" }), "rejected judge/p1: field reason: empty"},
	} {
		err := tt.row.Validate()
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%T: got %v, want %q", tt.row, err, tt.want)
		}
	}
}

func TestValidateJoinsFaults(t *testing.T) {
	err := schemas.Judgment{}.Validate()
	for _, field := range []string{"id", "prompt_id", "candidate_id", "aspect", "answer"} {
		if err == nil || !strings.Contains(err.Error(), "field "+field+":") {
			t.Errorf("no fault for %s in %v", field, err)
		}
	}
}

func TestIDs(t *testing.T) {
	seen := map[string]int{}
	for i, id := range []string{
		schemas.PromptID("ab"), schemas.PairID("a", "b"), schemas.PairID("", "ab"), schemas.CandidateID("a", "b"),
		schemas.JudgmentID("a", "b", schemas.Pick, 0), schemas.JudgmentID("a", "b", schemas.Pick, 1), schemas.JudgmentID("ab", "", schemas.Pick, 0),
		schemas.PreferenceID(schemas.KindRewrite, "p", good, bad), schemas.PreferenceID(schemas.KindRewrite, "p", bad, good),
		schemas.PreferenceID(schemas.KindRewrite, "p", slices.Concat(good, bad), nil), schemas.PreferenceID(schemas.KindJudgment, "p", good, bad),
		schemas.ExampleID(schemas.TaskRewrite, question), schemas.ExampleID(schemas.TaskJudgment, question),
		schemas.ExampleID(schemas.TaskJudgment, question, picture), schemas.ExampleID(schemas.TaskJudgment, question, picture, picture),
	} {
		if j, ok := seen[id]; ok {
			t.Errorf("ids %d and %d are equal", i, j)
		}
		seen[id] = i
		if len(id) != 32 {
			t.Errorf("id %d: %q", i, id)
		}
	}
	if a, b := schemas.ExampleID("t", question, picture), schemas.ExampleID("t", question, schemas.Image{Bytes: picture.Bytes}); a != b {
		t.Error("the path of a picture is part of an id")
	}
}

func TestRowKey(t *testing.T) {
	same := with(chat, func(r *schemas.ChatExample) {
		r.ID, r.Source, r.Messages = "e2", "other", slices.Concat(question[1:], bad)
	})
	if same.RowKey() != chat.RowKey() {
		t.Error("two answers to one question have two keys")
	}
	task := with(chat, func(r *schemas.ChatExample) { r.Task = schemas.TaskJudgment })
	if task.RowKey() == chat.RowKey() {
		t.Error("two tasks share a key")
	}
	other := with(visionChat, func(r *schemas.VisionChatExample) { r.Images = []schemas.Image{{Bytes: []byte("other")}} })
	if other.RowKey() == visionChat.RowKey() {
		t.Error("one question about two pictures has one key")
	}
	if a, b := (schemas.Prompt{Source: "a", SourceID: "bc"}), (schemas.Prompt{Source: "ab", SourceID: "c"}); a.RowTie() == b.RowTie() {
		t.Error("the parts of a tie run together")
	}
}

func TestPermille(t *testing.T) {
	var parts [10]int
	for i := range 10_000 {
		p := schemas.Permille(7, strings.Repeat("k", i))
		if p < 0 || p > 999 {
			t.Fatal(p)
		}
		parts[p/100]++
	}
	for i, n := range parts {
		if n < 880 || n > 1120 { // 4 standard deviations
			t.Errorf("part %d has %d of 10000 keys", i, n)
		}
	}
}
