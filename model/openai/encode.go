package openai

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/promptmill/promptmill/model"
)

// encode writes the request but for n, seed and the closing brace: requests that share the
// pictures share the bytes.
func (c *chat) encode(ctx context.Context, req model.ChatRequest) ([]byte, error) {
	size := 1024 + len(c.extra)
	for _, m := range req.Messages {
		for _, p := range m.Parts {
			size += 128 + len(p.Text) + len(p.Text)/16 // some bytes are escaped
		}
	}
	b := append(make([]byte, 0, size), `{"model":`...)
	b = appendString(b, c.name)
	b = append(b, `,"messages":[`...)
	for i, m := range req.Messages {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"role":`...)
		b = appendString(b, m.Role)
		b = append(b, `,"content":`...)
		var err error
		if b, err = appendContent(ctx, b, m.Parts); err != nil {
			return nil, err
		}
		b = append(b, '}')
	}
	b = append(b, `],"temperature":`...)
	b = appendFloat(b, req.Sampling.Temperature)
	if p := req.Sampling.TopP; p != 0 && p != 1 {
		b = append(b, `,"top_p":`...)
		b = appendFloat(b, p)
	}
	if n := req.Sampling.MaxTokens; n > 0 {
		b = append(b, `,"max_tokens":`...)
		b = strconv.AppendInt(b, int64(n), 10)
	}
	for i, s := range req.Sampling.Stop {
		b = append(b, []string{`,"stop":[`, `,`}[min(i, 1)]...)
		b = appendString(b, s)
	}
	if len(req.Sampling.Stop) > 0 {
		b = append(b, ']')
	}
	if c.beams > 0 && req.Sampling.Temperature == 0 {
		b = append(b, `,"use_beam_search":true,"n":`...) // vLLM: n is the number of beams
		b = strconv.AppendInt(b, int64(c.beams), 10)
	}
	return append(b, c.extra...), nil
}

// appendContent writes one text as a string, which every server takes, and anything else as parts.
func appendContent(ctx context.Context, b []byte, parts []model.Part) ([]byte, error) {
	if len(parts) == 1 && parts[0].Picture == nil {
		return appendString(b, parts[0].Text), nil
	}
	b = append(b, '[')
	for i, p := range parts {
		if i > 0 {
			b = append(b, ',')
		}
		if p.Picture == nil {
			b = append(b, `{"type":"text","text":`...)
			b = append(appendString(b, p.Text), '}')
			continue
		}
		data, err := p.Picture.Bytes(ctx)
		if err != nil {
			return nil, fmt.Errorf("read picture %s: %w", p.Picture.SHA256, err)
		}
		kind := http.DetectContentType(data)
		if kind != "image/png" && kind != "image/jpeg" && kind != "image/webp" {
			return nil, fmt.Errorf("%w: picture %s is %s, not PNG, JPEG or WebP", model.ErrRejected, p.Picture.SHA256, kind)
		}
		b = append(b, `{"type":"image_url","image_url":{"url":"data:`...)
		b = append(b, kind...)
		b = append(b, `;base64,`...)
		b = base64.StdEncoding.AppendEncode(b, data)
		b = append(b, `"}}`...)
	}
	return append(b, ']'), nil
}

// finishChat copies an encoded request and closes it. n is left out if 1, the seed if negative.
func finishChat(b []byte, n int, seed int64) []byte {
	out := append(make([]byte, 0, len(b)+48), b...)
	if n > 1 {
		out = append(out, `,"n":`...)
		out = strconv.AppendInt(out, int64(n), 10)
	}
	if seed >= 0 {
		out = append(out, `,"seed":`...)
		out = strconv.AppendInt(out, seed, 10)
	}
	return append(out, '}')
}

// appendString writes s as a JSON string. It copies what needs no escape in whole stretches: a question is
// some kilobytes of plain text, and encoding/json would look at each rune and copy it twice.
func appendString(b []byte, s string) []byte {
	s = strings.ToValidUTF8(s, "\uFFFD")
	b = append(b, '"')
	from := 0
	for i := range len(s) {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		default:
			b = fmt.Appendf(b, `\u%04x`, c)
		}
	}
	b = append(b, s[from:]...)
	return append(b, '"')
}

func appendFloat(b []byte, f float64) []byte { return strconv.AppendFloat(b, f, 'g', -1, 64) }
