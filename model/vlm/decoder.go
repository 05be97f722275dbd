package vlm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/promptmill/promptmill/model/onnx"
	"github.com/promptmill/promptmill/model/onnx/onnxfile"
)

// A decoder is the language model: it turns embeddings and a cache into logits and the next cache.
type decoder struct {
	session *onnx.Session
	inputs  []feed
	layers  int // tensors of the cache: keys and values
	heads   []int64
	dims    []int64
	logits  int   // the place of the logits among the outputs
	present []int // the place of each tensor of the next cache
	vocab   int64
	hidden  int64
	keeps   bool // whether it gives as many logits as asked for, not one for each token
	pool    *pool
	seen    ones
}

// ones is the mask of rows without padding, which every step takes a longer piece of.
type ones struct {
	mu  sync.Mutex
	all []int64
}

// first returns n ones, which must not be written to.
func (o *ones) first(n int) []int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.all) < n {
		o.all = slices.Repeat([]int64{1}, 2*n)
	}
	return o.all[:n]
}

// A feed says what an input of the graph is given.
type feed struct {
	role  string
	layer int
	port  onnxfile.Port
}

const pastPrefix = "past_key_values"

// newDecoder finds out what the graph takes and gives. Sizes that its shapes leave open come from config.json.
func newDecoder(s *onnx.Session, text textConfig, p *pool) (*decoder, error) {
	d := &decoder{session: s, logits: -1, pool: p}
	outputs := map[string]int{}
	for i, p := range s.Outputs() {
		outputs[p.Name] = i
		if p.Name == "logits" {
			d.logits = i
		}
	}
	if d.logits < 0 {
		return nil, errors.New("no output logits")
	}
	for _, p := range s.Inputs() {
		f := feed{role: p.Name, port: p}
		if layer, ok := strings.CutPrefix(p.Name, pastPrefix); ok {
			place, found := outputs["present"+layer]
			if !found {
				return nil, fmt.Errorf("input %s has no output present%s", p.Name, layer)
			}
			if p.Shape == nil || len(p.Shape.Dims) != 4 || p.Type != onnxfile.Float {
				return nil, fmt.Errorf("input %v: want a float [batch,heads,length,dim]", p)
			}
			f.role, f.layer = pastPrefix, d.layers
			d.layers++
			d.heads = append(d.heads, or(size(p, 1), text.KVHeads, text.Heads))
			d.dims = append(d.dims, or(size(p, 3), text.HeadDim, perHead(text)))
			d.present = append(d.present, place)
			if d.heads[f.layer] < 1 || d.dims[f.layer] < 1 {
				return nil, fmt.Errorf("input %v: neither its shape nor config.json says how many heads it has and how large they are", p)
			}
		}
		switch f.role {
		case "num_logits_to_keep":
			d.keeps = true
		case "inputs_embeds", pastPrefix, "attention_mask", "position_ids", "cache_position", "use_cache_branch":
		default:
			return nil, fmt.Errorf("input %v: not known; known are inputs_embeds, attention_mask, position_ids, cache_position, "+
				"num_logits_to_keep, use_cache_branch and %s.*", p, pastPrefix)
		}
		d.inputs = append(d.inputs, f)
	}
	switch {
	case !slices.ContainsFunc(d.inputs, func(f feed) bool { return f.role == "inputs_embeds" }):
		return nil, errors.New("no input inputs_embeds")
	case d.layers == 0:
		return nil, fmt.Errorf("no inputs %s.*: the graph has no cache", pastPrefix)
	}
	return d, nil
}

// size is the size of a dimension if the graph says it, else -1.
func size(p onnxfile.Port, dim int) int64 {
	if p.Shape == nil || dim >= len(p.Shape.Dims) || p.Shape.Dims[dim].Symbol != "" {
		return -1
	}
	return p.Shape.Dims[dim].Size
}

// or is the first that is positive.
func or(sizes ...int64) int64 {
	for _, n := range sizes {
		if n > 0 {
			return n
		}
	}
	return 0
}

func perHead(t textConfig) int64 {
	if t.Heads < 1 {
		return 0
	}
	return t.Hidden / t.Heads
}

// tokenBytes is what one place of one row takes in a cache.
func (d *decoder) tokenBytes() int64 {
	var n int64
	for i := range d.heads {
		n += 4 * d.heads[i] * d.dims[i]
	}
	return n
}

// A cache holds the keys and values of rows of equal length.
type cache struct {
	kv     []*array
	rows   int
	length int
}

func (c *cache) close() {
	for _, a := range c.kv {
		a.close()
	}
	c.kv = nil
}

// room makes a cache that holds anything.
func (d *decoder) room(rows, length int) (*cache, error) {
	c := &cache{rows: rows, length: length}
	for i := range d.layers {
		a, err := d.pool.array(int64(rows), d.heads[i], int64(length), d.dims[i])
		if err != nil {
			c.close()
			return nil, err
		}
		c.kv = append(c.kv, a)
	}
	return c, nil
}

