package metrics

import (
	"context"
	"fmt"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/transforms/template"
)

// KL is the measure of how far a policy has gone from the one that it is compared with: the mean, over the tokens of a
// text that it sampled, of how much likelier it finds them, in nats. Its mean over texts estimates the
// Kullback-Leibler divergence for each token.
const KL = "kl_per_token"

// A ratio compares the log-probabilities of two policies.
type ratio struct {
	Policy    model.Spec
	Reference model.Spec
	Template  template.Template
	// Continues is the rewriting's: the policy said what comes after the prompt and it.
	Continues string

	policy, reference model.LogProber
}

// LogProbs opens the model of spec, if it tells log-probabilities.
func LogProbs(ctx context.Context, spec model.Spec) (model.LogProber, error) {
	chat, err := model.OpenChat(ctx, spec)
	if err != nil {
		return nil, err
	}
	p, ok := chat.(model.LogProber)
	if !ok {
		return nil, fmt.Errorf("%w: backend %s tells no log-probabilities; backends vlm and tiny do", model.ErrConfig, spec.Backend)
	}
	return p, nil
}

func (r *ratio) open(ctx context.Context) (err error) {
	if r.policy, err = LogProbs(ctx, r.Policy); err != nil {
		return err
	}
	r.reference, err = LogProbs(ctx, r.Reference)
	return err
}

// of is the ratio of one text about a prompt.
func (r *ratio) of(ctx context.Context, prompt, text string) (float64, error) {
	var messages []model.Message
	for _, m := range r.Template.Messages(prompt) {
		messages = append(messages, model.Text(m.Role, m.Content))
	}
	text = template.Said(r.Continues, prompt, text)
	var sums [2]float64
	tokens := 0
	for i, p := range []model.LogProber{r.policy, r.reference} {
		logs, err := p.LogProbs(ctx, messages, []string{text})
		if err != nil {
			return 0, err
		}
		for _, l := range logs[0] {
			sums[i] += l
		}
		tokens = len(logs[0])
	}
	return (sums[0] - sums[1]) / float64(max(1, tokens)), nil
}
