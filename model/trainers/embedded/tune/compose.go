package tune

import (
	"fmt"
	"slices"
	"strings"

	"github.com/promptmill/promptmill/model/onnx/build"
	"github.com/promptmill/promptmill/model/onnx/onnxfile"
)

// What a composed graph computes beside the log-probabilities of answers.
const (
	scoring  = "score"
	tuning   = "sft"
	choosing = "dpo"
)

// A kind is one of the graphs that are composed of the folder's.
type kind struct {
	objective string
	pictures  bool
}

// compose joins the folder's graphs, with an empty cache, and puts an objective on the logits. Rows are answers; the first
// half of those of a DPO graph are chosen, the second half rejected.
//
//	embed/input_ids [rows, length], decoder/..., targets [rows, kept]
//	with pictures: vision/pixel_values [pictures, 3, height, width], places [rows x length]
//	score: counted [rows, kept] -> logp [rows]
//	sft:   shares [rows, kept] -> loss
//	dpo:   counted, shares [rows, kept], reference [2, pairs], pairs [pairs], beta, alpha [1] -> loss and what dpo lists
//
// The logits that count are the last ones of each row; targets are the tokens that come after them.
func (p *Policy) compose(k kind) (*onnxfile.Model, error) {
	embed, vision, decoder := p.parts[0], p.parts[1], p.parts[2]
	parts := []*part{embed, decoder}
	if k.pictures {
		parts = []*part{embed, vision, decoder}
	}
	m := *embed.renamed
	m.Graph = &onnxfile.Graph{Name: "promptmill"}
	have := map[string]bool{}
	for _, part := range parts {
		if err := sameOperators(embed, part); err != nil {
			return nil, err
		}
		if part == decoder {
			m.Graph.Nodes = append(m.Graph.Nodes, p.joint(k.pictures)...)
		}
		m.Graph.Nodes = append(m.Graph.Nodes, part.renamed.Graph.Nodes...)
		for _, t := range part.renamed.Graph.Initializers {
			if !have[t.Name] {
				have[t.Name] = true
				m.Graph.Initializers = append(m.Graph.Initializers, t)
			}
		}
	}
	b := build.From(&m, "tune/")
	for _, part := range parts {
		for _, port := range part.original.Summary().Inputs {
			if name := part.prefix + port.Name; name != inputsEmbeds {
				b.Input(name, port.Type, free(name, port.Shape)...)
			}
		}
	}
	if k.pictures {
		b.Input("places", onnxfile.Int64, "all places")
	}
	c := composer{b}
	nll := c.likelihood(decoder.prefix+"logits", !p.keeps())
	switch k.objective {
	case scoring:
		b.Output("logp", c.op("Neg", c.sum(c.op("Mul", nll, b.Input("counted", onnxfile.Float, "rows", "kept")), 1)), onnxfile.Float, "rows")
	case tuning:
		b.Output("loss", c.total(c.op("Mul", nll, b.Input("shares", onnxfile.Float, "rows", "kept"))), onnxfile.Float, 1)
	case choosing:
		c.preference(nll)
	}
	return b.Model(), nil
}

// joint puts the pictures' features in the places of the image tokens: places says for each token where its vector is among
// all embeddings and, behind them, all features.
func (p *Policy) joint(pictures bool) []*onnxfile.Node {
	tokens := p.parts[0].prefix + p.parts[0].original.Graph.Outputs[0].Name
	node := func(op, output string, inputs ...string) *onnxfile.Node {
		return &onnxfile.Node{Name: "joint/" + op + "/" + output, Op: op, Inputs: inputs, Outputs: []string{output}}
	}
	if !pictures {
		return []*onnxfile.Node{node("Identity", inputsEmbeds, tokens)}
	}
	shape := onnxfile.NewInt64("", []int64{1}, []int64{-1})
	constant, concat := node("Constant", "joint/-1"), node("Concat", "joint/rows", "joint/-1", "joint/width")
	constant.Attributes = []*onnxfile.Attribute{build.Tensor("value", shape)}
	concat.Attributes = []*onnxfile.Attribute{build.Int("axis", 0)}
	width, table := node("Shape", "joint/width", tokens), node("Concat", "joint/table", "joint/tokens", "joint/features")
	width.Attributes = []*onnxfile.Attribute{build.Int("start", 2)}
	table.Attributes = []*onnxfile.Attribute{build.Int("axis", 0)}
	return []*onnxfile.Node{
		constant, width, concat,
		node("Reshape", "joint/tokens", tokens, "joint/rows"),
		node("Reshape", "joint/features", p.parts[1].prefix+p.parts[1].original.Graph.Outputs[0].Name, "joint/rows"),
		table,
		node("Gather", "joint/vectors", "joint/table", "places"),
		node("Shape", "joint/shape", tokens),
		node("Reshape", inputsEmbeds, "joint/vectors", "joint/shape"),
	}
}

