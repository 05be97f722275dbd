package judge

import (
	"context"
	"fmt"
	"sync"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/async"
	"github.com/promptmill/promptmill/transforms/deadletter"
)

// judged is what became of one slate.
type judged struct {
	slate schemas.Slate
	dead  []schemas.Rejected
	asked int // samples
	usage model.Usage
}

// A question is what is asked about every candidate of a slate on one aspect.
type question struct {
	aspect, template string
	messages         []schemas.Message
}

// An item is one candidate on one aspect, with what was answered.
type item struct {
	*question
	candidate *schemas.Candidate
	picture   *model.Picture // the candidate's

	judgments []schemas.Judgment
	dead      []schemas.Rejected
	usage     model.Usage
}

// score has the slate's candidates judged on all aspects, all at once.
func (fn *judgeFn) score(ctx context.Context, slate schemas.Slate) (judged, error) {
	aspects := fn.Config.Aspects
	questions := make([]question, len(aspects))
	for i, a := range aspects {
		t, _ := fn.Config.Templates.Task(a) // Validate saw to it
		questions[i] = question{aspect: a, template: t.ID, messages: t.Messages(slate.Prompt.Text)}
	}
	items := make([]item, 0, len(slate.Candidates)*len(aspects))
	for i := range slate.Candidates {
		c := &slate.Candidates[i]
		if c.Image.SHA256 == "" {
			continue
		}
		picture := shared(fn.desk.Asker.pictures.Picture(c.Image.SHA256), len(aspects))
		for j := range questions {
			items = append(items, item{candidate: c, picture: picture, question: &questions[j]})
		}
	}
	slate.Judgments = nil
	raw := shared(fn.desk.Asker.pictures.Picture(slate.Raw.SHA256), len(items))
	out := judged{slate: slate, asked: len(items) * fn.Config.Samples}
	err := async.Each(ctx, len(items), func(ctx context.Context, i int) error {
		return fn.ask(ctx, slate, raw, &items[i])
	})
	if err != nil {
		return out, fmt.Errorf("judge: prompt %s: %w", slate.Prompt.ID, err)
	}
	for _, it := range items {
		out.slate.Judgments = append(out.slate.Judgments, it.judgments...)
		out.dead = append(out.dead, it.dead...)
		out.usage.Add(it.usage)
	}
	return out, nil
}

// shared is p, read once for the readers that are expected: the raw prompt's picture is in every request
// about a slate, a candidate's in one for each aspect. Then it is let go; who asks again reads again.
func shared(p model.Picture, readers int) *model.Picture {
	var mu sync.Mutex
	var data []byte
	return &model.Picture{SHA256: p.SHA256, Bytes: func(ctx context.Context) ([]byte, error) {
		mu.Lock()
		defer mu.Unlock()
		got := data
		if got == nil {
			var err error
			if got, err = p.Bytes(ctx); err != nil {
				return nil, err
			}
		}
		if readers--; readers > 0 {
			data = got
		} else {
			data = nil
		}
		return got, nil
	}}
}

// A try is the present state of one requested sample.
type try struct {
	scores Scores
	answer string
	// reason is "" for a sample of use; else it and detail are the dead letter's, should no attempt follow.
	reason, detail string
	attempt        int
}

// ask asks for the samples of it, and again for those that do not parse, until no attempt is left.
func (fn *judgeFn) ask(ctx context.Context, slate schemas.Slate, raw *model.Picture, it *item) error {
	cfg, asker := fn.Config, fn.desk.Asker
	req := asker.request(it.template, it.messages, raw, it.picture)
	tries := make([]try, cfg.Samples)
	it.judgments = make([]schemas.Judgment, 0, cfg.Samples)
	missing := make([]int, cfg.Samples)
	for i := range missing {
		missing[i] = i
	}
	for attempt := 0; len(missing) > 0 && attempt < cfg.Attempts(); attempt++ {
		req.N = len(missing)
		req.Seed = schemas.Seed(cfg.Seed, "judge/"+it.aspect, it.candidate.ID, attempt*1000)
		resp, err := asker.chat.Chat(ctx, req)
		it.usage.Add(resp.Usage)
		if err != nil {
			reason, fatal := deadletter.Reason(ctx, err)
			if fatal != nil {
				return fmt.Errorf("candidate %s, %s: %w", it.candidate.ID, it.aspect, fatal)
			}
			for _, i := range missing {
				tries[i] = try{reason: reason, detail: err.Error(), attempt: attempt}
			}
			break
		}
		var still []int
		for k, i := range missing {
			tries[i] = read(resp.Answers[k], attempt)
			if tries[i].reason != "" {
				still = append(still, i)
			}
		}
		missing = still
	}
	for i, t := range tries {
		if t.reason != "" {
			key := fmt.Sprintf("%s/%s/%d", it.candidate.ID, it.aspect, i)
			it.dead = append(it.dead, deadletter.Row(Stage, key, t.reason, t.attempt+1, t.detail, slate.Prompt))
			continue
		}
		sample := int32(len(it.judgments))
		it.judgments = append(it.judgments, schemas.Judgment{
			ID:       schemas.JudgmentID(slate.Prompt.ID, it.candidate.ID, it.aspect, sample),
			PromptID: slate.Prompt.ID, CandidateID: it.candidate.ID, Aspect: it.aspect, Sample: sample,
			Image1: slate.Raw.SHA256, Image2: it.candidate.Image.SHA256,
			Score1: t.scores.First, Score2: t.scores.Second, Decimal: t.scores.Decimal, Answer: t.answer,
			Template: req.Template, Judge: asker.Weights(), Attempt: int32(t.attempt),
		})
	}
	return nil
}

// read takes the scores from an answer.
func read(a model.Answer, attempt int) try {
	r := readReply(a, ParseImages)
	return try{scores: r.Scores, answer: r.Text, reason: r.Fault, detail: r.Detail, attempt: attempt}
}
