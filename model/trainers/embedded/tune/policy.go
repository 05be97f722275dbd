package tune

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/onnx"
	"github.com/promptmill/promptmill/model/onnx/onnxfile"
	"github.com/promptmill/promptmill/model/trainers/embedded"
)

// ErrDiverged says that a loss, its gradient or another metric of a step is not a number.
var ErrDiverged = errors.New("the loss is not a number (NaN or infinite): lower the learning rate")

const (
	keepLogits = "num_logits_to_keep"
	pastPrefix = "past_key_values."
)

// Options say how a model is trained, apart from hyperparameters. The zero value is the default.
type Options struct {
	// Threads of one run; 0 is 1. The last bits of the weights may depend on it.
	Threads int
	// MicroBatch is how many rows a graph takes at a time; 0 is 4. Larger batches are accumulated.
	MicroBatch int
	// Freeze finds the weights that are not trained, by their names behind "vision/", "embed/" or "decoder/".
	Freeze *regexp.Regexp
}

// A Policy is a model folder in training. It is not safe for concurrent use.
type Policy struct {
	folder        string
	options       Options
	parts         []*part // embeddings, vision, decoder
	tokens        onnxfile.Port
	pixels        onnxfile.Port
	decoderInputs []onnxfile.Port
	params        *embedded.Params
	longest       int // row, in tokens; 0: any

	sessions  map[kind]*onnx.Session
	gradients map[shape]*list.Element
	recent    *list.List // of *compiled, the latest first
}

// shape is what a gradient is compiled for.
type shape struct {
	kind
	rows, length, kept, perRow int
}

type compiled struct {
	shape
	*embedded.Gradient
}

// graphs is how many gradients are kept: each holds the memory of its activations.
const graphs = 8

// OpenPolicy reads the graphs of a folder in the layout of onnx-community's exports. longest bounds rows, in tokens; 0
// does not. Graphs are of ONNX's own operators 16 to 21, with the weights inside; what else they hold shows when the first
// step is taken.
func OpenPolicy(folder string, longest int, o Options) (*Policy, error) {
	if o.MicroBatch == 0 {
		o.MicroBatch = 4
	}
	p := &Policy{
		folder: folder, options: o, longest: longest,
		sessions: map[kind]*onnx.Session{}, gradients: map[shape]*list.Element{}, recent: list.New(),
	}
	var models []*onnxfile.Model
	for _, g := range []struct{ name, prefix string }{{embedGraph, "embed/"}, {visionGraph, "vision/"}, {decoderGraph, "decoder/"}} {
		var tied *part
		if g.name == decoderGraph {
			tied = p.parts[0]
		}
		part, err := readPart(folder, g.name, g.prefix, tied)
		if err != nil {
			return nil, fmt.Errorf("train: %w", err)
		}
		p.parts, models = append(p.parts, part), append(models, part.renamed)
	}
	if err := p.connect(); err != nil {
		return nil, fmt.Errorf("train: %s: %w", folder, err)
	}
	var err error
	if p.params, err = embedded.NewParams(p.trained(models), models...); err != nil {
		return nil, fmt.Errorf("train: %s: %w", folder, err)
	}
	if p.params.Count() == 0 {
		p.Close()
		return nil, fmt.Errorf("train: %s: no weights of float or float16 to train: take the model that is not quantised, and look at freeze", folder)
	}
	return p, nil
}

// trained leaves out what is frozen, and single numbers, which exporters write for constants.
func (p *Policy) trained(models []*onnxfile.Model) func(string) bool {
	single := map[string]bool{}
	for _, m := range models {
		for _, t := range m.Graph.Initializers {
			n, err := t.Elements()
			single[t.Name] = err == nil && n == 1
		}
	}
	return func(name string) bool {
		return !single[name] && (p.options.Freeze == nil || !p.options.Freeze.MatchString(name))
	}
}

