package rewrite

import (
	"context"
	"fmt"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/deadletter"
)

// sampled is what became of one prompt.
type sampled struct {
	slate      schemas.Slate
	dead       []schemas.Rejected
	duplicates int
	usage      model.Usage
}

// A try is the present state of one requested answer.
type try struct {
	text string // cleaned; of use if reason is ""
	// reason, detail and attempts are the dead letter's, should this have been the last attempt.
	reason, detail string
	attempts       int
}

// sample asks for the candidates of p, and again for those of no use, until there is no attempt left.
func (fn *rewriteFn) sample(ctx context.Context, p schemas.Prompt) (sampled, error) {
	cfg := fn.Config
	var out sampled
	tries := make([]try, cfg.Candidates)
	missing := make([]int, cfg.Candidates)
	for i := range missing {
		missing[i] = i
	}
	req := model.ChatRequest{
		Sampling: model.Sampling{Temperature: cfg.Temperature, TopP: cfg.TopP, MaxTokens: cfg.MaxTokens},
		Template: cfg.Template.ID,
	}
	for _, m := range cfg.Template.Messages(p.Text) {
		req.Messages = append(req.Messages, model.Text(m.Role, m.Content))
	}
	for attempt := 0; len(missing) > 0 && attempt <= cfg.Retries+cfg.ExtraAttempts; attempt++ {
		req.N, req.Seed = len(missing), schemas.Seed(cfg.Seed, Stage, p.ID, attempt)
		resp, err := fn.policy.Chat(ctx, req)
		out.usage.Add(resp.Usage)
		if err != nil {
			reason, fatal := deadletter.Reason(ctx, err)
			if fatal != nil {
				return out, fmt.Errorf("rewrite: prompt %s: %w", p.ID, fatal)
			}
			for _, i := range missing {
				tries[i] = try{reason: reason, detail: err.Error(), attempts: attempt + 1}
			}
			break
		}
		var still []int
		for k, i := range missing {
			answer := resp.Answers[k]
			text, reason := cfg.candidate(p.Text, answer)
			tries[i] = try{text: text, reason: reason, detail: answer.Text, attempts: attempt + 1}
			if reason != "" {
				still = append(still, i)
			}
		}
		missing = still
	}
	out.slate = schemas.Slate{Prompt: p}
	seen := map[string]bool{}
	for i, t := range tries {
		switch {
		case t.reason != "":
			out.dead = append(out.dead, deadletter.Row(Stage, fmt.Sprintf("%s/%d", p.ID, i), t.reason, t.attempts, t.detail, p))
		case seen[t.text]:
			out.duplicates++
		default:
			seen[t.text] = true
			out.slate.Candidates = append(out.slate.Candidates, schemas.Candidate{
				ID: schemas.CandidateID(p.ID, t.text), PromptID: p.ID, Index: int32(i), Text: t.text,
				Policy: fn.policy.Info().Weights,
			})
		}
	}
	return out, nil
}

// candidate makes a candidate of an answer about a prompt, or gives the reason for which it is none.
func (c Config) candidate(prompt string, a model.Answer) (text, reason string) {
	switch a.Finish {
	case model.FinishLength:
		return "", CutOff
	case model.FinishFilter:
		return "", Refusal
	}
	text = Clean(a.Text)
	switch {
	case text == "":
		return "", Empty
	case refusal.MatchString(text):
		return "", Refusal
	}
	if c.Continues != "" {
		text = prompt + c.Continues + text
	}
	if ClipTokens(text) > c.MaxClipTokens {
		return "", TooLong
	}
	return text, ""
}
