package clip

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/onnx"
	"github.com/promptmill/promptmill/model/tokenizer"
)

func init() { model.Register("clip", model.Backend{Scorer: openScorer}) }

// Options say how a folder is scored with. The zero value runs it on one thread of the CPU.
type Options struct {
	onnx.Options
	// LogitScale is what cosines are multiplied by; 0 is 100, to which OpenAI's and OpenCLIP's models and PickScore were
	// trained: it is the bound of that weight, which no tower's graph holds.
	LogitScale float64
	// MaxBatch bounds the pictures or texts that go through a tower together; 0 is 16.
	MaxBatch int
	// Parallel bounds the batches computed at a time; 0 is 1.
	Parallel int
}

// A Model is a CLIP in ONNX, ready to score. It is a model.Scorer, safe for concurrent use.
type Model struct {
	info          model.Info
	tokenizer     *tokenizer.Tokenizer
	text, picture *encoder
	tokens        int
	scale         float64
	batch         int
	slots         chan struct{}
}

// Open loads the folder of a CLIP: text_model.onnx and vision_model.onnx, as onnx-community names the two towers, or
// text.onnx and vision.onnx, there or in onnx/, and its tokenizer's files. PickScore exported so is a folder too. A folder
// whose preprocessor_config.json prepares pictures in another way than Preprocess is refused. Errors wrap ErrFolder,
// onnxfile.ErrModel or onnx.ErrLibrary.
func Open(folder string, o Options) (*Model, error) {
	m, err := load(folder, o)
	if err != nil {
		m.Close()
		return nil, fmt.Errorf("clip: %w", err)
	}
	return m, nil
}

// load returns what was loaded, also with an error.
func load(folder string, o Options) (*Model, error) {
	m := &Model{scale: o.LogitScale, batch: o.MaxBatch, slots: make(chan struct{}, max(1, o.Parallel))}
	if m.scale == 0 {
		m.scale = 100
	}
	if m.batch == 0 {
		m.batch = 16
	}
	text, err := graph(folder, "text_model.onnx", "text.onnx")
	if err != nil {
		return m, err
	}
	vision, err := graph(folder, "vision_model.onnx", "vision.onnx")
	if err != nil {
		return m, err
	}
	if err := CheckProcessor(folder); err != nil {
		return m, err
	}
	if m.tokenizer, err = tokenizer.Open(folder); err != nil {
		return m, fmt.Errorf("%w: %w", ErrFolder, err)
	}
	if m.text, err = open(text, "text_embeds", o.Options); err != nil {
		return m, err
	}
	if err := m.text.fitText(); err != nil {
		return m, fmt.Errorf("%w: %s: %w", ErrFolder, text, err)
	}
	if m.tokens, err = m.text.tokens(m.tokenizer); err != nil {
		return m, fmt.Errorf("%s: %w", text, err)
	}
	if m.picture, err = open(vision, "image_embeds", o.Options); err != nil {
		return m, err
	}
	if err := m.picture.fitVision(); err != nil {
		return m, fmt.Errorf("%w: %s: %w", ErrFolder, vision, err)
	}
	digest, err := onnx.Digest(folder)
	if err != nil {
		return m, err
	}
	m.info = model.Info{
		Name:          "clip " + filepath.Base(filepath.Clean(folder)),
		Weights:       fmt.Sprintf("%s*%g", digest, m.scale), // another scale gives other scores
		Deterministic: m.text.session.OnCPU(),
	}
	return m, nil
}

// Info names the folder; Weights is a digest of its files, with the scale. On a CPU the model is deterministic.
func (m *Model) Info() model.Info { return m.info }

// Close frees the model. Nothing may use it then.
func (m *Model) Close() {
	for _, e := range []*encoder{m.text, m.picture} {
		if e != nil {
			e.session.Close()
		}
	}
}

