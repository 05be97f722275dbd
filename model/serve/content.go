package serve

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/promptmill/promptmill/model"
)

// message is OpenAI's: content is a text, a list of parts, or null.
type message struct {
	Role    string          `json:"role"`
	Content json.RawMessage `json:"content"`
	Name    json.RawMessage `json:"name"` // changes no answer here
}

type part struct {
	Type     string    `json:"type"`
	Text     *string   `json:"text"`
	ImageURL *imageURL `json:"image_url"`
}

type imageURL struct {
	URL    string          `json:"url"`
	Detail json.RawMessage `json:"detail"` // the model takes what it takes
}

// messages reads and checks a conversation, its pictures too.
func (s *Server) messages(in []message) ([]model.Message, error) {
	if len(in) == 0 {
		return nil, wrong("messages", "there are none")
	}
	left := s.cfg.MaxPictures
	out := make([]model.Message, len(in))
	for i, m := range in {
		at := fmt.Sprintf("messages[%d]", i)
		switch m.Role {
		case "system", "user", "assistant":
		case "developer": // OpenAI's later name
			m.Role = "system"
		default:
			return nil, wrong(at+".role", "%q is not system, user or assistant", m.Role)
		}
		parts, err := s.content(at+".content", m.Content, &left)
		if err != nil {
			return nil, err
		}
		out[i] = model.Message{Role: m.Role, Parts: parts}
	}
	return out, nil
}

// content reads one message's; left counts the pictures that may still come.
func (s *Server) content(at string, raw json.RawMessage, left *int) ([]model.Part, error) {
	switch {
	case len(raw) == 0 || string(raw) == "null":
		return []model.Part{{}}, nil
	case raw[0] == '"':
		var text string
		if err := strict(at, raw, &text); err != nil {
			return nil, err
		}
		return []model.Part{{Text: text}}, nil
	case raw[0] != '[':
		return nil, wrong(at, "neither a text nor a list of parts")
	}
	var list []json.RawMessage
	if err := strict(at, raw, &list); err != nil {
		return nil, err
	}
	out := make([]model.Part, len(list))
	for i, raw := range list {
		at := fmt.Sprintf("%s[%d]", at, i)
		var p part
		if err := strict(at, raw, &p); err != nil {
			return nil, err
		}
		switch {
		case p.Type == "text" && p.Text != nil:
			out[i].Text = *p.Text
		case p.Type == "image_url" && p.ImageURL != nil:
			if *left--; *left < 0 {
				return nil, wrong(at, "more than %d pictures in a request", s.cfg.MaxPictures)
			}
			picture, err := s.picture(at+".image_url", p.ImageURL.URL)
			if err != nil {
				return nil, err
			}
			out[i].Picture = &picture
		default:
			return nil, wrong(at, `type is %q; send {"type":"text","text":...} or {"type":"image_url","image_url":{"url":...}}`, p.Type)
		}
	}
	return out, nil
}

// picture reads a data URL (RFC 2397). What it says of its type is not believed.
func (s *Server) picture(at, url string) (model.Picture, error) {
	head, text, found := strings.Cut(url, ",")
	head, isData := strings.CutPrefix(head, "data:")
	if !found || !isData || !strings.HasSuffix(head, ";base64") {
		return model.Picture{}, wrong(at, "send the picture itself, as data:image/png;base64,...; this server fetches nothing from elsewhere")
	}
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return model.Picture{}, wrong(at, "%v", err)
	}
	sum := sha256.Sum256(data)
	if !s.sound.has(sum) {
		if _, err := model.Inspect(data, model.PictureLimits{MaxPixels: s.cfg.MaxPixels}); err != nil {
			f := wrong(at, "%v", err)
			f.Code = "invalid_image"
			return model.Picture{}, f
		}
		s.sound.add(sum)
	}
	s.metrics.read.Inc()
	return model.Picture{
		SHA256: hex.EncodeToString(sum[:]),
		Bytes:  func(context.Context) ([]byte, error) { return data, nil },
	}, nil
}

// sound remembers the digests of pictures that passed: a judge is shown the same few again and again,
// and to decode one takes longer than all else here.
type sound struct {
	mu      sync.Mutex
	digests map[[sha256.Size]byte]struct{}
}

// maxSound bounds the memory of them, to about a megabyte.
const maxSound = 1 << 14

func (s *sound) has(sum [sha256.Size]byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.digests[sum]
	return ok
}

func (s *sound) add(sum [sha256.Size]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.digests == nil || len(s.digests) == maxSound {
		s.digests = map[[sha256.Size]byte]struct{}{}
	}
	s.digests[sum] = struct{}{}
}
