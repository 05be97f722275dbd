package schemas

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"
)

// faults gathers what is wrong with one row; row is its kind and id.
type faults struct {
	row  string
	errs []error
}

func faultsOf(kind, id string) *faults {
	f := &faults{row: kind + " " + id}
	f.text("id", id)
	return f
}

func (f *faults) add(field, format string, args ...any) {
	f.errs = append(f.errs, fmt.Errorf("%s: field %s: %s", f.row, field, fmt.Sprintf(format, args...)))
}

// text wants valid, non-empty UTF-8.
func (f *faults) text(field, s string) {
	if s == "" {
		f.add(field, "empty")
	}
	f.utf8(field, s)
}

func (f *faults) utf8(field, s string) {
	if !utf8.ValidString(s) {
		f.add(field, "not valid UTF-8")
	}
}

func (f *faults) oneOf(field, s string, allowed ...string) {
	if !slices.Contains(allowed, s) {
		f.add(field, "%q is not one of %q", s, allowed)
	}
}

func (f *faults) atLeast(field string, n, least int64) {
	if n < least {
		f.add(field, "%d is less than %d", n, least)
	}
}

func (f *faults) finite(field string, x float64) {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		f.add(field, "%v is not a number", x)
	}
}

// messages wants a conversation that ends with a turn of the given role, a system message only at its
// start, and something said in every turn.
func (f *faults) messages(field string, messages []Message, last string) {
	if len(messages) == 0 {
		f.add(field, "no messages")
		return
	}
	for i, m := range messages {
		f.oneOf(field, m.Role, RoleSystem, RoleUser, RoleAssistant)
		if m.Role == RoleSystem && i > 0 {
			f.add(field, "message %d: a system message after the first", i)
		}
		if m.Content == "" {
			f.add(field, "message %d: empty content", i)
		}
		f.utf8(field, m.Content)
	}
	if role := messages[len(messages)-1].Role; role != last {
		f.add(field, "the last role is %q, not %q", role, last)
	}
}

func (f *faults) images(field string, images []Image) {
	for i, m := range images {
		if len(m.Bytes) == 0 {
			f.add(field, "image %d: no bytes", i)
		}
		f.utf8(field, m.Path)
	}
}

func (f *faults) err() error { return errors.Join(f.errs...) }

// Validate wants an id and a text.
func (r Prompt) Validate() error {
	f := faultsOf("prompt", r.ID)
	f.text("text", r.Text)
	f.utf8("source", r.Source)
	f.utf8("source_id", r.SourceID)
	return f.err()
}

// Validate wants an id and both texts.
func (r RewritePair) Validate() error {
	f := faultsOf("pair", r.ID)
	f.text("raw", r.Raw)
	f.text("rewritten", r.Rewritten)
	f.utf8("source", r.Source)
	f.utf8("source_id", r.SourceID)
	return f.err()
}

// Validate wants ids and a text; the picture may be missing.
func (r Candidate) Validate() error {
	f := faultsOf("candidate", r.ID)
	f.text("prompt_id", r.PromptID)
	f.text("text", r.Text)
	f.atLeast("index", int64(r.Index), 0)
	f.utf8("policy", r.Policy)
	f.utf8("image", r.Image.SHA256)
	return f.err()
}

// Validate wants ids, an aspect and finite scores.
func (r Judgment) Validate() error {
	f := faultsOf("judgment", r.ID)
	f.text("prompt_id", r.PromptID)
	f.text("candidate_id", r.CandidateID)
	f.text("aspect", r.Aspect)
	f.atLeast("sample", int64(r.Sample), 0)
	f.utf8("image1", r.Image1)
	f.utf8("image2", r.Image2)
	f.finite("score1", r.Score1)
	f.finite("score2", r.Score2)
	f.text("answer", r.Answer)
	f.utf8("template", r.Template)
	f.utf8("judge", r.Judge)
	return f.err()
}

