package responselog

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/promptmill/promptmill/model"
)

// maxAnswers bounds N: seeds are below 2^31-1024, so those of all answers are below 2^31.
const maxAnswers = 1024

// Chat returns inner with log before it. Answers that the log has are not asked for; the others are,
// in one request for each unbroken run of them, and are stored before they are returned. Equal
// requests at one time are one. In the response's Usage, Calls is what inner counted and CacheHits
// the answers that this request did not ask for. After an error Usage still says what was spent.
//
// A request whose model has no Weights fails with model.ErrConfig.
func Chat(inner model.Chat, log *Log) model.Chat { return &chat{inner, log} }

type chat struct {
	inner model.Chat
	log   *Log
}

func (c *chat) Info() model.Info { return c.inner.Info() }

func (c *chat) Chat(ctx context.Context, req model.ChatRequest) (model.ChatResponse, error) {
	if req.N < 1 || req.N > maxAnswers || req.Seed < 0 || req.Seed > maxPositions-maxAnswers {
		return model.ChatResponse{}, fmt.Errorf("response log: %w: n %d is not in 1..%d or seed %d not in 0..2^31-1024",
			model.ErrRejected, req.N, maxAnswers, req.Seed)
	}
	k, err := chatKey(c.inner.Info(), req)
	if err != nil {
		return model.ChatResponse{}, err
	}
	x := exchange{
		chat: c, req: req, key: k, first: uint32(req.Seed),
		answers: make([]model.Answer, req.N), have: make([]bool, req.N),
	}
	err = c.log.settle(ctx,
		func() ([]slot, error) { return x.read(ctx) },
		func(due []slot) error { return x.ask(ctx, due) })
	if err != nil {
		return model.ChatResponse{Usage: x.usage}, err
	}
	x.usage.CacheHits = req.N - x.asked
	c.log.hits.Add(int64(x.usage.CacheHits))
	return model.ChatResponse{Answers: x.answers, Usage: x.usage}, nil
}

// An exchange is one request under way.
type exchange struct {
	*chat
	req     model.ChatRequest
	key     key
	first   uint32
	answers []model.Answer
	have    []bool
	asked   int
	usage   model.Usage
}

// missing are the slots of the answers that are not there.
func (x *exchange) missing() []slot {
	if x.complete() {
		return nil
	}
	slots := make([]slot, 0, len(x.have))
	for i, have := range x.have {
		if !have {
			slots = append(slots, slot{x.key, x.first + uint32(i)})
		}
	}
	return slots
}

func (x *exchange) complete() bool { return !slices.Contains(x.have, false) }

func (x *exchange) fill(first uint32, answers []model.Answer) {
	for i, a := range answers {
		at := int64(first) + int64(i) - int64(x.first)
		if at >= 0 && at < int64(len(x.have)) && !x.have[at] {
			x.have[at], x.answers[at] = true, a
		}
	}
}

// read takes the answers that the log has and returns the others.
func (x *exchange) read(ctx context.Context) ([]slot, error) {
	if x.complete() {
		return nil, nil
	}
	err := x.log.read(ctx, x.key, x.first, len(x.have), func(r record) (bool, error) {
		answers, err := parseAnswers(r.payload, int(r.n))
		if err != nil {
			return false, err
		}
		x.fill(r.first, answers)
		return x.complete(), nil
	})
	return x.missing(), err
}

// ask asks for due, a request for each run of neighbours.
func (x *exchange) ask(ctx context.Context, due []slot) error {
	for len(due) > 0 {
		n := 1
		for n < len(due) && due[n].position == due[n-1].position+1 {
			n++
		}
		if err := x.askRun(ctx, due[0].position, n); err != nil {
			return err
		}
		due = due[n:]
	}
	return nil
}

func (x *exchange) askRun(ctx context.Context, first uint32, n int) error {
	req := x.req
	req.Seed, req.N = int64(first), n
	resp, err := x.inner.Chat(ctx, req)
	resp.Usage.CacheHits = 0 // they are this log's hits
	x.usage.Add(resp.Usage)
	if err != nil {
		return err
	}
	if len(resp.Answers) != n {
		return fmt.Errorf("response log: %s gave %d answers to a request for %d", x.inner.Info().Name, len(resp.Answers), n)
	}
	if err := x.log.append(ctx, x.key, first, n, formatAnswers(resp.Answers)); err != nil {
		return err
	}
	x.fill(first, resp.Answers)
	x.asked += n
	return nil
}

// formatAnswers writes each answer's text and finish, each after its length.
func formatAnswers(answers []model.Answer) []byte {
	size := 0
	for _, a := range answers {
		size += 2*binary.MaxVarintLen64 + len(a.Text) + len(a.Finish)
	}
	b := make([]byte, 0, size)
	for _, a := range answers {
		b = binary.AppendUvarint(b, uint64(len(a.Text)))
		b = append(b, a.Text...)
		b = binary.AppendUvarint(b, uint64(len(a.Finish)))
		b = append(b, a.Finish...)
	}
	return b
}

func parseAnswers(payload []byte, n int) ([]model.Answer, error) {
	answers := make([]model.Answer, n)
	for i := range answers {
		var text, finish string
		var err error
		if text, payload, err = parseText(payload); err != nil {
			return nil, err
		}
		if finish, payload, err = parseText(payload); err != nil {
			return nil, err
		}
		answers[i] = model.Answer{Text: text, Finish: model.Finish(finish)}
	}
	if len(payload) > 0 {
		return nil, errDamaged
	}
	return answers, nil
}

func parseText(b []byte) (text string, rest []byte, err error) {
	n, w := binary.Uvarint(b)
	if w <= 0 || n > uint64(len(b)-w) {
		return "", nil, errDamaged
	}
	return string(b[w : w+int(n)]), b[w+int(n):], nil
}
