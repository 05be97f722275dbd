package vlm

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/promptmill/promptmill/model"
)

// A BeamSearch says how to look for likely answers.
type BeamSearch struct {
	// Width is the number of answers that are followed at a time, at least 1.
	Width int
	// LengthPenalty is the power of its length by which an answer's log-probability is divided. transformers' default is 1.
	LengthPenalty float64
	// MaxTokens bounds each answer; 0 leaves it to the model.
	MaxTokens int
	Stop      []string
}

// A Hypothesis is an answer that a beam search found.
type Hypothesis struct {
	model.Answer
	// LogProb is the natural logarithm of the probability of its tokens with the one that ends it, Score what they
	// are ordered by, and Tokens their number.
	LogProb float64
	Score   float64
	Tokens  int
}

// A beam is an answer that is followed.
type beam struct {
	row int // of the last logits
	ids []int32
	sum float64
}

// Beam returns the answers that beam search finds, the best first, at most Width. It is transformers' search with
// early_stopping = False (generation/utils.py, _beam_search, version 5.23): of the likeliest continuations, as many as
// Width and once more for each end token, those that end count if they are among the first Width; the search is over
// when Width answers have ended and the best one that is followed scores no better at its present length than the worst
// of them.
func (m *Model) Beam(ctx context.Context, messages []model.Message, how BeamSearch) ([]Hypothesis, error) {
	found, _, err := m.beam(ctx, messages, how)
	return found, err
}

func (m *Model) beam(ctx context.Context, messages []model.Message, how BeamSearch) ([]Hypothesis, model.Usage, error) {
	if how.Width < 1 || how.MaxTokens < 0 || math.IsNaN(how.LengthPenalty) {
		return nil, model.Usage{}, fmt.Errorf("%w: beam search %+v", model.ErrRejected, how)
	}
	p, err := m.newPrompt(ctx, messages)
	if err != nil {
		return nil, model.Usage{}, err
	}
	most := m.atMost(p, how.MaxTokens)
	if bytes := m.rowBytes(len(p.ids)+most) * int64(how.Width); bytes > m.options.CacheBytes {
		return nil, model.Usage{}, m.tooLarge(len(p.ids), most, bytes)
	}
	select {
	case m.slots <- struct{}{}:
		defer func() { <-m.slots }()
	case <-ctx.Done():
		return nil, model.Usage{}, ctx.Err()
	}
	logits, past, err := m.read(ctx, []*prompt{p}, 1)
	if err != nil {
		return nil, model.Usage{}, err
	}
	running, ended := []beam{{}}, []Hypothesis(nil)
	usage := model.Usage{Calls: 1, PromptTokens: len(p.ids), Device: m.decoder.session.Ran()}
	for length := 1; ; length++ {
		var rows [][]float64
		for i := range running {
			logs, err := logSoftmax(lastRow(logits, i))
			if err != nil {
				logits.close()
				past.close()
				return nil, model.Usage{}, err
			}
			rows = append(rows, logs)
		}
		logits.close()
		usage.CompletionTokens += len(running)
		var next []beam
		for rank, b := range continuations(running, rows, max(2, 1+len(m.settings.eos))*how.Width) {
			answer, over := m.ends(b.ids, how.Stop, most)
			switch {
			case over && rank < how.Width:
				ended = append(ended, Hypothesis{answer, b.sum, b.sum / math.Pow(float64(length), how.LengthPenalty), length})
			case !over && len(next) < how.Width:
				next = append(next, b)
			}
		}
		slices.SortStableFunc(ended, func(a, b Hypothesis) int { return order(a.Score, b.Score) })
		ended = ended[:min(len(ended), how.Width)]
		if len(next) == 0 || len(ended) == how.Width && next[0].sum/math.Pow(float64(length), how.LengthPenalty) <= ended[how.Width-1].Score {
			past.close()
			return ended, usage, nil
		}
		running = next
		var from []int
		var last []int32
		for _, b := range running {
			from, last = append(from, b.row), append(last, b.ids[len(b.ids)-1])
		}
		moved, err := m.decoder.gather(from, past)
		past.close()
		if err != nil {
			return nil, model.Usage{}, err
		}
		logits, past, err = m.next(ctx, last, moved)
		moved.close()
		if err != nil {
			return nil, model.Usage{}, err
		}
	}
}

// continuations returns the k likeliest of the beams with one token more, in order.
func continuations(running []beam, rows [][]float64, k int) []beam {
	type place struct {
		row   int
		token int32
		sum   float64
	}
	var best []place
	for row, logs := range rows {
		for token, v := range logs {
			p := place{row, int32(token), running[row].sum + v}
			if len(best) == k && p.sum <= best[k-1].sum {
				continue
			}
			at := len(best)
			for at > 0 && best[at-1].sum < p.sum {
				at--
			}
			best = slices.Insert(best[:min(len(best), k-1)], at, p)
		}
	}
	out := make([]beam, len(best))
	for i, p := range best {
		out[i] = beam{p.row, append(slices.Clone(running[p.row].ids), p.token), p.sum}
	}
	return out
}

// order puts the larger first.
func order(a, b float64) int {
	switch {
	case a > b:
		return -1
	case a < b:
		return 1
	}
	return 0
}

// chatBeam answers with the best of a beam search.
func (m *Model) chatBeam(ctx context.Context, req model.ChatRequest) (model.ChatResponse, error) {
	found, usage, err := m.beam(ctx, req.Messages, BeamSearch{
		Width: m.options.Beams, LengthPenalty: m.options.LengthPenalty, MaxTokens: req.Sampling.MaxTokens, Stop: req.Sampling.Stop,
	})
	if err != nil {
		return model.ChatResponse{}, err
	}
	res := model.ChatResponse{Usage: usage}
	for range req.N {
		res.Answers = append(res.Answers, found[0].Answer)
	}
	return res, nil
}
