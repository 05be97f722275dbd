package openai

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/guard"
)

// A completion is what matters of a chat completion.
type completion struct {
	answers []model.Answer
	// prompt and completion are tokens; 0 if the server does not count.
	promptTokens, completionTokens int
}

// A wireCompletion has contents of type C: string, or content where the server sends parts.
type wireCompletion[C string | content] struct {
	Choices []struct {
		Index   int `json:"index"`
		Message struct {
			Content C       `json:"content"`
			Refusal *string `json:"refusal"`
		} `json:"message"`
		FinishReason *string `json:"finish_reason"`
	} `json:"choices"`
	// Some servers count in floating point.
	Usage *struct {
		PromptTokens     float64 `json:"prompt_tokens"`
		CompletionTokens float64 `json:"completion_tokens"`
	} `json:"usage"`
}

// content is a text, or an array of parts whose texts are joined, or null.
type content string

// UnmarshalJSON implements json.Unmarshaler.
func (c *content) UnmarshalJSON(b []byte) error {
	if len(b) == 0 || b[0] != '[' {
		return json.Unmarshal(b, (*string)(c))
	}
	var parts []struct {
		Text string `json:"text"`
	}
	if err := json.Unmarshal(b, &parts); err != nil {
		return err
	}
	var text strings.Builder
	for _, p := range parts {
		text.WriteString(p.Text)
	}
	*c = content(text.String())
	return nil
}

// lenient makes jsonv2, which reads an answer in a third of the time, take what encoding/json takes. It also
// takes names without their underscores.
var lenient = jsonv2.JoinOptions(
	jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true), jsonv2.MatchCaseInsensitiveNames(true))

// decodeChat reads a chat completion. It is an error if there are no choices, and one that wraps
// model.ErrRejected if none of them says anything; a single empty one among others is an answer.
func decodeChat(body []byte) (completion, error) {
	// Nearly all contents are texts, and the decoder reads those in half the time without a method.
	var w wireCompletion[string]
	err := jsonv2.Unmarshal(body, &w, lenient)
	if _, other := errors.AsType[*jsonv2.SemanticError](err); other {
		var parts wireCompletion[content]
		err = jsonv2.Unmarshal(body, &parts, lenient)
		return readCompletion(parts, err, body)
	}
	return readCompletion(w, err, body)
}

func readCompletion[C string | content](w wireCompletion[C], err error, body []byte) (completion, error) {
	if err != nil {
		return completion{}, fmt.Errorf("not a chat completion: %w: %s", err, guard.Explain(body))
	}
	if len(w.Choices) == 0 {
		return completion{}, fmt.Errorf("no choices: %s", guard.Explain(body))
	}
	c := completion{answers: make([]model.Answer, len(w.Choices))}
	// By index if every choice has one of its own, else as they come.
	byIndex, taken := true, make([]bool, len(w.Choices))
	for _, ch := range w.Choices {
		if ch.Index < 0 || ch.Index >= len(taken) || taken[ch.Index] {
			byIndex = false
			break
		}
		taken[ch.Index] = true
	}
	silent := true
	for i, ch := range w.Choices {
		a := model.Answer{Text: string(ch.Message.Content)}
		if ch.FinishReason != nil {
			a.Finish = finish(*ch.FinishReason)
		}
		if a.Text == "" && ch.Message.Refusal != nil && *ch.Message.Refusal != "" {
			a = model.Answer{Text: *ch.Message.Refusal, Finish: model.FinishFilter}
		}
		// Nothing, because it was filtered or cut off, says enough.
		silent = silent && strings.TrimSpace(a.Text) == "" && a.Finish != model.FinishFilter && a.Finish != model.FinishLength
		if byIndex {
			i = ch.Index
		}
		c.answers[i] = a
	}
	if silent {
		return completion{}, fmt.Errorf("%w: empty answer", model.ErrRejected)
	}
	if w.Usage != nil {
		c.promptTokens, c.completionTokens = count(w.Usage.PromptTokens), count(w.Usage.CompletionTokens)
	}
	return c, nil
}

// count is a token count as an int, 0 where it makes no sense.
func count(f float64) int {
	if f > 0 && f < 1<<40 {
		return int(f)
	}
	return 0
}

// finish maps the words in use to the reasons of package model.
func finish(reason string) model.Finish {
	switch strings.ToLower(reason) {
	case "stop", "eos", "eos_token", "end_turn", "stop_sequence":
		return model.FinishStop
	case "length", "max_tokens", "max_length", "model_length":
		return model.FinishLength
	case "content_filter", "refusal", "safety":
		return model.FinishFilter
	}
	return model.FinishUnknown
}

// decodeImage reads the first picture of an images answer, with whether a safety checker replaced it.
func decodeImage(body []byte) (data []byte, flagged bool, err error) {
	var w struct {
		Data []struct {
			B64JSON *image `json:"b64_json"`
			URL     string `json:"url"`
			NSFW    *bool  `json:"nsfw_content_detected"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &w); err != nil {
		return nil, false, fmt.Errorf("not an images answer: %w: %s", err, guard.Explain(body))
	}
	if len(w.Data) == 0 {
		return nil, false, fmt.Errorf("no pictures: %s", guard.Explain(body))
	}
	first := w.Data[0]
	if first.B64JSON == nil {
		if first.URL != "" {
			return nil, false, fmt.Errorf("%w: the server sends addresses instead of pictures; it must support response_format b64_json", model.ErrConfig)
		}
		return nil, false, errors.New("no picture in b64_json")
	}
	return *first.B64JSON, first.NSFW != nil && *first.NSFW, nil
}

// image is base64, with or without "data:image/png;base64," before it.
type image []byte

// UnmarshalJSON implements json.Unmarshaler.
func (p *image) UnmarshalJSON(b []byte) error {
	if bytes.HasPrefix(b, []byte(`"data:`)) {
		_, after, found := bytes.Cut(b, []byte(";base64,"))
		if !found {
			return errors.New("data URL without base64")
		}
		b = append([]byte{'"'}, after...)
	}
	return json.Unmarshal(b, (*[]byte)(p))
}
