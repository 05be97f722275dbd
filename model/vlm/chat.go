package vlm

import (
	"context"
	"fmt"
	"math"
	"strings"

	"github.com/promptmill/promptmill/model"
)

// The most tokens of an answer where neither the request nor the model says.
const defaultTokens = 512

// Chat answers a conversation. The N answers share the reading of the prompt; answer i depends on the request and
// Seed+i only. At temperature 0 all are one. A prompt that is too long, a conversation that the chat template
// refuses and sampling that makes no sense are model.ErrRejected, a picture that cannot be decoded is
// model.ErrBadPicture.
func (m *Model) Chat(ctx context.Context, req model.ChatRequest) (model.ChatResponse, error) {
	if err := check(req); err != nil {
		return model.ChatResponse{}, err
	}
	if err := ctx.Err(); err != nil {
		return model.ChatResponse{}, err
	}
	if req.Sampling.Temperature == 0 && m.options.Beams > 1 {
		return m.chatBeam(ctx, req)
	}
	p, jobs, err := m.enqueue(ctx, req)
	if err != nil {
		return model.ChatResponse{}, err
	}
	res := model.ChatResponse{Usage: model.Usage{Calls: 1, PromptTokens: len(p.ids), Device: m.decoder.session.Ran()}}
	for _, j := range jobs {
		select {
		case err := <-j.done:
			if err != nil {
				return model.ChatResponse{}, err
			}
		case <-ctx.Done(): // the lane finds out by itself
			return model.ChatResponse{}, ctx.Err()
		}
		for _, r := range j.rows {
			res.Answers = append(res.Answers, r.answer)
			res.Usage.CompletionTokens += r.drawn
		}
	}
	for len(res.Answers) < req.N {
		res.Answers = append(res.Answers, res.Answers[0])
	}
	return res, nil
}

// enqueue makes jobs of a request and puts them into the queue, which knows of them from the start.
func (m *Model) enqueue(ctx context.Context, req model.ChatRequest) (*prompt, []*job, error) {
	m.queue.coming.Add(1)
	defer m.queue.coming.Add(-1)
	p, err := m.newPrompt(ctx, req.Messages)
	if err != nil {
		return nil, nil, err
	}
	n := req.N
	if req.Sampling.Temperature == 0 {
		n = 1
	}
	jobs, err := m.jobs(ctx, p, req, n)
	for _, j := range jobs {
		m.queue.put(j)
	}
	return p, jobs, err
}

func check(req model.ChatRequest) error {
	s := req.Sampling
	switch {
	case len(req.Messages) == 0:
		return fmt.Errorf("%w: no messages", model.ErrRejected)
	case req.N < 1:
		return fmt.Errorf("%w: %d answers asked for", model.ErrRejected, req.N)
	case !(s.Temperature >= 0) || math.IsInf(s.Temperature, 0) || !(s.TopP >= 0 && s.TopP <= 1):
		return fmt.Errorf("%w: temperature %v, top_p %v", model.ErrRejected, s.Temperature, s.TopP)
	case s.MaxTokens < 0:
		return fmt.Errorf("%w: max_tokens %d", model.ErrRejected, s.MaxTokens)
	}
	return nil
}

// atMost is how many tokens an answer to p may have.
func (m *Model) atMost(p *prompt, asked int) int {
	most := asked
	if most == 0 {
		most = m.settings.newTokens
	}
	if most == 0 {
		most = defaultTokens
	}
	if m.settings.text.Context > 0 {
		most = min(most, m.settings.text.Context-len(p.ids))
	}
	return most
}

// jobs splits a request into what fits a lane.
func (m *Model) jobs(ctx context.Context, p *prompt, req model.ChatRequest, n int) ([]*job, error) {
	most := m.atMost(p, req.Sampling.MaxTokens)
	row := m.rowBytes(len(p.ids) + most)
	fit := min(int64(m.options.MaxBatch), m.options.CacheBytes/row)
	if fit < 1 {
		return nil, m.tooLarge(len(p.ids), most, row)
	}
	var jobs []*job
	for first := 0; first < n; first += int(fit) {
		j := &job{ctx: ctx, prompt: p, how: req.Sampling, most: most, done: make(chan error, 1)}
		for i := first; i < min(n, first+int(fit)); i++ {
			j.rows = append(j.rows, &answering{job: j, rng: p.chance(req.Seed + int64(i))})
		}
		j.open, j.bytes = len(j.rows), row*int64(len(j.rows))
		jobs = append(jobs, j)
	}
	return jobs, nil
}

// rowBytes is what a row takes at its end: the last cache and the one before.
func (m *Model) rowBytes(length int) int64 { return 2 * int64(length) * m.decoder.tokenBytes() }

func (m *Model) tooLarge(prompt, most int, bytes int64) error {
	return fmt.Errorf("%w: a prompt of %d tokens with an answer of up to %d takes %d bytes of the %d that cache_bytes allows; ask for fewer tokens or raise it",
		model.ErrRejected, prompt, most, bytes, m.options.CacheBytes)
}

// ends says whether an answer is over with its last token, and gives it then.
func (m *Model) ends(ids []int32, stops []string, most int) (model.Answer, bool) {
	last := ids[len(ids)-1]
	for _, id := range m.settings.eos {
		if last == id {
			return model.Answer{Text: m.tokens.Decode(ids[:len(ids)-1], true), Finish: model.FinishStop}, true
		}
	}
	if m.stopped(ids, stops) {
		text := m.tokens.Decode(ids, true)
		for _, stop := range stops {
			if stop != "" {
				text, _, _ = strings.Cut(text, stop)
			}
		}
		return model.Answer{Text: text, Finish: model.FinishStop}, true
	}
	if len(ids) >= most {
		return model.Answer{Text: m.tokens.Decode(ids, true), Finish: model.FinishLength}, true
	}
	return model.Answer{}, false
}

// stopped looks for a stop string in the end of an answer: what is before was looked at when it was the end.
func (m *Model) stopped(ids []int32, stops []string) bool {
	longest := 0
	for _, stop := range stops {
		longest = max(longest, len(stop))
	}
	if longest == 0 {
		return false
	}
	tail := m.tokens.Decode(ids[max(0, len(ids)-longest-1):], true)
	for _, stop := range stops {
		if stop != "" && strings.Contains(tail, stop) {
			return true
		}
	}
	return false
}
