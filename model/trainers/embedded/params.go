package embedded

import (
	"fmt"
	"slices"

	"github.com/promptmill/promptmill/model/onnx"
	"github.com/promptmill/promptmill/model/onnx/onnxfile"
)

// Params are the weights that are trained, by name, with what an optimiser keeps of each. Several graphs share them:
// what one Step changes, all see. They are not safe for concurrent use. Close frees them.
type Params struct {
	list  []*param
	index map[string]*param
	steps int64
	runs  int // since the last Step
}

// param is one weight. Its slices have the same length; average is nil until there is one.
type param struct {
	name                                        string
	dims                                        []int64
	weight, gradient, first, second, average    []float32
	weightTensor, gradientTensor, scratchTensor *onnx.Tensor
	reached                                     bool  // by a Run since the last Step: gradient counts, else it holds anything
	steps                                       int64 // in which it was reached
}

// NewParams copies the float and float16 initializers of models that trainable says yes to, or all of them if it is nil,
// but those without dimensions, which are constants. Initializers of equal names are one weight: it starts as in the
// first model. Larger constants that are initializers, as exporters write them, are trained too unless trainable says no.
func NewParams(trainable func(name string) bool, models ...*onnxfile.Model) (*Params, error) {
	p := &Params{index: map[string]*param{}}
	for _, m := range models {
		for _, t := range m.Graph.Initializers {
			if t.Type != onnxfile.Float && t.Type != onnxfile.Float16 || len(t.Dims) == 0 || trainable != nil && !trainable(t.Name) {
				continue
			}
			if err := p.add(t); err != nil {
				p.Close()
				return nil, fmt.Errorf("parameter %q: %w", t.Name, err)
			}
		}
	}
	return p, nil
}

func (p *Params) add(t *onnxfile.Tensor) error {
	if old := p.index[t.Name]; old != nil {
		if !slices.Equal(old.dims, t.Dims) {
			return fmt.Errorf("one model has it in shape %v, another in %v: give them different names", old.dims, t.Dims)
		}
		return nil
	}
	values, err := t.Float32s()
	if err != nil {
		return err
	}
	n := len(values)
	q := &param{
		name: t.Name, dims: slices.Clone(t.Dims), weight: values,
		gradient: make([]float32, n), first: make([]float32, n), second: make([]float32, n),
	}
	if q.weightTensor, err = onnx.NewTensor(q.weight, q.dims...); err != nil {
		return err
	}
	if q.gradientTensor, err = onnx.NewTensor(q.gradient, q.dims...); err != nil {
		q.weightTensor.Close()
		return err
	}
	p.list = append(p.list, q)
	p.index[t.Name] = q
	return nil
}

// Close frees the tensors. Nothing may use p, nor a graph compiled with it, then.
func (p *Params) Close() {
	for _, q := range p.list {
		q.weightTensor.Close()
		q.gradientTensor.Close()
		q.scratchTensor.Close()
	}
}

// Names are the weights' names in the order of the models.
func (p *Params) Names() []string {
	out := make([]string, len(p.list))
	for i, q := range p.list {
		out[i] = q.name
	}
	return out
}

// Count is how many numbers are trained.
func (p *Params) Count() int {
	n := 0
	for _, q := range p.list {
		n += len(q.weight)
	}
	return n
}

// Steps is how many steps were taken, also before a Save and Load.
func (p *Params) Steps() int64 { return p.steps }

// Weight is the weight of a name, row by row: the memory that is trained, which the caller may write to between runs. It
// is nil if there is no such weight.
func (p *Params) Weight(name string) []float32 {
	if q := p.index[name]; q != nil {
		return q.weight
	}
	return nil
}

// Gradient is a copy of the sum of the gradients that came since the last Step; nil if the weight is not known or no
// graph that ran has it.
func (p *Params) Gradient(name string) []float32 {
	if q := p.index[name]; q != nil && q.reached {
		return slices.Clone(q.gradient)
	}
	return nil
}

// Store writes the weights to the initializers of m that have their names, in the type that they have there, float or
// float16. The rest of m stays as it is. It is an error if m has none of them.
func (p *Params) Store(m *onnxfile.Model) error {
	return p.store(m, func(q *param) []float32 { return q.weight })
}

// StoreEMA is Store with the moving average of the weights (AdamW.EMADecay), which must have been kept.
func (p *Params) StoreEMA(m *onnxfile.Model) error {
	for _, q := range p.list {
		if q.average == nil {
			return fmt.Errorf("parameter %q: no moving average was kept: set EMADecay in every Step", q.name)
		}
	}
	return p.store(m, func(q *param) []float32 { return q.average })
}

func (p *Params) store(m *onnxfile.Model, of func(*param) []float32) error {
	found := false
	for i, t := range m.Graph.Initializers {
		q := p.index[t.Name]
		if q == nil {
			continue
		}
		if !slices.Equal(q.dims, t.Dims) {
			return fmt.Errorf("parameter %q has shape %v, the model wants %v", q.name, q.dims, t.Dims)
		}
		found = true
		switch t.Type {
		case onnxfile.Float:
			m.Graph.Initializers[i] = onnxfile.NewFloat32(t.Name, t.Dims, of(q))
		case onnxfile.Float16:
			m.Graph.Initializers[i] = onnxfile.NewFloat16(t.Name, t.Dims, of(q))
		default:
			return fmt.Errorf("parameter %q is %v in the model, not float or float16", q.name, t.Type)
		}
	}
	if !found {
		return fmt.Errorf("the model has none of the %d parameters", len(p.list))
	}
	return nil
}
