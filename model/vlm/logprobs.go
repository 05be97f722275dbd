package vlm

import (
	"context"
	"fmt"

	"github.com/promptmill/promptmill/model"
)

// LogProbs returns, for each answer to a conversation, the natural logarithms of the probabilities of its tokens and of
// the first end token after them, at temperature 1. Their sum is the answer's log-probability. The answers share the
// reading of the prompt.
func (m *Model) LogProbs(ctx context.Context, messages []model.Message, answers []string) ([][]float64, error) {
	p, err := m.newPrompt(ctx, messages)
	if err != nil {
		return nil, err
	}
	select {
	case m.slots <- struct{}{}:
		defer func() { <-m.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	logits, past, err := m.read(ctx, []*prompt{p}, 1)
	if err != nil {
		return nil, err
	}
	defer past.close()
	first, err := logSoftmax(lastRow(logits, 0))
	logits.close()
	if err != nil {
		return nil, err
	}
	out := make([][]float64, len(answers))
	for i, answer := range answers {
		ids := m.answer(answer)
		if m.settings.text.Context > 0 && len(p.ids)+len(ids) > m.settings.text.Context {
			return nil, fmt.Errorf("answer %d: %w", i, m.tooLong(len(p.ids)+len(ids)))
		}
		out[i] = []float64{first[ids[0]]}
		if len(ids) == 1 {
			continue
		}
		logits, with, err := m.next(ctx, ids[:len(ids)-1], past)
		if err != nil {
			return nil, fmt.Errorf("answer %d: %w", i, err)
		}
		with.close()
		rest, err := picked(logits, ids[1:])
		logits.close()
		if err != nil {
			return nil, fmt.Errorf("answer %d: %w", i, err)
		}
		out[i] = append(out[i], rest...)
	}
	return out, nil
}

// picked are the log-probabilities of tokens after each place of a row of logits.
func picked(logits *array, ids []int32) ([]float64, error) {
	vocab := int(logits.Shape()[2])
	data := logits.data
	out := make([]float64, len(ids))
	for i, id := range ids {
		logs, err := logSoftmax(data[i*vocab : (i+1)*vocab])
		if err != nil {
			return nil, err
		}
		out[i] = logs[id]
	}
	return out, nil
}
