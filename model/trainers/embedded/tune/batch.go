package tune

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/promptmill/promptmill/model/onnx"
	"github.com/promptmill/promptmill/model/onnx/onnxfile"
)

// A Row is a prompt with the answer to learn, or with the chosen and the rejected one.
type Row struct {
	// Prompt are the tokens as the decoder reads them, those that stand for pictures included.
	Prompt []int32
	// Slots are the places in Prompt of the pictures' features, in order.
	Slots []int
	// Pictures give the pixels, [3, height, width] each, whenever the row is used.
	Pictures []func() ([]float32, error)
	// Answers are tokens, the end included.
	Answers [][]int32
	// Reference are the answers' log-probabilities under the reference (DPO only).
	Reference []float32
}

// grain is what lengths are rounded up to: graphs are compiled for each shape.
const grain = 16

// span is where the logits of a row begin that count, and how many there are: of the tokens from the prompt's last to the
// one before the answer's last. Both are rounded so that few differ.
func (r Row) span() (first, kept int) {
	last := len(r.Prompt) - 1
	if first = len(r.Prompt)/grain*grain - 1; first < 0 {
		first = last
	}
	return first, roundUp(last - first + r.longest())
}

func (r Row) longest() int {
	n := 0
	for _, a := range r.Answers {
		n = max(n, len(a))
	}
	return n
}

func roundUp(n int) int { return (n + grain - 1) / grain * grain }

// A chunk is rows that one graph takes together.
type chunk struct {
	rows        []int // in the batch
	size        int   // at least as many: the graph is for so many rows
	first, kept int
	pictures    int // of each row
}

func (c chunk) length() int { return c.first + c.kept }

// plan cuts a batch into chunks of at most most rows each, of one beginning and number of pictures, the longest first.
// Smaller rests are filled up to a half or a quarter of most: there are few shapes.
func plan(batch []Row, most, longest int) []chunk {
	type key struct{ first, pictures int }
	groups := map[key][]int{}
	var keys []key
	for i, r := range batch {
		first, _ := r.span()
		k := key{first, len(r.Pictures)}
		if groups[k] == nil {
			keys = append(keys, k)
		}
		groups[k] = append(groups[k], i)
	}
	slices.SortFunc(keys, func(a, b key) int { return cmp.Or(a.pictures-b.pictures, a.first-b.first) })
	var out []chunk
	for _, k := range keys {
		g := groups[k]
		kept := func(i int) int { _, n := batch[i].span(); return n }
		slices.SortStableFunc(g, func(a, b int) int { return kept(b) - kept(a) })
		for part := range slices.Chunk(g, most) {
			c := chunk{rows: part, size: most, first: k.first, kept: kept(part[0]), pictures: k.pictures}
			for half := most / 2; half >= max(1, most/4) && half >= len(part); half /= 2 {
				c.size = half
			}
			if longest > 0 {
				c.kept = min(c.kept, longest-c.first)
			}
			out = append(out, c)
		}
	}
	return out
}

// feeds are what a composed graph is given.
type feeds map[string]*onnx.Tensor

func (f feeds) close() {
	for _, t := range f {
		t.Close()
	}
}

// set adds a tensor. The first error stays.
func set[E onnx.Element](f feeds, err *error, name string, data []E, shape ...int) {
	dims := make([]int64, len(shape))
	for i, n := range shape {
		dims[i] = int64(n)
	}
	t, e := onnx.NewTensor(data, dims...)
	if e != nil {
		*err = cmp.Or(*err, fmt.Errorf("feed %s: %w", name, e))
		return
	}
	f[name] = t
}

// counts are integers in the type that the graph wants them in.
func (f feeds) counts(err *error, name string, port onnxfile.Port, values []int64, shape ...int) {
	switch port.Type {
	case onnxfile.Int32:
		narrow := make([]int32, len(values))
		for i, v := range values {
			narrow[i] = int32(v)
		}
		set(f, err, name, narrow, shape...)
	case onnxfile.Float:
		wide := make([]float32, len(values))
		for i, v := range values {
			wide[i] = float32(v)
		}
		set(f, err, name, wide, shape...)
	default:
		set(f, err, name, values, shape...)
	}
}

