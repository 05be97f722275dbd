package dataset

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/promptmill/promptmill/schemas"
)

// A Format is how a trainer wants its rows.
type Format string

// The formats that are not Parquet. All take both shapes of row but for LLaVA, which has conversations only.
const (
	// OpenAI is the JSONL of fine-tuning endpoints (OpenAI, Azure, Together): "messages", or "input" with
	// "preferred_output" and "non_preferred_output". Pairs are text only there.
	OpenAI Format = "openai"
	// LlamaFactory is the sharegpt form of LLaMA-Factory (data/README.md there) as JSONL.
	LlamaFactory Format = "llamafactory"
	// LLaVA is the JSON array that LLaVA and VILA fine-tune on.
	LLaVA Format = "llava"
)

// ErrFormat says: a format cannot hold this row.
var ErrFormat = errors.New("the format cannot hold this row")

// Encode returns the row as one JSON object on one line, without a line break. pictures are the file
// names of its images, as the trainer will find them; OpenAI ignores them and embeds the images. Errors
// wrap ErrFormat and name the row.
func Encode(f Format, row Row, pictures []string) ([]byte, error) {
	var v any
	var err error
	switch f {
	case OpenAI:
		v, err = openAIRow(row)
	case LlamaFactory:
		v, err = llamaFactoryRow(row, pictures)
	case LLaVA:
		v, err = llavaRow(row, pictures)
	default:
		err = fmt.Errorf("there is no format %q", f)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", row, ErrFormat, err)
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // placeholders stay readable
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("%s: %w", row, err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

type openAIMessage struct {
	Role string `json:"role"`
	// Content is a string, or a list of parts.
	Content any `json:"content"`
}

type openAIPart struct {
	Type     string          `json:"type"`
	Text     string          `json:"text,omitempty"`
	ImageURL *openAIImageURL `json:"image_url,omitempty"`
}

type openAIImageURL struct {
	URL string `json:"url"`
}

type openAIInput struct {
	Messages []openAIMessage `json:"messages"`
}

type openAIPair struct {
	Input        openAIInput     `json:"input"`
	Preferred    []openAIMessage `json:"preferred_output"`
	NonPreferred []openAIMessage `json:"non_preferred_output"`
}

func openAIRow(row Row) (any, error) {
	if row.Preference && len(row.Images) > 0 {
		return nil, errors.New("preference pairs of this format are text only; train on pairs with pictures with TRL or LLaMA-Factory")
	}
	messages, err := openAIMessages(row.Messages, row.Images)
	if err != nil || !row.Preference {
		return openAIInput{messages}, err
	}
	p := openAIPair{Input: openAIInput{messages}}
	if p.Preferred, err = openAIMessages(row.Chosen, nil); err == nil {
		p.NonPreferred, err = openAIMessages(row.Rejected, nil)
	}
	return p, err
}

func openAIMessages(messages []schemas.Message, images []schemas.Image) ([]openAIMessage, error) {
	if len(images) == 0 {
		out := make([]openAIMessage, len(messages))
		for i, m := range messages {
			out[i] = openAIMessage{m.Role, m.Content}
		}
		return out, nil
	}
	messages, err := withPlaceholders(messages, len(images))
	if err != nil {
		return nil, err
	}
	var out []openAIMessage
	for _, m := range messages {
		texts := strings.Split(m.Content, Placeholder)
		if len(texts) == 1 {
			out = append(out, openAIMessage{m.Role, m.Content})
			continue
		}
		var parts []openAIPart
		for i, t := range texts {
			if i > 0 {
				data := "data:" + http.DetectContentType(images[0].Bytes) + ";base64," + base64.StdEncoding.EncodeToString(images[0].Bytes)
				parts, images = append(parts, openAIPart{Type: "image_url", ImageURL: &openAIImageURL{data}}), images[1:]
			}
			if t = strings.TrimPrefix(t, "\n"); t != "" {
				parts = append(parts, openAIPart{Type: "text", Text: t})
			}
		}
		out = append(out, openAIMessage{m.Role, parts})
	}
	return out, nil
}

// A turn is a message in ShareGPT's words.
type turn struct {
	From  string `json:"from"`
	Value string `json:"value"`
}

var speakers = map[string]string{schemas.RoleSystem: "system", schemas.RoleUser: "human", schemas.RoleAssistant: "gpt"}

func turns(messages []schemas.Message) ([]turn, error) {
	out := make([]turn, len(messages))
	for i, m := range messages {
		from, known := speakers[m.Role]
		if !known {
			return nil, fmt.Errorf("message %d has the role %q", i, m.Role)
		}
		out[i] = turn{from, m.Content}
	}
	return out, nil
}

type llamaFactory struct {
	Conversations []turn `json:"conversations"`
	Chosen        *turn  `json:"chosen,omitempty"`
	Rejected      *turn  `json:"rejected,omitempty"`
	// Images is a pointer because a set with the column has it in every row, if empty.
	Images *[]string `json:"images,omitempty"`
}

func llamaFactoryRow(row Row, pictures []string) (any, error) {
	messages, err := withPlaceholders(row.Messages, len(row.Images))
	if err != nil {
		return nil, err
	}
	var out llamaFactory
	if out.Conversations, err = turns(messages); err != nil {
		return nil, err
	}
	if row.Vision {
		pictures = append([]string{}, pictures...)
		out.Images = &pictures
	}
	if !row.Preference {
		return out, nil
	}
	chosen, err := turns(row.Chosen)
	if err != nil {
		return nil, err
	}
	rejected, err := turns(row.Rejected)
	if err != nil {
		return nil, err
	}
	if len(chosen) != 1 || len(rejected) != 1 {
		return nil, fmt.Errorf("chosen has %d messages and rejected %d; LLaMA-Factory compares single answers", len(chosen), len(rejected))
	}
	out.Chosen, out.Rejected = &chosen[0], &rejected[0]
	return out, nil
}

type llava struct {
	ID string `json:"id"`
	// Image is one file name, several, or absent.
	Image         any    `json:"image,omitempty"`
	Conversations []turn `json:"conversations"`
}

func llavaRow(row Row, pictures []string) (any, error) {
	if row.Preference {
		return nil, errors.New("LLaVA's format has conversations only; export pairs for trl or llamafactory")
	}
	messages, err := withPlaceholders(row.Messages, len(row.Images))
	if err != nil {
		return nil, err
	}
	// LLaVA knows no system turn: its words open the first human one.
	if len(messages) > 1 && messages[0].Role == schemas.RoleSystem {
		first := messages[1]
		first.Content = messages[0].Content + "\n" + first.Content
		messages = append([]schemas.Message{first}, messages[2:]...)
	}
	out := llava{ID: row.ID}
	if out.Conversations, err = turns(messages); err != nil {
		return nil, err
	}
	switch len(pictures) {
	case 0:
	case 1:
		out.Image = pictures[0]
	default:
		out.Image = pictures
	}
	return out, nil
}

// Placeholders counts the placeholders in messages.
func Placeholders(messages []schemas.Message) int {
	var n int
	for _, m := range messages {
		n += strings.Count(m.Content, Placeholder)
	}
	return n
}

// withPlaceholders returns messages with exactly n placeholders: those that are there, or n before the
// first user message where there are none.
func withPlaceholders(messages []schemas.Message, n int) ([]schemas.Message, error) {
	have := Placeholders(messages)
	if have == n {
		return messages, nil
	}
	if have != 0 {
		return nil, fmt.Errorf("%d of %s for %d pictures", have, Placeholder, n)
	}
	out := append([]schemas.Message{}, messages...)
	for i, m := range out {
		if m.Role == schemas.RoleUser {
			out[i].Content = strings.Repeat(Placeholder, n) + "\n" + m.Content
			return out, nil
		}
	}
	return nil, errors.New("pictures, but no user message to show them in")
}
