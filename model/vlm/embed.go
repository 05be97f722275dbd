package vlm

import (
	"context"
	"errors"
	"fmt"

	"github.com/promptmill/promptmill/model/onnx"
	"github.com/promptmill/promptmill/model/onnx/onnxfile"
)

// An embedder is the table of the tokens' embeddings.
type embedder struct {
	session *onnx.Session
	hidden  int64
	pool    *pool
}

func newEmbedder(s *onnx.Session, p *pool) (*embedder, error) {
	in, out := s.Inputs(), s.Outputs()
	if len(in) != 1 || len(out) != 1 || in[0].Type != onnxfile.Int64 || out[0].Type != onnxfile.Float {
		return nil, errors.New("want one input of int64, the tokens, and one output of float")
	}
	return &embedder{session: s, pool: p}, nil
}

// probe returns the embeddings of the tokens 0 and 0, which say how long one is.
func (e *embedder) probe(ctx context.Context) (*onnx.Tensor, error) {
	in, err := onnx.NewTensor([]int64{0, 0}, 1, 2)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	out, err := e.session.Run(ctx, []*onnx.Tensor{in})
	if err != nil {
		return nil, err
	}
	s := out[0].Shape()
	if len(s) != 3 || s[0] != 1 || s[1] != 2 {
		defer out[0].Close()
		return nil, fmt.Errorf("gives %v for two tokens, want float [1,2,...]", out[0])
	}
	e.hidden = s[2]
	return out[0], nil
}

// embed returns the embeddings [rows, n, hidden] of ids, row by row.
func (e *embedder) embed(ctx context.Context, ids []int32, rows int) (*array, error) {
	wide := make([]int64, len(ids))
	for i, id := range ids {
		wide[i] = int64(id)
	}
	in, err := onnx.NewTensor(wide, int64(rows), int64(len(ids)/rows))
	if err != nil {
		return nil, err
	}
	defer in.Close()
	out, err := e.pool.array(int64(rows), int64(len(ids)/rows), e.hidden)
	if err != nil {
		return nil, err
	}
	if err := e.session.RunInto(ctx, []*onnx.Tensor{in}, []*onnx.Tensor{out.Tensor}); err != nil {
		out.close()
		return nil, err
	}
	return out, nil
}

// embedPrompt is the embeddings of prompts of one length, with their pictures' features in place.
func (m *Model) embedPrompt(ctx context.Context, prompts []*prompt) (*array, error) {
	var ids []int32
	for _, p := range prompts {
		ids = append(ids, p.ids...)
	}
	t, err := m.embed.embed(ctx, ids, len(prompts))
	if err != nil {
		return nil, err
	}
	hidden := int(m.embed.hidden)
	place := 0
	for _, p := range prompts {
		rest := p.features
		for _, id := range p.ids {
			if id == m.settings.image.token && len(rest) > 0 {
				copy(t.data[place*hidden:(place+1)*hidden], rest[0])
				rest = rest[1:]
			}
			place++
		}
	}
	return t, nil
}