// A filled chunk holds, for each of its answers, tokens from the beginning, targets and where they count.
type filled struct {
	chunk
	of       []Row // the rows, those that fill up included
	answers  int   // of each row
	ids      []int64
	mask     []int64
	targets  []int64
	counted  []float32
	position []int64
}

// fill lays out the rows of a chunk: first all first answers, then all second ones. A row that only fills up counts nothing.
func (c chunk) fill(batch []Row) filled {
	f := filled{chunk: c, answers: len(batch[c.rows[0]].Answers)}
	for i := range c.size {
		f.of = append(f.of, batch[c.rows[min(i, len(c.rows)-1)]])
	}
	n, length := f.answers*c.size, c.length()
	f.ids, f.mask, f.position = make([]int64, n*length), make([]int64, n*length), make([]int64, n*length)
	f.targets, f.counted = make([]int64, n*c.kept), make([]float32, n*c.kept)
	for row := range n {
		r, answer := f.of[row%c.size], f.of[row%c.size].Answers[row/c.size]
		for i := range length {
			at := row*length + i
			f.position[at] = int64(i)
			switch {
			case i < len(r.Prompt):
				f.ids[at], f.mask[at] = int64(r.Prompt[i]), 1
			case i < len(r.Prompt)+len(answer)-1:
				f.ids[at], f.mask[at] = int64(answer[i-len(r.Prompt)]), 1
			}
		}
		for i, id := range answer {
			at := row*c.kept + len(r.Prompt) - 1 - c.first + i
			f.targets[at] = int64(id)
			if row%c.size < len(c.rows) {
				f.counted[at] = 1
			}
		}
	}
	return f
}

// inputs are what the folder's graphs are fed.
func (p *Policy) inputs(c filled) (f feeds, err error) {
	f = feeds{}
	rows, length := c.answers*c.size, c.length()
	f.counts(&err, p.parts[0].prefix+p.tokens.Name, p.tokens, c.ids, rows, length)
	set(f, &err, "targets", c.targets, rows, c.kept)
	if !p.keeps() {
		set(f, &err, "first", []int64{int64(c.first)}, 1)
	}
	for _, port := range p.decoderInputs {
		name := p.parts[2].prefix + port.Name
		switch {
		case port.Name == "attention_mask":
			f.counts(&err, name, port, c.mask, rows, length)
		case port.Name == "position_ids":
			f.counts(&err, name, port, c.position, rows, length)
		case port.Name == "cache_position":
			f.counts(&err, name, port, c.position[:length], length)
		case port.Name == keepLogits && len(port.Shape.Dims) == 0:
			f.counts(&err, name, port, []int64{int64(c.kept)})
		case port.Name == keepLogits:
			f.counts(&err, name, port, []int64{int64(c.kept)}, 1)
		case strings.HasPrefix(port.Name, pastPrefix):
			set(f, &err, name, []float32{}, rows, int(port.Shape.Dims[1].Size), 0, int(port.Shape.Dims[3].Size))
		}
	}
	if err == nil && c.pictures > 0 {
		err = p.picture(f, c)
	}
	if err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

// picture feeds the pictures, once for all answers of a row, and their places.
func (p *Policy) picture(f feeds, c filled) (err error) {
	var pixels []float32
	for _, r := range c.of {
		for i, picture := range r.Pictures {
			v, err := picture()
			if err != nil {
				return fmt.Errorf("picture %d of a row: %w", i, err)
			}
			pixels = append(pixels, v...)
		}
	}
	dims := p.pixels.Shape.Dims
	height, width := int(dims[2].Size), int(dims[3].Size)
	set(f, &err, p.parts[1].prefix+p.pixels.Name, pixels, c.size*c.pictures, 3, height, width)
	rows, length := c.answers*c.size, c.length()
	places := make([]int64, rows*length)
	for i := range places {
		places[i] = int64(i)
	}
	features := len(c.of[0].Slots)
	for row := range rows {
		i := row % c.size
		for k, slot := range c.of[i].Slots {
			places[row*length+slot] = int64(rows*length + i*features + k)
		}
	}
	set(f, &err, "places", places, len(places))
	return err
}
