package scene

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"

	"github.com/promptmill/promptmill/model"
)

type chat struct{ gate }

func openChat(_ context.Context, spec model.Spec) (model.Chat, error) {
	if err := check(spec); err != nil {
		return nil, err
	}
	return chat{newGate(spec)}, nil
}

func (chat) Info() model.Info {
	return model.Info{Name: "scene rewriter and judge", Weights: chatWeights, Deterministic: true}
}

// Chat rewrites the prompt of a conversation without pictures and judges the two pictures, or two
// answers about them, of any other. Answer i depends on Seed+i, so each is what a request of its own
// would get. At temperature 0 all are equal: the likeliest rewriting, and judgments without the judge's
// error, which is the same at any other temperature.
func (m chat) Chat(ctx context.Context, req model.ChatRequest) (model.ChatResponse, error) {
	if req.N < 1 {
		return model.ChatResponse{}, fmt.Errorf("%w: %d answers asked for", model.ErrRejected, req.N)
	}
	if s := req.Sampling; s.Temperature < 0 || s.TopP < 0 || s.TopP > 1 {
		return model.ChatResponse{}, fmt.Errorf("%w: temperature %v, top_p %v", model.ErrRejected, s.Temperature, s.TopP)
	}
	q, err := readQuestion(req)
	if err != nil {
		return model.ChatResponse{}, err
	}
	var seen []*Measurement
	key := append([]string{q.aspect, q.prompt}, q.answers...)
	for _, p := range q.pictures {
		measurement, err := measurePicture(ctx, m.gate, p)
		if err != nil {
			return model.ChatResponse{}, err
		}
		seen, key = append(seen, measurement), append(key, p.SHA256)
	}
	if err := m.enter(ctx); err != nil {
		return model.ChatResponse{}, err
	}
	defer m.leave()

	write := answerer(q, seen, req.Sampling)
	res := model.ChatResponse{Usage: model.Usage{Calls: 1}}
	for _, msg := range req.Messages {
		for _, p := range msg.Parts {
			res.Usage.PromptTokens += len(token.FindAllStringIndex(p.Text, -1))
		}
	}
	for i := range req.N {
		a, tokens := bound(write(chance(req.Seed+int64(i), key...)), req.Sampling)
		res.Answers = append(res.Answers, a)
		res.Usage.CompletionTokens += tokens
	}
	return res, nil
}

// answerer returns what writes one answer to q with the chance given.
func answerer(q question, seen []*Measurement, s model.Sampling) func(*rand.Rand) string {
	if len(seen) == 0 {
		return newRewriter(q.prompt, s).answer
	}
	j := newJudge(q, seen[0], seen[1])
	write, verdict := j.scores, j.verdict
	if q.terse {
		write, verdict = j.terseScores, j.terseVerdict
	}
	if q.answers != nil {
		write = verdict
	}
	if s.Temperature == 0 {
		return func(*rand.Rand) string { return write(nil) }
	}
	return write
}

// A token of this backend is a word, a number or a mark.
var token = regexp.MustCompile(`\w+|[^\w\s]`)

// bound ends an answer where the sampling says and counts its tokens.
func bound(text string, s model.Sampling) (model.Answer, int) {
	for _, stop := range s.Stop {
		if i := strings.Index(text, stop); i >= 0 && stop != "" {
			text = text[:i]
		}
	}
	tokens := token.FindAllStringIndex(text, -1)
	if s.MaxTokens > 0 && len(tokens) > s.MaxTokens {
		return model.Answer{Text: text[:tokens[s.MaxTokens-1][1]], Finish: model.FinishLength}, s.MaxTokens
	}
	return model.Answer{Text: text, Finish: model.FinishStop}, len(tokens)
}

// chance is the generator of answer number seed to what the parts say.
func chance(seed int64, parts ...string) *rand.Rand {
	h := sha256.New()
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(seed))
	h.Write(n[:])
	for _, p := range parts {
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		h.Write(n[:])
		h.Write([]byte(p))
	}
	sum := h.Sum(nil)
	return rand.New(rand.NewPCG(binary.BigEndian.Uint64(sum), binary.BigEndian.Uint64(sum[8:])))
}
