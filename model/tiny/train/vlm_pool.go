package train

import (
	"context"
	"fmt"
	"math/rand/v2"

	"golang.org/x/sync/errgroup"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/scene"
)

// A Drawer draws texts, each in the layout of its seed.
type Drawer func(ctx context.Context, texts []string, seeds []int64) ([]*scene.Image, error)

// Render is the Drawer of the world itself.
func Render(ctx context.Context, texts []string, seeds []int64) ([]*scene.Image, error) {
	out := make([]*scene.Image, len(texts))
	for i, t := range texts {
		out[i] = scene.Draw(t, seeds[i])
	}
	return out, ctx.Err()
}

// Generate draws with a model, as the tiny world's recipes do: 20 steps of DDIM, guidance 2.
func Generate(m model.Images) Drawer {
	return func(ctx context.Context, texts []string, seeds []int64) ([]*scene.Image, error) {
		out := make([]*scene.Image, len(texts))
		group, ctx := errgroup.WithContext(ctx)
		for i, text := range texts {
			group.Go(func() error {
				r, err := m.Draw(ctx, model.ImageRequest{
					Prompt: text, Width: scene.Side, Height: scene.Side, Steps: 20, Guidance: 2, Scheduler: "ddim", Seed: seeds[i],
				})
				if err == nil {
					out[i], err = scene.Decode(r.Data)
				}
				return err
			})
		}
		return out, group.Wait()
	}
}

// rowSize is how many pictures there are of a raw prompt: one of itself, the others of rewritings.
const rowSize = 4

// A Row is a raw prompt and pictures of it.
type Row struct {
	Raw      string
	Pictures [rowSize]Picture
}

// A Pool has rows of pictures with their facts, each drawn when it is first looked at. It is not safe for concurrent use.
type Pool struct {
	corpus *Corpus
	draw   Drawer
	worn   float64
	seed   uint64
	rows   []*Row
}

// NewPool has so many rows of the corpus's raw prompts. In half of them all pictures have one seed, as pictures that a judge
// compares have. In a share worn of the rows each picture is blended with another drawing of its text, and grained:
// what a generator draws is not as clean as what a renderer does.
func NewPool(c *Corpus, draw Drawer, rows int, worn float64, seed uint64) *Pool {
	return &Pool{c, draw, worn, seed, make([]*Row, rows)}
}

// Row is row i. Which it is depends on the seed and i alone.
func (p *Pool) Row(ctx context.Context, i int) (*Row, error) {
	if p.rows[i] != nil {
		return p.rows[i], nil
	}
	rng := rand.New(rand.NewPCG(p.seed, uint64(i)))
	raw, modifiers := p.corpus.raw(rng, .1)
	var texts [rowSize]string
	var seeds [rowSize]int64
	layout, one := rng.Int64N(1<<31), rng.IntN(2) == 0
	for k := range texts {
		texts[k] = Prompt{raw, p.corpus.rewriting(rng, modifiers, k)}.Text()
		if k > 0 && !one {
			layout = rng.Int64N(1 << 31)
		}
		seeds[k] = layout
	}
	images, err := p.draw(ctx, texts[:], seeds[:])
	if err != nil {
		return nil, fmt.Errorf("draw pictures of %q: %w", raw, err)
	}
	r := &Row{Raw: raw}
	spoilt := rng.Float64() < p.worn
	for k, img := range images {
		if spoilt {
			spoil(rng, img, scene.Draw(texts[k], rng.Int64N(1<<31)))
		}
		r.Pictures[k] = newPicture(img, raw)
	}
	p.rows[i] = r
	return r, nil
}

// Any is a row by chance.
func (p *Pool) Any(ctx context.Context, rng *rand.Rand) (*Row, error) {
	return p.Row(ctx, rng.IntN(len(p.rows)))
}

// Compare draws two pictures of a row and an aspect; aspect -1 is any.
func (p *Pool) Compare(ctx context.Context, rng *rand.Rand, aspect int) (*Comparison, error) {
	r, err := p.Any(ctx, rng)
	if err != nil {
		return nil, err
	}
	if aspect < 0 {
		aspect = rng.IntN(len(Aspects))
	}
	i, j := rng.IntN(rowSize), rng.IntN(rowSize-1)
	if j >= i {
		j++
	}
	return &Comparison{Raw: r.Raw, Aspect: aspect, Pictures: [2]*Picture{&r.Pictures[i], &r.Pictures[j]}}, nil
}

func spoil(rng *rand.Rand, img, other *scene.Image) {
	share, grain := float32(.5*rng.Float64()), .06*rng.Float64()
	for i, v := range img {
		v += share*(other[i]-v) + float32(grain*rng.NormFloat64())
		img[i] = min(max(v, 0), 1)
	}
}

// rewriting are the modifiers of picture k of a row: none, the prompt's own, then those of anybody.
func (c *Corpus) rewriting(rng *rand.Rand, own []string, k int) []string {
	const most = 9
	switch {
	case k == 0:
		return nil
	case k == 1 && len(own) > 0:
		return own[:min(len(own), most)]
	}
	modifiers := make([]string, 1+rng.IntN(most))
	for i := range modifiers {
		modifiers[i] = c.pool[rng.IntN(len(c.pool))]
	}
	return modifiers
}

// newPicture rounds img to 8 bits, as a file holds it, and measures that.
func newPicture(img *scene.Image, raw string) Picture {
	p := Picture{Pixels: new([3 * scene.Side * scene.Side]uint8)}
	var rounded scene.Image
	for i, v := range img {
		p.Pixels[i] = uint8(v*255 + .5)
		rounded[i] = float32(p.Pixels[i]) / 255
	}
	p.Facts = Look(&rounded, raw)
	return p
}
