package vlm

import (
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/onnx"
	"github.com/promptmill/promptmill/model/onnx/onnxfile"
)

// A vision encoder turns a picture into the vectors that stand in its places among the embeddings. It keeps what it
// computed last: a judge sees each picture with several questions.
type vision struct {
	session  *onnx.Session
	pixels   int // places among the inputs; mask is -1 without one
	mask     int
	rank     int
	pictures *pictureConfig
	hidden   int64

	mu      sync.Mutex
	known   map[string]*list.Element // by digest
	recent  *list.List               // of *seen, the latest first
	bytes   int64
	atMost  int64
	pending map[string]chan struct{}
}

type seen struct {
	digest   string
	features [][]float32
	bytes    int64
}

func newVision(s *onnx.Session, pictures *pictureConfig, hidden, atMost int64) (*vision, error) {
	v := &vision{
		session: s, pixels: -1, mask: -1, pictures: pictures, hidden: hidden, atMost: atMost,
		known: map[string]*list.Element{}, recent: list.New(), pending: map[string]chan struct{}{},
	}
	for i, p := range s.Inputs() {
		switch {
		case p.Name == "pixel_values" && p.Type == onnxfile.Float && p.Shape != nil && (len(p.Shape.Dims) == 4 || len(p.Shape.Dims) == 5):
			v.pixels, v.rank = i, len(p.Shape.Dims)
			side := v.rank - 2
			width, height := pictures.size()
			for j, want := range []int{3, height, width} {
				if got := size(p, side-1+j); got >= 0 && got != int64(want) {
					return nil, fmt.Errorf("input %v: preprocessor_config.json makes pictures of 3 x %d x %d", p, height, width)
				}
			}
		case p.Name == "pixel_attention_mask":
			v.mask = i
		default:
			return nil, fmt.Errorf("input %v: not known; known are pixel_values, float of rank 4 or 5, and pixel_attention_mask", p)
		}
	}
	if v.pixels < 0 {
		return nil, errors.New("no input pixel_values")
	}
	return v, nil
}

// features returns the vectors of a picture. slots bounds what is computed at a time.
func (v *vision) features(ctx context.Context, p model.Picture, slots chan struct{}) ([][]float32, error) {
	var data []byte
	digest := p.SHA256
	if digest == "" {
		var err error
		if data, err = p.Bytes(ctx); err != nil {
			return nil, err
		}
		sum := sha256.Sum256(data)
		digest = hex.EncodeToString(sum[:])
	}
	for {
		known, wait := v.look(digest)
		if known != nil {
			return known, nil
		}
		if wait == nil {
			break
		}
		select {
		case <-wait: // whoever computed it may have failed: look again
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	features, err := func() ([][]float32, error) {
		if data == nil {
			var err error
			if data, err = p.Bytes(ctx); err != nil {
				return nil, err
			}
		}
		img, err := model.Decode(data, model.PictureLimits{})
		if err != nil {
			return nil, fmt.Errorf("picture %.12s: %w", digest, err)
		}
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		return v.encode(ctx, v.pictures.prepare(img))
	}()
	v.keep(digest, features)
	return features, err
}

// look returns what is known of a picture, or what to wait for, or neither: then the caller computes it and calls keep.
func (v *vision) look(digest string) ([][]float32, chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if e, ok := v.known[digest]; ok {
		v.recent.MoveToFront(e)
		return e.Value.(*seen).features, nil
	}
	if wait, ok := v.pending[digest]; ok {
		return nil, wait
	}
	v.pending[digest] = make(chan struct{})
	return nil, nil
}

func (v *vision) keep(digest string, features [][]float32) {
	v.mu.Lock()
	defer v.mu.Unlock()
	close(v.pending[digest])
	delete(v.pending, digest)
	if features == nil {
		return
	}
	s := &seen{digest: digest, features: features}
	for _, f := range features {
		s.bytes += int64(4 * len(f))
	}
	v.known[digest] = v.recent.PushFront(s)
	v.bytes += s.bytes
	for v.bytes > v.atMost && v.recent.Len() > 1 {
		last := v.recent.Remove(v.recent.Back()).(*seen)
		delete(v.known, last.digest)
		v.bytes -= last.bytes
	}
}

// probe runs a black picture, to see what comes out.
func (v *vision) probe(ctx context.Context) error {
	width, height := v.pictures.size()
	_, err := v.encode(ctx, make([]float32, 3*width*height))
	return err
}

// encode runs the encoder on one picture, [3, height, width].
func (v *vision) encode(ctx context.Context, pixels []float32) ([][]float32, error) {
	width, height := v.pictures.size()
	shape := []int64{1, 3, int64(height), int64(width)}
	if v.rank == 5 { // pictures of one conversation
		shape = append([]int64{1}, shape...)
	}
	in := make([]*onnx.Tensor, len(v.session.Inputs()))
	defer func() { onnx.CloseAll(in) }()
	var err error
	if in[v.pixels], err = onnx.NewTensor(pixels, shape...); err != nil {
		return nil, err
	}
	if v.mask >= 0 {
		if in[v.mask], err = pixelMask(v.session.Inputs()[v.mask], height, width); err != nil {
			return nil, err
		}
	}
	out, err := v.session.Run(ctx, in)
	if err != nil {
		return nil, err
	}
	defer onnx.CloseAll(out)
	s := out[0].Shape()
	if len(s) < 2 || out[0].Type() != onnxfile.Float || s[len(s)-1] != v.hidden {
		return nil, fmt.Errorf("gives %v, want float vectors of %d as those of the tokens", out[0], v.hidden)
	}
	n := int(s[len(s)-1])
	data := onnx.Data[float32](out[0])
	features := make([][]float32, len(data)/n)
	all := append([]float32(nil), data...)
	for i := range features {
		features[i] = all[i*n : (i+1)*n]
	}
	return features, nil
}

// pixelMask says that every pixel counts.
func pixelMask(p onnxfile.Port, height, width int) (*onnx.Tensor, error) {
	shape := []int64{1, 1, int64(height), int64(width)}
	if p.Shape != nil && len(p.Shape.Dims) == 3 {
		shape = shape[1:]
	}
	if p.Type == onnxfile.Bool {
		mask := make([]bool, height*width)
		for i := range mask {
			mask[i] = true
		}
		return onnx.NewTensor(mask, shape...)
	}
	mask := make([]int64, height*width)
	for i := range mask {
		mask[i] = 1
	}
	return onnx.Integers(p.Type, mask, shape...)
}
