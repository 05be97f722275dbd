package train

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/promptmill/promptmill/model/onnx"
	"github.com/promptmill/promptmill/model/onnx/onnxfile"
	"github.com/promptmill/promptmill/model/scene"
	"github.com/promptmill/promptmill/model/tokenizer"
	"github.com/promptmill/promptmill/model/trainers/embedded"
)

const (
	padToken int32 = 0
	endToken int32 = 2
)

// counted says which tokens of the answer count.
func (t task) counted(words *tokenizer.Tokenizer) []bool {
	out := make([]bool, len(t.answer))
	for i := range out {
		out[i] = t.after == nil
	}
	for _, w := range t.after {
		last := words.Encode(w, false)
		for i := range t.answer[1:] {
			out[i+1] = out[i+1] || t.answer[i] == last[len(last)-1]
		}
	}
	return out
}

// A lesson is a kind of example in batches of one shape, and the gradient of its loss.
type lesson struct {
	phase    Phase
	share    float64 // of the steps of its stage
	loss     string  // what is told
	fill     func(context.Context, *rand.Rand) error
	batch    batch
	graph    *onnxfile.Model
	gradient *embedded.Gradient
}

// A shape is that of a batch of texts: rows, the tokens of a prompt and of the longest answer, the end included.
type shape struct{ rows, prompt, answer int }

// The shapes of the lessons.
var (
	languageShape = shape{32, vlmBucket, maxRewriting + 3}
	rewriteShape  = shape{32, vlmBucket, maxRewriting + 1}
	evaluateShape = shape{32, vlmBucket, 32}
	judgeShape    = shape{16, 3 * vlmBucket, 68}
)

// drawTask makes an example by chance.
type drawTask func(context.Context, *rand.Rand) (task, error)

// textLesson draws tasks. Those that do not fit the shape are drawn anew.
func textLesson(m *chatModel, phase Phase, share float64, s shape, pictures bool, draw drawTask) *lesson {
	l := &lesson{phase: phase, share: share, loss: "loss", batch: batch{feeds: map[string]*onnx.Tensor{}}}
	l.graph = textLoss(m.weights, s.rows, s.prompt, s.answer, pictures)
	length := s.prompt + s.answer - 1
	ids, targets := input[int64](&l.batch, "ids", int64(s.rows), int64(length)), input[int64](&l.batch, "targets", int64(s.rows), int64(s.answer))
	var seen pictureRows
	if pictures {
		l.loss, seen = "text", newPictureRows(&l.batch, 2*s.rows)
	}
	l.fill = func(ctx context.Context, rng *rand.Rand) error {
		clear(ids)
		for i := range targets {
			targets[i] = ignored
		}
		for row := 0; row < s.rows; {
			t, err := draw(ctx, rng)
			if err != nil {
				return err
			}
			prompt, answer := t.prompt, t.answer
			if len(prompt) != s.prompt || len(answer) > s.answer {
				continue
			}
			text := ids[row*length:][:length]
			for i, id := range prompt {
				text[i] = int64(id)
			}
			counted := t.counted(m.words)
			for i, id := range answer {
				if counted[i] {
					targets[row*s.answer+i] = int64(id)
				}
				if i < len(answer)-1 {
					text[len(prompt)+i] = int64(id)
				}
			}
			for k, p := range t.pictures {
				seen.put(2*row+k, p)
			}
			row++
		}
		return nil
	}
	return l
}

// towerLesson draws pictures.
func towerLesson(m *chatModel, pool *Pool) *lesson {
	const rows = 96
	l := &lesson{phase: TowerPhase, share: 1, loss: "loss", batch: batch{feeds: map[string]*onnx.Tensor{}}, graph: towerLoss(m.weights, rows)}
	seen := newPictureRows(&l.batch, rows)
	l.fill = func(ctx context.Context, rng *rand.Rand) error {
		for i := range rows {
			r, err := pool.Any(ctx, rng)
			if err != nil {
				return err
			}
			seen.put(i, &r.Pictures[rng.IntN(rowSize)])
		}
		return nil
	}
	return l
}

// pictureRows are pictures as the tower takes them, and their statistics.
type pictureRows struct{ pixels, statistics []float32 }

func newPictureRows(b *batch, n int) pictureRows {
	return pictureRows{input[float32](b, "pixels", int64(n), 3, scene.Side, scene.Side), input[float32](b, "statistics", int64(n), Statistics)}
}

func (r pictureRows) put(i int, p *Picture) {
	const area = scene.Side * scene.Side
	out := r.pixels[i*3*area:][:3*area]
	for j, v := range p.Pixels {
		out[j%3*area+j/3] = (float32(v)/255 - .5) / .25
	}
	copy(r.statistics[i*Statistics:], p.Facts.Statistics[:])
}

// open compiles the gradient.
func (l *lesson) open(p *embedded.Params, threads int) error {
	if l.batch.err != nil {
		return fmt.Errorf("lesson %s: %w", l.phase, l.batch.err)
	}
	var err error
	if l.gradient, err = embedded.Compile(l.graph, "loss", p, l.batch.feeds, threads); err != nil {
		return fmt.Errorf("lesson %s: %w", l.phase, err)
	}
	return nil
}

func (l *lesson) close() {
	l.batch.close()
	if l.gradient != nil {
		l.gradient.Close()
	}
}

// run adds the gradients of a new batch and returns its loss.
func (l *lesson) run(ctx context.Context, rng *rand.Rand) (float64, error) {
	if err := l.fill(ctx, rng); err != nil {
		return 0, err
	}
	values, err := l.gradient.Run(ctx, l.batch.feeds)
	return float64(values[l.loss]), err
}