// Score returns the cosine of the embeddings of each text and its picture, times the logit scale. Texts beyond the
// tower's length are cut off. A picture that cannot be decoded is model.ErrRejected and model.ErrBadPicture.
func (m *Model) Score(ctx context.Context, reqs []model.ScoreRequest) ([]float64, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	out := make([]float64, len(reqs))
	for first := 0; first < len(reqs); first += m.batch {
		if err := m.score(ctx, reqs[first:min(len(reqs), first+m.batch)], out[first:]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// score scores a batch into out. A text or picture that comes more than once is computed once.
func (m *Model) score(ctx context.Context, reqs []model.ScoreRequest, out []float64) error {
	var texts []string
	var pixels []float32
	pictures := map[string]int{}
	row := make([]struct{ text, picture int }, len(reqs))
	for i, r := range reqs {
		if row[i].text = slices.Index(texts, r.Text); row[i].text < 0 {
			row[i].text = len(texts)
			texts = append(texts, r.Text)
		}
		at, seen := pictures[r.Picture.SHA256]
		if !seen || r.Picture.SHA256 == "" {
			in, err := read(ctx, r.Picture)
			if err != nil {
				return err
			}
			at = len(pixels) / len(in)
			pictures[r.Picture.SHA256] = at
			pixels = append(pixels, in...)
		}
		row[i].picture = at
	}
	select {
	case m.slots <- struct{}{}:
		defer func() { <-m.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	t, err := m.encodeTexts(ctx, texts)
	if err != nil {
		return err
	}
	p, err := m.encodePictures(ctx, pixels)
	if err != nil {
		return err
	}
	for i, r := range row {
		a, b := t[r.text], p[r.picture]
		if len(a) != len(b) {
			return fmt.Errorf("%w: clip: the text tower gives %d numbers, the picture tower %d: they are not of one model", model.ErrConfig, len(a), len(b))
		}
		out[i] = m.scale * cosine(a, b)
		if math.IsNaN(out[i]) {
			return fmt.Errorf("clip: the score of picture %s is not a number; half precision may have overflowed", reqs[i].Picture.SHA256)
		}
	}
	return nil
}

// read is a picture as the tower takes it.
func read(ctx context.Context, p model.Picture) ([]float32, error) {
	data, err := p.Bytes(ctx)
	if err != nil {
		return nil, fmt.Errorf("clip: read picture %s: %w", p.SHA256, err)
	}
	img, err := model.Decode(data, model.PictureLimits{})
	if err != nil {
		return nil, fmt.Errorf("clip: picture %s: %w: %w", p.SHA256, model.ErrRejected, err)
	}
	return Preprocess(img).Values(), nil
}

func cosine(a, b []float32) float64 {
	var ab, aa, bb float64
	for i := range a {
		x, y := float64(a[i]), float64(b[i])
		ab, aa, bb = ab+x*y, aa+x*x, bb+y*y
	}
	return ab / math.Sqrt(aa*bb)
}

func (m *Model) encodeTexts(ctx context.Context, texts []string) ([][]float32, error) {
	var ids, mask []int64
	for _, text := range texts {
		window, seen := m.tokenizer.Window(text, m.tokens)
		for i, id := range window {
			ids, mask = append(ids, int64(id)), append(mask, int64(seen[i]))
		}
	}
	var in []*onnx.Tensor
	defer func() { onnx.CloseAll(in) }()
	for _, p := range m.text.session.Inputs() {
		values := ids
		if p.Name == "attention_mask" {
			values = mask
		}
		t, err := onnx.Integers(p.Type, values, int64(len(texts)), int64(m.tokens))
		if err != nil {
			return nil, err
		}
		in = append(in, t)
	}
	return m.text.run(ctx, in, len(texts))
}

func (m *Model) encodePictures(ctx context.Context, pixels []float32) ([][]float32, error) {
	n := len(pixels) / (3 * Side * Side)
	in, err := onnx.NewTensor(pixels, int64(n), 3, Side, Side)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	return m.picture.run(ctx, []*onnx.Tensor{in}, n)
}

// run gives the embedding of each row.
func (e *encoder) run(ctx context.Context, in []*onnx.Tensor, rows int) ([][]float32, error) {
	out, err := e.session.Run(ctx, in)
	if err != nil {
		return nil, err
	}
	defer onnx.CloseAll(out)
	all := onnx.Data[float32](out[e.out])
	if s := out[e.out].Shape(); len(s) != 2 || s[0] != int64(rows) {
		return nil, fmt.Errorf("%w: clip: %s gives %v for %d rows", model.ErrConfig, e.session.Outputs()[e.out].Name, out[e.out], rows)
	}
	size := len(all) / rows
	each := make([][]float32, rows)
	for i := range each {
		each[i] = slices.Clone(all[i*size : (i+1)*size])
	}
	return each, nil
}

// openScorer opens the folder that the spec's model names.
func openScorer(_ context.Context, spec model.Spec) (model.Scorer, error) {
	if spec.Model == "" {
		return nil, fmt.Errorf("%w: clip: set model to the folder of a CLIP in ONNX", model.ErrConfig)
	}
	o, err := ParseOptions(spec.Options)
	if err != nil {
		return nil, err
	}
	m, err := Open(spec.Model, o)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", model.ErrConfig, err)
	}
	return m, nil
}

// ParseOptions reads the options of a Spec: logit_scale, max_batch, parallel, and those of onnx.Options. Its errors wrap
// model.ErrConfig.
func ParseOptions(given map[string]string) (o Options, err error) {
	readers := o.Readers()
	readers["max_batch"], readers["parallel"] = model.Positive(&o.MaxBatch), model.Positive(&o.Parallel)
	readers["logit_scale"] = func(value string) error {
		n, err := strconv.ParseFloat(value, 64)
		if err != nil || !(n > 0) || math.IsInf(n, 0) {
			return fmt.Errorf("%q is not a number above 0", value)
		}
		o.LogitScale = n
		return nil
	}
	err = model.ReadOptions(given, readers)
	return o, err
}