// sameOperators: nodes of different versions cannot be in one graph.
func sameOperators(a, b *part) error {
	versions := func(p *part) map[string]int64 { return p.original.Summary().Opsets }
	for domain, v := range versions(b) {
		if domain != "" {
			if slices.ContainsFunc(b.original.Graph.Nodes, func(n *onnxfile.Node) bool { return n.Domain == domain }) {
				return fmt.Errorf("%s uses operators of %s, which cannot be trained here: export it with ONNX's own only", b.path, domain)
			}
			continue
		}
		if v != versions(a)[""] {
			return fmt.Errorf("%s is of operator set %d, %s of %d: export them alike", a.path, versions(a)[""], b.path, v)
		}
	}
	return nil
}

// free are dimensions as Input takes them; those that are not fixed get names of their own, since equal names of different
// graphs mean different sizes.
func free(name string, s *onnxfile.Shape) []any {
	if s == nil {
		return nil
	}
	dims := make([]any, len(s.Dims))
	for i, d := range s.Dims {
		if dims[i] = int(d.Size); d.Symbol != "" || d.Size <= 0 {
			dims[i] = fmt.Sprintf("%s_%d", strings.ReplaceAll(name, "/", "_"), i)
		}
	}
	return dims
}

// composer writes the objectives.
type composer struct{ *build.Builder }

func (c composer) op(op string, inputs ...string) string { return c.Op(op, inputs) }

func (c composer) sum(x string, axis int64) string {
	return c.Op("ReduceSum", []string{x, c.Ints(axis)}, build.Int("keepdims", 0))
}

// total is the sum of all elements, [1].
func (c composer) total(x string) string {
	return c.op("Reshape", c.Op("ReduceSum", []string{x}, build.Int("keepdims", 0)), c.Ints(1))
}

// likelihood is the negative log-likelihood of the targets, [rows, kept].
func (c composer) likelihood(logits string, cut bool) string {
	targets := c.Input("targets", onnxfile.Int64, "rows", "kept")
	if cut { // the graph gives all logits
		logits = c.op("Slice", logits, c.Input("first", onnxfile.Int64, 1), c.Ints(1<<40), c.Ints(1))
	}
	vocabulary := c.Op("Shape", []string{logits}, build.Int("start", 2))
	flat := c.op("Reshape", logits, c.Op("Concat", []string{c.Ints(-1), vocabulary}, build.Int("axis", 0)))
	nll := c.Op("SoftmaxCrossEntropyLoss", []string{flat, c.op("Reshape", targets, c.Ints(-1))}, build.String("reduction", "none"))
	return c.op("Reshape", nll, c.op("Shape", targets))
}

// preference is the loss of Direct Preference Optimization (Rafailov et al. 2023, equation 7) with a share of the negative
// log-likelihood of the chosen answers. All outputs are sums weighted by pairs.
func (c composer) preference(nll string) {
	logp := c.op("Neg", c.sum(c.op("Mul", nll, c.Input("counted", onnxfile.Float, "rows", "kept")), 1))
	both := c.op("Reshape", logp, c.Ints(2, -1))
	gain := c.op("Sub", both, c.Input("reference", onnxfile.Float, 2, "pairs"))
	of := func(x string, i int64) string { return c.op("Gather", x, c.Index(i)) }
	share := c.Input("pairs", onnxfile.Float, "pairs")
	weighted := func(x string) string { return c.total(c.op("Mul", share, x)) }

	margin := c.op("Mul", c.op("Sub", of(gain, 0), of(gain, 1)), c.Input("beta", onnxfile.Float, 1))
	loss := weighted(c.op("Softplus", c.op("Neg", margin)))
	chosen := c.total(c.op("Mul", nll, c.Input("shares", onnxfile.Float, "rows", "kept")))
	loss = c.op("Add", loss, c.op("Mul", chosen, c.Input("alpha", onnxfile.Float, 1)))
	right := c.Op("Cast", []string{c.op("Greater", margin, c.Scalar(0))}, build.Int("to", int64(onnxfile.Float)))
	for _, o := range []struct{ name, value string }{
		{"loss", loss},
		{"margin", weighted(margin)},
		{"accuracy", weighted(right)},
		{"chosen", weighted(of(both, 0))},
		{"rejected", weighted(of(both, 1))},
		{"nll", chosen},
		{"kl", c.op("Mul", weighted(c.op("Add", of(gain, 0), of(gain, 1))), c.Scalar(-.5))},
	} {
		c.Output(o.name, o.value, onnxfile.Float, 1)
	}
}
