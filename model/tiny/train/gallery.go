package train

import (
	"math"
	"math/rand/v2"

	"github.com/promptmill/promptmill/model/scene"
	"github.com/promptmill/promptmill/model/tokenizer"
)

// A gallery is a set of captions with their pictures, each a function of the seed and its number.
type gallery struct {
	seed   uint64
	mix    Mix
	corpus *Corpus
	words  *tokenizer.Tokenizer
	codec  *Codec
	taken  map[int]*example
	// mean and deviation are of what the renderer is told.
	mean, deviation [toldNumbers]float32
	// empty are the ids of no text.
	empty []int32
}

// example is what training needs of a picture. It is kept, because drawing costs more than memory.
type example struct {
	ids      []int32
	category int64
	told     [toldNumbers]float32
	hue      bool // the text says it: that of a thing is a hash, which no model can know
	latents  []float32
}

// newGallery measures its first pictures for the codec and for what is usual.
func newGallery(c T2IConfig, corpus *Corpus, words *tokenizer.Tokenizer) *gallery {
	g := &gallery{seed: c.Seed, mix: c.Mix, corpus: corpus, words: words, taken: map[int]*example{}}
	g.empty, _ = words.Window("", TextLength)
	pictures := make([]*scene.Image, c.CodecPictures)
	var squares [toldNumbers]float32
	n := float32(len(pictures))
	for i := range pictures {
		caption, layout := g.caption(i)
		pictures[i] = scene.Paint(scene.Parse(caption.Full, caption.Raw), layout)
		for j, v := range g.text(i).told {
			g.mean[j] += v / n
			squares[j] += v * v / n
		}
	}
	for j := range g.deviation {
		g.deviation[j] = float32(math.Sqrt(float64(max(0, squares[j]-g.mean[j]*g.mean[j])))) + 1e-3
	}
	g.codec = NewCodec(pictures)
	return g
}

// caption is number i.
func (g *gallery) caption(i int) (Caption, scene.Layout) {
	rng := rand.New(rand.NewPCG(g.seed, uint64(i)))
	return g.corpus.Caption(rng, g.mix), scene.NewLayout(rng.Int64())
}

// text is example i, perhaps without its picture.
func (g *gallery) text(i int) *example {
	e, ok := g.taken[i]
	if ok {
		return e
	}
	caption, _ := g.caption(i)
	st := scene.Parse(caption.Full, caption.Raw)
	e = &example{category: int64(st.Category)}
	e.ids, _ = g.words.Window(caption.Full, TextLength)
	sin, cos := math.Sincos(st.Hue * math.Pi / 180)
	e.told[0], e.told[1], e.told[2] = float32(sin), float32(cos), float32(st.Alpha)
	for j, v := range st.Style {
		e.told[3+j] = float32(v)
	}
	e.hue = st.Category != scene.Thing
	g.taken[i] = e
	return e
}

// picture is example i with its picture.
func (g *gallery) picture(i int) *example {
	e := g.text(i)
	if e.latents == nil {
		caption, layout := g.caption(i)
		e.latents = make([]float32, latentSize)
		g.codec.Latents(scene.Paint(scene.Parse(caption.Full, caption.Raw), layout), e.latents)
	}
	return e
}
