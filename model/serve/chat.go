package serve

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"math"
	mathrand "math/rand/v2"
	"net/http"
	"time"

	"github.com/promptmill/promptmill/model"
)

const (
	// maxSeed is where seeds end: package model adds the number of the answer.
	maxSeed = math.MaxInt32 - 1024
	// maxStops is how many stop strings a request may have.
	maxStops = 16
)

// chatRequest is OpenAI's request for a chat completion. What is raw JSON changes no answer here.
type chatRequest struct {
	Model               string    `json:"model"`
	Messages            []message `json:"messages"`
	N                   *int      `json:"n"`
	Seed                *int64    `json:"seed"`
	Temperature         *float64  `json:"temperature"`
	TopP                *float64  `json:"top_p"`
	MaxTokens           *int      `json:"max_tokens"`
	MaxCompletionTokens *int      `json:"max_completion_tokens"`
	Stop                stops     `json:"stop"`
	Stream              bool      `json:"stream"`
	StreamOptions       struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`

	// Clients send these with the values that mean nothing; others are refused.
	FrequencyPenalty float64 `json:"frequency_penalty"`
	PresencePenalty  float64 `json:"presence_penalty"`
	Logprobs         bool    `json:"logprobs"`
	ResponseFormat   struct {
		Type string `json:"type"`
	} `json:"response_format"`

	User     json.RawMessage `json:"user"`
	Metadata json.RawMessage `json:"metadata"`
	Store    json.RawMessage `json:"store"`
}

// stops is a text or several.
type stops []string

// UnmarshalJSON implements json.Unmarshaler.
func (s *stops) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		*s = make(stops, 1)
		return json.Unmarshal(b, &(*s)[0])
	}
	if json.Unmarshal(b, (*[]string)(s)) != nil {
		return wrong("stop", "neither a text nor a list of texts")
	}
	return nil
}

// chat answers POST /v1/chat/completions.
func (s *Server) chat(ctx context.Context, body []byte) (reply, error) {
	var q chatRequest
	if err := strict("", body, &q); err != nil {
		return nil, err
	}
	if err := named(q.Model, s.models.ChatName, "chat"); err != nil {
		return nil, err
	}
	req, err := s.chatRequest(q)
	if err != nil {
		return nil, err
	}
	resp, err := s.models.Chat.Chat(ctx, req)
	if err != nil {
		return nil, err
	}
	s.metrics.chatted(resp.Usage)
	c := s.completion(resp)
	if q.Stream {
		return stream{c, q.StreamOptions.IncludeUsage}, nil
	}
	return jsonReply{c}, nil
}

// chatRequest checks q and puts it in package model's terms, with OpenAI's defaults.
func (s *Server) chatRequest(q chatRequest) (model.ChatRequest, error) {
	for _, f := range []struct {
		field string
		set   bool
	}{
		{"frequency_penalty", q.FrequencyPenalty != 0},
		{"presence_penalty", q.PresencePenalty != 0},
		{"logprobs", q.Logprobs},
		{"response_format", q.ResponseFormat.Type != "" && q.ResponseFormat.Type != "text"},
	} {
		if f.set {
			return model.ChatRequest{}, &fault{status: http.StatusBadRequest, Message: f.field + ": this server does not support it; leave it out", Type: invalid, Param: f.field, Code: "unsupported_parameter"}
		}
	}
	req := model.ChatRequest{N: 1, Seed: mathrand.Int64N(maxSeed), Sampling: model.Sampling{Temperature: 1, TopP: 1, Stop: q.Stop}}
	if v := q.N; v != nil {
		if req.N = *v; req.N < 1 || req.N > s.cfg.MaxN {
			return req, wrong("n", "%d is not in 1..%d", *v, s.cfg.MaxN)
		}
	}
	if v := q.Seed; v != nil {
		if req.Seed = *v; req.Seed < 0 || req.Seed >= maxSeed {
			return req, wrong("seed", "%d is not in 0..%d", *v, maxSeed-1)
		}
	}
	if v := q.Temperature; v != nil {
		if req.Sampling.Temperature = *v; *v < 0 || *v > 2 {
			return req, wrong("temperature", "%v is not in 0..2", *v)
		}
	}
	if v := q.TopP; v != nil {
		if req.Sampling.TopP = *v; *v <= 0 || *v > 1 {
			return req, wrong("top_p", "%v is not above 0 and at most 1", *v)
		}
	}
	for _, limit := range []struct {
		field string
		value *int
	}{{"max_tokens", q.MaxTokens}, {"max_completion_tokens", q.MaxCompletionTokens}} {
		if limit.value == nil {
			continue
		}
		if req.Sampling.MaxTokens = *limit.value; *limit.value < 1 {
			return req, wrong(limit.field, "%d is below 1", *limit.value)
		}
	}
	if len(q.Stop) > maxStops {
		return req, wrong("stop", "%d texts are more than %d", len(q.Stop), maxStops)
	}
	var err error
	req.Messages, err = s.messages(q.Messages)
	return req, err
}

// completion is OpenAI's answer.
type completion struct {
	ID      string   `json:"id"`
	Object  string   `json:"object"`
	Created int64    `json:"created"`
	Model   string   `json:"model"`
	Print   string   `json:"system_fingerprint"`
	Choices []choice `json:"choices"`
	Usage   *usage   `json:"usage,omitempty"`
}

type choice struct {
	Index   int   `json:"index"`
	Message *said `json:"message,omitempty"`
	// Delta takes the place of Message in a stream.
	Delta *said `json:"delta,omitempty"`
	// Finish is null if the model does not say.
	Finish *model.Finish `json:"finish_reason"`
}

type said struct {
	Role    string  `json:"role,omitempty"`
	Content *string `json:"content,omitempty"`
}

type usage struct {
	Prompt     int `json:"prompt_tokens"`
	Completion int `json:"completion_tokens"`
	Total      int `json:"total_tokens"`
}

func (s *Server) completion(resp model.ChatResponse) completion {
	u := resp.Usage
	c := completion{
		ID: "chatcmpl-" + rand.Text(), Object: "chat.completion", Created: time.Now().Unix(),
		Model: s.models.ChatName, Print: s.models.Chat.Info().Weights, Choices: make([]choice, len(resp.Answers)),
		Usage: &usage{u.PromptTokens, u.CompletionTokens, u.PromptTokens + u.CompletionTokens},
	}
	for i, a := range resp.Answers {
		c.Choices[i] = choice{Index: i, Message: &said{"assistant", &a.Text}}
		if a.Finish != model.FinishUnknown {
			c.Choices[i].Finish = &a.Finish
		}
	}
	return c
}
