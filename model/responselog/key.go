package responselog

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"sync"

	"github.com/promptmill/promptmill/model"
)

// A key names a request, without the number of answers and, for chat, without the seed.
type key [sha256.Size]byte

// prefix is what the index holds of a key; the record holds all of it.
func (k key) prefix() uint64 { return binary.LittleEndian.Uint64(k[:]) }

// fields is what a key is the digest of. Numbers have a fixed width and texts their length before
// them, so no two lists of fields share an encoding.
type fields []byte

// newFields begins a key. The first field is changed when the meaning of any other is.
func newFields(kind string, info model.Info) (fields, error) {
	if info.Weights == "" {
		return nil, fmt.Errorf("response log: %w: %s does not say which weights answer: set the model's revision, "+
			"or its answers cannot be told from another model's", model.ErrConfig, info.Name)
	}
	f := (*spareFields.Get().(*fields))[:0]
	f.text("promptmill response 1")
	f.text(kind)
	f.text(info.Weights)
	return f, nil
}

// spareFields are buffers to write fields in: a question is some kilobytes, and every call has a key.
var spareFields = sync.Pool{New: func() any { return new(fields) }}

func (f *fields) text(s string) {
	f.number(int64(len(s)))
	*f = append(*f, s...)
}

func (f *fields) number(n int64) { *f = binary.BigEndian.AppendUint64(*f, uint64(n)) }

func (f *fields) real(x float64) {
	f.number(int64(math.Float64bits(x + 0))) // -0 is 0
}

// key is the digest; f may not be used after it.
func (f *fields) key() key {
	defer spareFields.Put(f)
	return sha256.Sum256(*f)
}

func chatKey(info model.Info, req model.ChatRequest) (key, error) {
	f, err := newFields("chat", info)
	if err != nil {
		return key{}, err
	}
	f.text(req.Template)
	s := req.Sampling
	if s.TopP == 0 {
		s.TopP = 1
	}
	f.real(s.Temperature)
	f.real(s.TopP)
	f.number(int64(s.MaxTokens))
	f.number(int64(len(s.Stop)))
	for _, stop := range s.Stop {
		f.text(stop)
	}
	f.number(int64(len(req.Messages)))
	for _, m := range req.Messages {
		f.text(m.Role)
		f.number(int64(len(m.Parts)))
		for _, p := range m.Parts {
			if p.Picture != nil {
				f.text("picture")
				f.text(p.Picture.SHA256)
			} else {
				f.text("text")
				f.text(p.Text)
			}
		}
	}
	return f.key(), nil
}

func pictureKey(info model.Info, req model.ImageRequest) (key, error) {
	f, err := newFields("picture", info)
	if err != nil {
		return key{}, err
	}
	f.text(req.Prompt)
	f.text(req.NegativePrompt)
	f.number(int64(req.Width))
	f.number(int64(req.Height))
	f.number(int64(req.Steps))
	f.real(req.Guidance)
	f.text(req.Scheduler)
	f.number(req.Seed)
	return f.key(), nil
}

func scoreKey(info model.Info, req model.ScoreRequest) (key, error) {
	f, err := newFields("score", info)
	if err != nil {
		return key{}, err
	}
	f.text(req.Text)
	f.text(req.Picture.SHA256)
	return f.key(), nil
}
