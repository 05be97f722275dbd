package fakeserver

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

type chatRequest struct {
	Model       string        `json:"model"`
	Messages    []chatMessage `json:"messages"`
	N           int           `json:"n"`
	Seed        int64         `json:"seed"`
	Temperature *float64      `json:"temperature"`
	TopP        float64       `json:"top_p"`
	MaxTokens   int           `json:"max_tokens"`
	Stop        []string      `json:"stop"`
}

type chatMessage struct {
	Role    string      `json:"role"`
	Content chatContent `json:"content"`
}

// chatContent is a text or an array of parts.
type chatContent []chatPart

type chatPart struct {
	Type     string `json:"type"`
	Text     string `json:"text"`
	ImageURL struct {
		URL string `json:"url"`
	} `json:"image_url"`
}

// UnmarshalJSON implements json.Unmarshaler.
func (c *chatContent) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		*c = chatContent{{Type: "text"}}
		return json.Unmarshal(b, &(*c)[0].Text)
	}
	return json.Unmarshal(b, (*[]chatPart)(c))
}

type chatChoice struct {
	Index   int `json:"index"`
	Message struct {
		Role    string `json:"role"`
		Content any    `json:"content"`
	} `json:"message"`
	FinishReason string `json:"finish_reason,omitempty"`
}

// chat answers a chat completion.
func chat(c Config, body []byte, f Fault) ([]byte, error) {
	var q chatRequest
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, err
	}
	greedy := q.Temperature != nil && *q.Temperature == 0
	n := max(q.N, 1)
	switch {
	case len(q.Messages) == 0:
		return nil, &refusal{http.StatusBadRequest, "messages must not be empty"}
	case c.MaxPromptBytes > 0 && len(body) > c.MaxPromptBytes:
		return nil, &refusal{http.StatusBadRequest, "This model's maximum context length is exceeded. Please reduce the length of the input prompt."}
	case c.VILA || c.NoN:
		n = 1
	case c.GreedyRefusesN && greedy && n > 1:
		return nil, &refusal{http.StatusBadRequest, fmt.Sprintf("n must be 1 when using greedy sampling, got %d.", n)}
	case c.MaxN > 0 && n > c.MaxN:
		return nil, &refusal{http.StatusBadRequest, fmt.Sprintf("Field 'n': Value must be between 1 <= value <= %d, but got %d", c.MaxN, n)}
	}
	p := read(c, q)
	if c.NoImages && p.pictures > 0 {
		return nil, &refusal{http.StatusInternalServerError, "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj"}
	}
	answer := map[string]any{"id": "chatcmpl-fake", "object": "chat.completion", "created": 1700000000, "model": q.Model}
	choices := make([]chatChoice, n)
	tokens := 0
	for i := range choices {
		draw := q.Seed + int64(i)
		if greedy || c.VILA || c.SameN || c.NoSeed && n == 1 {
			draw = 0
		} else if c.NoSeed {
			draw = int64(i)
		}
		text, used, finish := p.answer(draw, q.MaxTokens, q.Stop)
		tokens += used
		ch := &choices[i]
		ch.Index, ch.Message.Role, ch.Message.Content, ch.FinishReason = i, "assistant", text, finish
		if c.ContentParts || c.VILA {
			ch.Message.Content = []map[string]string{{"type": "text", "text": text}}
		}
		if c.NoFinish || c.VILA {
			ch.FinishReason = ""
		}
	}
	if f == Empty {
		choices = choices[:0]
	}
	answer["choices"] = choices
	if c.VILA {
		answer["created"] = 1700000000.25
	} else if !c.NoUsage {
		answer["usage"] = map[string]int{"prompt_tokens": p.tokens, "completion_tokens": tokens, "total_tokens": p.tokens + tokens}
	}
	if f == Damaged || f == Black || f == Bomb {
		return []byte("<html>"), nil
	}
	return json.Marshal(answer)
}

// A prompt is what the answers depend on.
type prompt struct {
	sum      [32]byte
	pictures int
	tokens   int
	// answers says that two texts are to be judged, not two pictures.
	answers bool
}

func read(c Config, q chatRequest) prompt {
	var p prompt
	h := sha256.New()
	var last string
	for _, m := range q.Messages {
		_, _ = fmt.Fprintf(h, "%q", m.Role)
		for _, part := range m.Content {
			if part.ImageURL.URL != "" {
				p.pictures++
				last = part.ImageURL.URL
				if !c.LastImageOnly {
					_, _ = fmt.Fprintf(h, "image %d %s", len(last), last)
				}
				continue
			}
			_, _ = fmt.Fprintf(h, "%q", part.Text)
			p.tokens += len(part.Text)/4 + 1
			p.answers = p.answers || strings.Contains(part.Text, "Answer A")
		}
	}
	if c.LastImageOnly {
		_, _ = h.Write([]byte(last))
	}
	var t float64 = 1
	if q.Temperature != nil {
		t = *q.Temperature
	}
	_, _ = fmt.Fprintf(h, "%g %g", t, q.TopP)
	p.tokens += 196 * p.pictures
	h.Sum(p.sum[:0])
	return p
}

var words = strings.Fields(`portrait of a lighthouse cinematic light at golden hour highly detailed concept art
	with sharp focus wide shot oil painting of misty forest and city neon rain under soft shadow volumetric
	rays intricate study in warm palette dramatic sky shot on 35mm lens`)

// answer is the text of one draw, how many tokens (words) it has, and why it ended.
func (p prompt) answer(draw int64, maxTokens int, stop []string) (string, int, string) {
	x := sha256.Sum256(fmt.Appendf(p.sum[:], "%d", draw))
	phrase := func(from, to int) string {
		ws := make([]string, 0, to-from)
		for _, b := range x[from:to] {
			ws = append(ws, words[int(b)%len(words)])
		}
		return strings.Join(ws, " ")
	}
	var text string
	switch {
	case p.answers:
		text = fmt.Sprintf("Output for Answer A:\nScore: %d\nExplanation: It calls the first image %s.\nOutput for Answer B:\nScore: %d\nExplanation: It finds %s.",
			1+x[0]%5, phrase(2, 10), 1+x[1]%5, phrase(10, 18))
	case p.pictures >= 2:
		text = fmt.Sprintf("Output for Image 1:\nScore: %d\nExplanation: The image shows %s.\nOutput for Image 2:\nScore: %d\nExplanation: Here is %s.",
			x[0]%6, phrase(2, 10), x[1]%6, phrase(10, 18))
	default:
		text = "a " + phrase(0, 24)
	}
	for _, s := range stop {
		if before, _, found := strings.Cut(text, s); found && s != "" {
			text = before
		}
	}
	used := strings.Count(text, " ") + strings.Count(text, "\n") + 1
	if maxTokens <= 0 || used <= maxTokens {
		return text, used, "stop"
	}
	at := 0
	for range maxTokens {
		at += 1 + strings.IndexAny(text[at:], " \n")
	}
	return text[:at-1], maxTokens, "length"
}
