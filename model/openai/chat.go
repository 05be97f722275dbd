package openai

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/guard"
)

// chat is a chat model behind an endpoint.
type chat struct {
	client *guard.Client
	path   string
	name   string
	extra  []byte
	seed   bool
	beams  int
	info   model.Info
	probe  bool

	// room bounds the requests that are written out: with pictures each is a megabyte, and many more
	// may wait for the server than it takes. It is as wide as the server's limit, so that who waited here
	// seldom waits there again.
	room *semaphore.Weighted

	// most is how many choices a request may ask for, pictures what the probe with two pictures found.
	most     mostChoices
	pictures proof[error]
}

// chatOptions are the options of a chat model.
var chatOptions = []string{"prefix", "n", "seed", "extra", "beams", "probe", "deterministic"}

func openChat(ctx context.Context, spec model.Spec) (model.Chat, error) {
	prefix, errs := check(spec, chatOptions...)
	n := choice(&errs, spec.Options, "n", "auto", "yes", "no")
	seed := choice(&errs, spec.Options, "seed", "yes", "no")
	probe := choice(&errs, spec.Options, "probe", "first_use", "two_images", "off")
	deterministic := choice(&errs, spec.Options, "deterministic", "no", "yes")
	extra, err := extraFields(spec, "model", "messages", "temperature", "top_p", "max_tokens", "stop", "n", "seed", "stream", "use_beam_search")
	errs = append(errs, err)
	beams := 0
	if text, given := spec.Options["beams"]; given {
		if beams, err = strconv.Atoi(text); err != nil || beams < 1 {
			errs = append(errs, fmt.Errorf("%w: option beams: %q is not a number of beams such as 4", model.ErrConfig, text))
		}
	}
	client, err := guard.Open(spec)
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, err
	}
	c := &chat{
		client: client, path: prefix + "/chat/completions", name: spec.Model, extra: extra,
		room: semaphore.NewWeighted(int64(cmp.Or(spec.Concurrency, guard.DefaultConcurrency))),
		seed: seed == "yes", beams: beams, info: identity(spec, deterministic == "yes"), probe: probe != "off",
	}
	switch n {
	case "yes":
		c.most.known, c.most.value = true, math.MaxInt
	case "no":
		c.most.known, c.most.value = true, 1
	}
	if probe == "two_images" {
		if err := c.twoPictures(ctx); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Info implements model.Chat.
func (c *chat) Info() model.Info { return c.info }

// Chat implements model.Chat. Where the server gives several choices it is one request, otherwise as
// many as needed at once.
func (c *chat) Chat(ctx context.Context, req model.ChatRequest) (model.ChatResponse, error) {
	if req.N < 1 {
		return model.ChatResponse{}, fmt.Errorf("%w: %d answers asked for", model.ErrRejected, req.N)
	}
	if c.probe && countPictures(req) >= 2 {
		if err := c.twoPictures(ctx); err != nil {
			return model.ChatResponse{}, err
		}
	}
	if err := c.room.Acquire(ctx, 1); err != nil {
		return model.ChatResponse{}, err
	}
	defer c.room.Release(1)
	body, err := c.encode(ctx, req)
	if err != nil {
		return model.ChatResponse{}, err
	}
	most := 1
	if req.N > 1 && req.Sampling.Temperature > 0 {
		// vLLM refuses n at temperature 0.
		if most, err = c.most.get(ctx, c.proveN); err != nil {
			return model.ChatResponse{}, err
		}
	}
	resp := model.ChatResponse{Answers: make([]model.Answer, req.N)}
	if resp.Usage, err = c.fill(ctx, body, req.Seed, most, resp.Answers); err != nil {
		return model.ChatResponse{}, err
	}
	return resp, nil
}

func countPictures(req model.ChatRequest) int {
	n := 0
	for _, m := range req.Messages {
		for _, p := range m.Parts {
			if p.Picture != nil {
				n++
			}
		}
	}
	return n
}

// fill asks for the answers in requests for at most most each, at once.
func (c *chat) fill(ctx context.Context, body []byte, seed int64, most int, answers []model.Answer) (model.Usage, error) {
	if len(answers) <= most {
		return c.request(ctx, body, seed, answers)
	}
	parts := make([]model.Usage, (len(answers)+most-1)/most)
	group, ctx := errgroup.WithContext(ctx)
	for i := range parts {
		from := i * most
		group.Go(func() (err error) {
			parts[i], err = c.request(ctx, body, seed+int64(from), answers[from:min(from+most, len(answers))])
			return err
		})
	}
	err := group.Wait()
	var usage model.Usage
	for _, u := range parts {
		usage.Add(u)
	}
	return usage, err
}

// request asks for the answers in one request; what the server does not give that way, in smaller ones.
func (c *chat) request(ctx context.Context, body []byte, seed int64, answers []model.Answer) (model.Usage, error) {
	n := len(answers)
	got, err := c.ask(ctx, body, n, seed)
	smaller := len(got.answers)
	if refusal, ok := errors.AsType[*guard.StatusError](err); ok && n > 1 && errors.Is(err, model.ErrRejected) {
		// Is it n that the server does not like, or the request? llama-server refuses n above its slots.
		if got, err = c.ask(ctx, body, 1, seed); err != nil {
			err = fmt.Errorf("%w (and for %d choices at once: %w)", err, n, refusal)
		}
		smaller = n / 2
	}
	if err != nil {
		return model.Usage{}, err
	}
	usage := model.Usage{Calls: 1, PromptTokens: got.promptTokens, CompletionTokens: got.completionTokens}
	done := copy(answers, got.answers)
	if done == n {
		return usage, nil
	}
	smaller = max(smaller, 1)
	c.most.lower(smaller)
	more, err := c.fill(ctx, body, seed+int64(done), smaller, answers[done:])
	usage.Add(more)
	return usage, err
}

// ask sends one request for n choices.
func (c *chat) ask(ctx context.Context, body []byte, n int, seed int64) (completion, error) {
	if !c.seed {
		seed = -1
	}
	var got completion
	_, err := c.client.Post(ctx, c.path, finishChat(body, n, seed), func(answer []byte) (err error) {
		got, err = decodeChat(answer)
		return err
	})
	return got, err
}