// Validate wants ids, finite scores and a Total that is the sum of the aspects.
func (r Reward) Validate() error {
	f := faultsOf("reward", r.CandidateID)
	f.text("prompt_id", r.PromptID)
	var sum float64
	for _, a := range []struct {
		name  string
		score *float64
	}{{Aesthetic, r.Aesthetic}, {Pick, r.Pick}, {Alignment, r.Alignment}} {
		if a.score != nil {
			f.finite(a.name, *a.score)
			sum += *a.score
		}
	}
	f.finite("total", r.Total)
	if !near(sum, r.Total) {
		f.add("total", "%v is not the sum of the aspects, %v", r.Total, sum)
	}
	f.atLeast("samples", int64(r.Samples), 1)
	return f.err()
}

// Validate wants a prompt that ends with the user's turn, two answers that differ, and a margin that
// is positive and the difference of the scores.
func (r PreferencePair) Validate() error {
	f := faultsOf("preference", r.ID)
	f.oneOf("kind", r.Kind, KindRewrite, KindJudgment)
	f.text("prompt_id", r.PromptID)
	f.messages("prompt", r.Prompt, RoleUser)
	f.messages("chosen", r.Chosen, RoleAssistant)
	f.messages("rejected", r.Rejected, RoleAssistant)
	if slices.Equal(r.Chosen, r.Rejected) {
		f.add("rejected", "equal to chosen")
	}
	f.utf8("chosen_id", r.ChosenID)
	f.utf8("rejected_id", r.RejectedID)
	f.finite("chosen_score", r.ChosenScore)
	f.finite("rejected_score", r.RejectedScore)
	if !(r.Margin > 0) {
		f.add("margin", "%v is not positive", r.Margin)
	}
	if diff := r.ChosenScore - r.RejectedScore; !near(r.Margin, diff) {
		f.add("margin", "%v is not chosen_score - rejected_score, %v", r.Margin, diff)
	}
	f.utf8("policy", r.Policy)
	f.utf8("judge", r.Judge)
	return f.err()
}

// Validate wants what PreferencePair wants, and bytes in every picture.
func (r VisionPreferencePair) Validate() error {
	f := &faults{row: "preference " + r.ID}
	f.images("images", r.Images)
	text := PreferencePair{
		ID: r.ID, Kind: r.Kind, PromptID: r.PromptID, Prompt: r.Prompt, Chosen: r.Chosen, Rejected: r.Rejected,
		ChosenID: r.ChosenID, RejectedID: r.RejectedID, ChosenScore: r.ChosenScore, RejectedScore: r.RejectedScore,
		Margin: r.Margin, Policy: r.Policy, Judge: r.Judge,
	}
	return errors.Join(text.Validate(), f.err())
}

// Validate wants a task and messages with a user's turn that end with the assistant's.
func (r ChatExample) Validate() error {
	f := faultsOf("example", r.ID)
	f.oneOf("task", r.Task, TaskRewrite, TaskEvaluation, TaskJudgment)
	f.messages("messages", r.Messages, RoleAssistant)
	if !slices.ContainsFunc(r.Messages, func(m Message) bool { return m.Role == RoleUser }) {
		f.add("messages", "no user message")
	}
	f.utf8("source", r.Source)
	f.utf8("source_id", r.SourceID)
	return f.err()
}

// Validate wants what ChatExample wants, and bytes in every picture.
func (r VisionChatExample) Validate() error {
	f := &faults{row: "example " + r.ID}
	f.images("images", r.Images)
	text := ChatExample{ID: r.ID, Task: r.Task, Messages: r.Messages, Source: r.Source, SourceID: r.SourceID}
	return errors.Join(text.Validate(), f.err())
}

// Validate wants to know where and why. Detail and Payload are whatever was met, bytes that are not
// UTF-8 included.
func (r Rejected) Validate() error {
	f := &faults{row: "rejected " + r.Stage + "/" + r.Key}
	f.text("stage", r.Stage)
	f.text("reason", r.Reason)
	f.atLeast("attempts", int64(r.Attempts), 0)
	return f.err()
}

// near allows for sums of scores taken in another order.
func near(a, b float64) bool { return math.Abs(a-b) < 1e-6 }