// probe runs two tokens, to learn the sizes that no shape need say and whether the graphs fit one another.
func (d *decoder) probe(ctx context.Context, tokens *onnx.Tensor) error {
	d.hidden = tokens.Shape()[2]
	none, err := d.room(1, 0)
	if err != nil {
		return err
	}
	defer none.close()
	out := make([]*onnx.Tensor, len(d.session.Outputs()))
	if err := d.runInto(ctx, tokens, none, 1, out); err != nil {
		return err
	}
	defer onnx.CloseAll(out)
	for i, place := range d.present {
		if want := []int64{1, d.heads[i], 2, d.dims[i]}; !slices.Equal(out[place].Shape(), want) || out[place].Type() != onnxfile.Float {
			return fmt.Errorf("output %s is %v for two tokens, want float %v", d.session.Outputs()[place].Name, out[place], want)
		}
	}
	s := out[d.logits].Shape()
	if len(s) != 3 || s[0] != 1 || s[1] != d.places(2, 1) || out[d.logits].Type() != onnxfile.Float {
		return fmt.Errorf("output logits is %v for two tokens, want float [1,%d,...]", out[d.logits], d.places(2, 1))
	}
	d.vocab = s[2]
	return nil
}

// places is how many logits a row has after n tokens.
func (d *decoder) places(n, keep int) int64 {
	if d.keeps {
		return int64(keep)
	}
	return int64(n)
}

// run reads tokens, a tensor [rows, n, hidden] of embeddings, behind those in past. It returns logits [rows, m, vocab]
// whose last keep places are those of the last keep tokens, and the cache with the tokens in it. past is left as it is.
func (d *decoder) run(ctx context.Context, tokens *onnx.Tensor, past *cache, keep int) (*array, *cache, error) {
	n := int(tokens.Shape()[1])
	logits, err := d.pool.array(int64(past.rows), d.places(n, keep), d.vocab)
	if err != nil {
		return nil, nil, err
	}
	next, err := d.room(past.rows, past.length+n)
	if err != nil {
		logits.close()
		return nil, nil, err
	}
	out := make([]*onnx.Tensor, len(d.session.Outputs()))
	for i, place := range d.present {
		out[place] = next.kv[i].Tensor
	}
	out[d.logits] = logits.Tensor
	others := slices.Clone(out)
	if err := d.runInto(ctx, tokens, past, keep, out); err != nil {
		logits.close()
		next.close()
		return nil, nil, err
	}
	for i, t := range out { // what nobody asked for
		if others[i] == nil {
			t.Close()
		}
	}
	return logits, next, nil
}

func (d *decoder) runInto(ctx context.Context, tokens *onnx.Tensor, past *cache, keep int, out []*onnx.Tensor) error {
	inputs := make([]*onnx.Tensor, len(d.inputs))
	var own []*onnx.Tensor
	defer func() { onnx.CloseAll(own) }()
	for i, f := range d.inputs {
		switch f.role {
		case "inputs_embeds":
			inputs[i] = tokens
			continue
		case pastPrefix:
			inputs[i] = past.kv[f.layer].Tensor
			continue
		}
		t, err := d.small(f, past, int(tokens.Shape()[1]), keep)
		if err != nil {
			return err
		}
		inputs[i], own = t, append(own, t)
	}
	return d.session.RunInto(ctx, inputs, out)
}

// small makes the inputs that only count tokens.
func (d *decoder) small(f feed, past *cache, n, keep int) (*onnx.Tensor, error) {
	rows, total := past.rows, past.length+n
	switch f.role {
	case "attention_mask":
		return onnx.Integers(f.port.Type, d.seen.first(rows*total), int64(rows), int64(total))
	case "position_ids":
		places := make([]int64, 0, rows*n)
		for range rows {
			for i := range n {
				places = append(places, int64(past.length+i))
			}
		}
		return onnx.Integers(f.port.Type, places, int64(rows), int64(n))
	case "cache_position":
		places := make([]int64, n)
		for i := range places {
			places[i] = int64(past.length + i)
		}
		return onnx.Integers(f.port.Type, places, int64(n))
	case "num_logits_to_keep":
		if f.port.Shape != nil && len(f.port.Shape.Dims) == 1 {
			return onnx.Integers(f.port.Type, []int64{int64(keep)}, 1)
		}
		return onnx.Integers(f.port.Type, []int64{int64(keep)})
	}
	return onnx.NewTensor([]bool{past.length > 0}, 1) // use_cache_branch
}

// whole says whether rows are all of c's, in order.
func (c *cache) whole(rows []int) bool {
	for i, r := range rows {
		if r != i {
			return false
		}
	}
	return len(rows) == c.rows
}

// gather makes a cache of rows of others, which have one length: rows[i] is a row counted through all of them.
func (d *decoder) gather(rows []int, from ...*cache) (*cache, error) {
	out, err := d.room(len(rows), from[0].length)
	if err != nil {
		return nil, err
	}
	for layer, to := range out.kv {
		row := len(to.data) / len(rows)
		for i, r := range rows {
			c := 0
			for r >= from[c].rows {
				r -= from[c].rows
				c++
			}
			copy(to.data[i*row:(i+1)*row], from[c].kv[layer].data[r*row:])
		}
	}
	return out, nil
}

// lastRow is the logits of the last token of a row.
func lastRow(logits *array, row int) []float32 {
	s := logits.Shape()
	places, vocab := int(s[1]), int(s[2])
	end := (row + 1) * places * vocab
	return logits.data[end-vocab : end]
}
