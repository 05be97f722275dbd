// Package model is how transforms call models: four small contracts, and a registry of backends that
// speak them.
//
// A transform names a model by its Spec, which travels to the workers as JSON and holds no secret;
// each worker opens it once a process. Backends live in the packages below this one and register
// themselves; the command imports them. Retry and limits (guard) and the response log (responselog)
// wrap the contracts.
package model

import (
	"context"
	"errors"
)

// Info says who answers.
type Info struct {
	// Name is for people: backend and model.
	Name string
	// Weights identifies what answers: a digest of the weights, or the model name and the revision
	// declared in the recipe. Two backends with equal Weights give answers from one distribution; it
	// is part of the key of every logged answer and of every pair's policy and judge.
	Weights string
	// Deterministic promises equal answers to equal requests, alone and among others.
	Deterministic bool
}

// A Picture is an image that a request refers to. Bytes may read from a store; it is called only
// when a request is really sent.
type Picture struct {
	// SHA256 is the lower-case hex digest of the encoded bytes.
	SHA256 string
	Bytes  func(context.Context) ([]byte, error)
}

// A Part of a message is a text or a picture, never both.
type Part struct {
	Text    string
	Picture *Picture
}

// A Message is one turn; Role is system, user or assistant.
type Message struct {
	Role  string
	Parts []Part
}

// Text is a message of one text part.
func Text(role, text string) Message { return Message{Role: role, Parts: []Part{{Text: text}}} }

// Sampling says how answers are drawn.
type Sampling struct {
	// Temperature 0 is greedy. TopP 0 means 1: no cut.
	Temperature float64
	TopP        float64
	// MaxTokens bounds each answer; 0 leaves it to the backend.
	MaxTokens int
	Stop      []string
}

// A ChatRequest asks for N answers to one conversation.
type ChatRequest struct {
	Messages []Message
	Sampling Sampling
	// Seed of the first answer; answer i is drawn with Seed+i where the backend takes seeds.
	// It is in [0, 2^31-1024].
	Seed int64
	// N is the number of independent answers, at least 1.
	N int
	// Template is the name and version of the prompt template, for the response log.
	Template string
}

// Finish says why an answer ended.
type Finish string

// The ways an answer ends. A server that does not say gives FinishUnknown.
const (
	FinishStop    Finish = "stop"
	FinishLength  Finish = "length"
	FinishFilter  Finish = "content_filter"
	FinishUnknown Finish = ""
)

// An Answer is one completion.
type Answer struct {
	Text   string
	Finish Finish
}

// Usage is what a request cost.
type Usage struct {
	// Calls counts requests answered by a model (0 when all came from the log), CacheHits answers
	// that came from the response log instead.
	Calls     int
	CacheHits int
	// Tokens are 0 where the server does not count them.
	PromptTokens     int
	CompletionTokens int
	// Device is where the model ran if it runs in this process, as cpu or cuda:0; "" where it does not.
	Device string
}

// Add adds v to u.
func (u *Usage) Add(v Usage) {
	u.Calls += v.Calls
	u.CacheHits += v.CacheHits
	u.PromptTokens += v.PromptTokens
	u.CompletionTokens += v.CompletionTokens
	if v.Device != "" {
		u.Device = v.Device // one process has one for each model
	}
}

// A ChatResponse holds exactly N answers, in the order of their seeds.
type ChatResponse struct {
	Answers []Answer
	Usage   Usage
}

// Chat answers conversations. It is safe for concurrent use.
type Chat interface {
	// Chat returns req.N answers or an error; never fewer.
	Chat(ctx context.Context, req ChatRequest) (ChatResponse, error)
	Info() Info
}

// LogProber is a Chat that says how likely answers are.
type LogProber interface {
	// LogProbs returns, for each answer to a conversation, the natural logarithms of the probabilities of its tokens and
	// of the end after them, at temperature 1.
	LogProbs(ctx context.Context, messages []Message, answers []string) ([][]float64, error)
}

// Foldered is a Chat whose weights are files on this machine: what a trainer can start from, whatever the
// backend calls it.
type Foldered interface {
	// Folder is where they are.
	Folder() string
}

// An ImageRequest asks for one picture.
type ImageRequest struct {
	Prompt         string
	NegativePrompt string
	// Width and Height are in pixels.
	Width, Height int
	Steps         int
	Guidance      float64
	// Scheduler is a diffusers-style name (pndm, ddim, euler, euler_a, dpmpp_2m); "" leaves it to the backend.
	Scheduler string
	// Seed is in [0, 2^31).
	Seed int64
}

// An ImageResponse is one picture as PNG or JPEG bytes.
type ImageResponse struct {
	Data []byte
	// Flagged says that the backend's safety checker replaced the picture.
	Flagged bool
	Usage   Usage
}

// Images draws pictures. It is safe for concurrent use.
type Images interface {
	Draw(ctx context.Context, req ImageRequest) (ImageResponse, error)
	Info() Info
}

// A ScoreRequest is a text and a picture of it.
type ScoreRequest struct {
	Text    string
	Picture Picture
}

// Scorer gives a picture a number (PickScore, CLIP score, the oracle). It is safe for concurrent use.
type Scorer interface {
	// Score returns one value per request, in order.
	Score(ctx context.Context, reqs []ScoreRequest) ([]float64, error)
	Info() Info
}

// Errors that a backend's error may wrap. Any other error is a fault of the world at this moment.
var (
	// ErrRejected: the backend will never answer this request (too long, refused, bad size).
	// The row is a dead letter; asking again is pointless.
	ErrRejected = errors.New("request rejected")
	// ErrUnavailable: the backend did not answer within the retry limits. The row is a dead letter
	// that replay can bring back.
	ErrUnavailable = errors.New("backend unavailable")
	// ErrConfig: no request to this backend can work (bad key, unknown model). The job fails.
	ErrConfig = errors.New("backend misconfigured")
)
