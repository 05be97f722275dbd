package train

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"

	"golang.org/x/sync/errgroup"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/scene"
)

// A Statistic compares one number of generated pictures with that of renderings of the same captions.
type Statistic struct {
	Name string `json:"name"`
	// Captions are how many are compared.
	Captions int `json:"captions"`
	// Correlation is Pearson's r of generated and rendered pictures over captions. Ceiling is that of two renderings of each
	// caption whose layouts are different, as no text says where things stand.
	Correlation float64 `json:"correlation"`
	Ceiling     float64 `json:"ceiling"`
	// Generated and Rendered are means.
	Generated float64 `json:"generated"`
	Rendered  float64 `json:"rendered"`
}

// statistics are what pictures are compared by, over captions that say enough for it.
var statistics = []struct {
	name  string
	of    func(m *scene.Measurement, raw string) float64
	taken func(raw string) bool
}{
	{"aesthetic", func(m *scene.Measurement, raw string) float64 { return m.Scores(raw).Aesthetic }, every},
	{"alignment", alignment, every},
	{"alignment, named subjects", alignment, named},
	{"total", func(m *scene.Measurement, raw string) float64 { return m.Scores(raw).Total() }, every},
	{"colourfulness", func(m *scene.Measurement, _ string) float64 { return m.Colourfulness }, every},
	{"contrast", func(m *scene.Measurement, _ string) float64 { return m.Contrast }, every},
	{"sharpness", func(m *scene.Measurement, _ string) float64 { return m.Sharpness }, every},
	{"brightness", func(m *scene.Measurement, _ string) float64 { return m.Brightness }, every},
	{"symmetry", func(m *scene.Measurement, _ string) float64 { return m.Symmetry }, every},
}

func alignment(m *scene.Measurement, raw string) float64 { return m.Scores(raw).Alignment }

func every(string) bool { return true }

// named leaves out things, whose hue is a hash of the words: no model can know it for new ones.
func named(raw string) bool { kind, _ := scene.Subject(raw); return kind != scene.Thing }

// Held are n captions of a part of the prompts, spread over the categories: a third without modifiers, a third with the
// prompt's own, a third with any. The subjects are as people wrote them.
func Held(prompts []Prompt, part Part, n int, seed uint64) ([]Caption, error) {
	c, err := NewCorpus(prompts, part)
	if err != nil {
		return nil, err
	}
	rng := rand.New(rand.NewPCG(seed, 0x68656c64)) // "held"
	out := make([]Caption, n)
	for i := range out {
		out[i] = c.Caption(rng, Mix{Bare: 1. / 3, Real: 1. / 3})
	}
	return out, nil
}

// ComparePictures draws each caption with m, as the tiny world's recipes do (20 steps of DDIM, guidance 2), and renders it,
// and compares what the oracle measures on both.
func ComparePictures(ctx context.Context, m model.Images, captions []Caption) ([]Statistic, error) {
	generated, rendered, other := make([]*scene.Measurement, len(captions)), make([]*scene.Measurement, len(captions)), make([]*scene.Measurement, len(captions))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(64)
	for i, c := range captions {
		group.Go(func() error {
			r, err := m.Draw(ctx, model.ImageRequest{
				Prompt: c.Full, Width: scene.Side, Height: scene.Side, Steps: 20, Guidance: 2, Scheduler: "ddim", Seed: int64(i),
			})
			if err != nil {
				return fmt.Errorf("draw %q: %w", c.Full, err)
			}
			img, err := scene.Decode(r.Data)
			if err != nil {
				return fmt.Errorf("draw %q: %w", c.Full, err)
			}
			generated[i] = scene.Measure(img)
			st := scene.Parse(c.Full, c.Raw)
			rendered[i] = scene.Measure(scene.Paint(st, scene.NewLayout(int64(i))))
			other[i] = scene.Measure(scene.Paint(st, scene.NewLayout(int64(len(captions)+i))))
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var out []Statistic
	for _, s := range statistics {
		var a, b, c []float64
		for i := range captions {
			if raw := captions[i].Raw; s.taken(raw) {
				a, b, c = append(a, s.of(generated[i], raw)), append(b, s.of(rendered[i], raw)), append(c, s.of(other[i], raw))
			}
		}
		r := Statistic{Name: s.name, Captions: len(a)}
		r.Correlation, r.Generated, r.Rendered = pearson(a, b)
		r.Ceiling, _, _ = pearson(b, c)
		out = append(out, r)
	}
	return out, nil
}

// pearson is the correlation of two series, and their means.
func pearson(a, b []float64) (r, meanA, meanB float64) {
	n := float64(len(a))
	for i := range a {
		meanA, meanB = meanA+a[i]/n, meanB+b[i]/n
	}
	var aa, bb, ab float64
	for i := range a {
		x, y := a[i]-meanA, b[i]-meanB
		aa, bb, ab = aa+x*x, bb+y*y, ab+x*y
	}
	return ab / math.Sqrt(aa*bb), meanA, meanB
}