// connect looks whether the graphs take what they will be given.
func (p *Policy) connect() error {
	port := func(part *part, rank int) (onnxfile.Port, error) {
		s := part.original.Summary()
		if len(s.Inputs) != 1 || s.Inputs[0].Shape == nil || len(s.Inputs[0].Shape.Dims) != rank {
			return onnxfile.Port{}, fmt.Errorf("%s: takes %v; want one input of rank %d", part.path, s.Inputs, rank)
		}
		return s.Inputs[0], nil
	}
	var err error
	if p.tokens, err = port(p.parts[0], 2); err != nil {
		return err
	}
	if p.pixels, err = port(p.parts[1], 4); err != nil {
		return err
	}
	for _, d := range p.pixels.Shape.Dims[2:] {
		if d.Size < 1 {
			return fmt.Errorf("%s: input %v: the size of pictures must be fixed", p.parts[1].path, p.pixels)
		}
	}
	decoder := p.parts[2]
	p.decoderInputs = decoder.original.Summary().Inputs
	for _, in := range p.decoderInputs {
		known := slices.Contains([]string{"inputs_embeds", "attention_mask", "position_ids", "cache_position", keepLogits}, in.Name)
		past := strings.HasPrefix(in.Name, pastPrefix)
		switch {
		case !known && !past || in.Shape == nil:
			return fmt.Errorf("%s: input %v is not known", decoder.path, in)
		case past && (len(in.Shape.Dims) != 4 || in.Shape.Dims[1].Size < 1 || in.Shape.Dims[3].Size < 1):
			return fmt.Errorf("%s: input %v: its shape must say the heads and their size", decoder.path, in)
		}
	}
	for _, name := range []string{"inputs_embeds", "logits"} {
		has := func(p onnxfile.Port) bool { return p.Name == name }
		if !slices.ContainsFunc(p.decoderInputs, has) && !slices.ContainsFunc(decoder.original.Summary().Outputs, has) {
			return fmt.Errorf("%s: neither an input nor an output %s", decoder.path, name)
		}
	}
	return nil
}

// keeps says whether the decoder gives only as many logits as it is asked for.
func (p *Policy) keeps() bool {
	return slices.ContainsFunc(p.decoderInputs, func(in onnxfile.Port) bool { return in.Name == keepLogits })
}

// Params are the weights in training.
func (p *Policy) Params() *embedded.Params { return p.params }

// Close frees the graphs and weights.
func (p *Policy) Close() {
	for _, s := range p.sessions {
		s.Close()
	}
	for e := p.recent.Front(); e != nil; e = e.Next() {
		e.Value.(*compiled).Close()
	}
	p.params.Close()
}

// LogProbs are the log-probabilities of the rows' answers, in the rows' order, under the weights that the folder has.
func (p *Policy) LogProbs(ctx context.Context, rows []Row) ([][]float32, error) {
	out := make([][]float32, len(rows))
	for _, c := range plan(rows, 2*p.options.MicroBatch, p.longest) {
		if err := p.score(ctx, c.fill(rows), out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (p *Policy) score(ctx context.Context, c filled, out [][]float32) error {
	s, err := p.session(kind{scoring, c.pictures > 0})
	if err != nil {
		return err
	}
	f, err := p.inputs(c)
	if err != nil {
		return err
	}
	defer f.close()
	if set(f, &err, "counted", c.counted, c.answers*c.size, c.kept); err != nil {
		return err
	}
	var inputs []*onnx.Tensor
	for _, port := range s.Inputs() {
		inputs = append(inputs, f[port.Name])
	}
	results, err := s.Run(ctx, inputs)
	if err != nil {
		return err
	}
	defer results[0].Close()
	logp := onnx.Data[float32](results[0])
	for i, row := range c.rows {
		for a := range c.answers {
			out[row] = append(out[row], logp[a*c.size+i])
		}
	}
	return nil
}

// session is the graph that scores with the weights of the folder.
func (p *Policy) session(k kind) (*onnx.Session, error) {
	if s := p.sessions[k]; s != nil {
		return s, nil
	}
	m, err := p.compose(k)
	if err != nil {
		return nil, err
	}
	s, err := onnx.Load(m, "log-probabilities", onnx.Options{Threads: p.options.Threads})
	if err == nil {
		p.sessions[k] = s
	}
	return s, err
}

// An Objective is what a step lowers.
type Objective struct {
	// Method is model.MethodSFT: the mean negative log-likelihood of the answers' tokens. Or it is model.MethodDPO: the mean
	// over pairs of -log sigmoid(Beta (log-ratio of chosen - log-ratio of rejected)) + NLLAlpha times the mean negative
	// log-likelihood of the chosen answer's tokens.
	Method         string
	Beta, NLLAlpha float64
}

// Step lowers the objective on a batch by one step of the optimiser. The result has loss and gradient_norm (before clipping),
// for DPO also accuracy (of the implied reward), margin (of it, with Beta), chosen and rejected (log-probabilities), nll (of
// the chosen, per token) and kl: the mean of reference minus policy log-probability of both answers, which estimates the
// divergence of the policy from the reference where the answers were drawn from it. All are means over the batch.
//
// The error wraps ErrDiverged if one of them is not a number.
func (p *Policy) Step(ctx context.Context, o Objective, batch []Row, how embedded.AdamW, rate float64) (map[string]float64, error) {
	chunks := plan(batch, p.options.MicroBatch, p.longest)
	share := 1 / float64(len(batch))
	if o.Method == model.MethodSFT {
		tokens := 0
		for _, r := range batch {
			tokens += len(r.Answers[0])
		}
		share = 1 / float64(tokens)
	}
	share *= float64(len(chunks)) // the optimiser takes the mean of what the chunks give
	metrics := map[string]float64{}
	for _, c := range chunks {
		values, err := p.run(ctx, o, c.fill(batch), float32(share))
		if err != nil {
			return nil, err
		}
		for name, v := range values {
			metrics[name] += float64(v) / float64(len(chunks))
		}
	}
	metrics["gradient_norm"] = p.params.Step(how, rate)
	for _, v := range metrics {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, ErrDiverged
		}
	}
	if right, ok := metrics["accuracy"]; ok { // a count, of which the shares' rounding is no part
		metrics["accuracy"] = math.Round(right*float64(len(batch))) / float64(len(batch))
	}
	return metrics, nil
}

// run adds the gradients of a chunk.
func (p *Policy) run(ctx context.Context, o Objective, c filled, share float32) (map[string]float32, error) {
	f, err := p.inputs(c)
	if err != nil {
		return nil, err
	}
	defer f.close()
	rows := c.answers * c.size
	k := kind{tuning, c.pictures > 0}
	shares := slices.Clone(c.counted)
	if o.Method == model.MethodDPO {
		k.objective = choosing
		pairs, reference := make([]float32, c.size), make([]float32, rows)
		for i := range c.rows {
			pairs[i] = share
		}
		for i, r := range c.of {
			reference[i], reference[c.size+i] = r.Reference[0], r.Reference[1]
			for at := i * c.kept; at < (i+1)*c.kept; at++ {
				shares[at] *= share / float32(len(r.Answers[0]))
			}
		}
		clear(shares[c.size*c.kept:])
		set(f, &err, "counted", c.counted, rows, c.kept)
		set(f, &err, "reference", reference, 2, c.size)
		set(f, &err, "pairs", pairs, c.size)
		set(f, &err, "beta", []float32{float32(o.Beta)}, 1)
		set(f, &err, "alpha", []float32{float32(o.NLLAlpha)}, 1)
	} else {
		for i := range shares {
			shares[i] *= share
		}
	}
	if set(f, &err, "shares", shares, rows, c.kept); err != nil {
		return nil, err
	}
	g, err := p.gradient(shape{k, rows, c.length(), c.kept, c.pictures}, f)
	if err != nil {
		return nil, err
	}
	return g.Run(ctx, f)
}

// gradient compiles what is not there yet and forgets what was not used for the longest time.
func (p *Policy) gradient(s shape, example feeds) (*embedded.Gradient, error) {
	if e := p.gradients[s]; e != nil {
		p.recent.MoveToFront(e)
		return e.Value.(*compiled).Gradient, nil
	}
	m, err := p.compose(s.kind)
	if err != nil {
		return nil, err
	}
	g, err := embedded.Compile(m, "loss", p.params, maps.Clone(example), p.options.Threads)
	if err != nil {
		return nil, err
	}
	if p.recent.Len() == graphs {
		last := p.recent.Remove(p.recent.Back()).(*compiled)
		delete(p.gradients, last.shape)
		last.Close()
	}
	p.gradients[s] = p.recent.PushFront(&compiled{s, g})
	return g, nil
}
