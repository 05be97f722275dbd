package onnxfile

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Summary is what has to be known of a model to run it.
type Summary struct {
	IRVersion int64
	Producer  string
	// Opsets are the versions of the operator sets by domain; ONNX's own is "".
	Opsets map[string]int64
	// Inputs are what must be given, in order: without those that an initializer gives a default.
	Inputs, Outputs []Port
	Nodes           int
	// Initializers is their number, InitializerBytes what they take in memory, wherever they are stored; strings
	// count for nothing.
	Initializers     int
	InitializerBytes int64
	// ExternalFiles are the files beside the model's that the initializers are in, sorted.
	ExternalFiles []string
}

// A Port is an input or output.
type Port struct {
	Name string
	// Type is Undefined if it is not said or not a tensor's.
	Type DataType
	// Shape is nil if not even the rank is known.
	Shape *Shape
}

// String shows a port as in pixel_values float [batch,3,224,224].
func (p Port) String() string { return fmt.Sprintf("%s %v %v", p.Name, p.Type, p.Shape) }

// Summary describes a model that Check has passed.
func (m *Model) Summary() Summary {
	s := Summary{IRVersion: m.IRVersion, Producer: strings.TrimSpace(m.Producer + " " + m.ProducerVersion), Opsets: map[string]int64{}}
	for _, o := range m.Opsets {
		s.Opsets[plain(o.Domain)] = o.Version
	}
	if m.Graph == nil {
		return s
	}
	given, files := map[string]bool{}, map[string]bool{}
	count := func(name string, tensors ...*Tensor) {
		given[name] = true
		s.Initializers++
		for _, t := range tensors {
			if t == nil || !t.Type.known() {
				continue
			}
			if size, err := t.bytes(); err == nil {
				s.InitializerBytes += size
			}
			for _, e := range t.External {
				if e.Key == "location" && t.Location == 1 {
					files[e.Value] = true
				}
			}
		}
	}
	for _, t := range m.Graph.Initializers {
		count(t.Name, t)
	}
	for _, sparse := range m.Graph.Sparse {
		if sparse.Values != nil {
			count(sparse.Values.Name, sparse.Values, sparse.Indices)
		}
	}
	for _, v := range m.Graph.Inputs {
		if !given[v.Name] {
			s.Inputs = append(s.Inputs, v.port())
		}
	}
	for _, v := range m.Graph.Outputs {
		s.Outputs = append(s.Outputs, v.port())
	}
	s.Nodes = len(m.Graph.Nodes)
	s.ExternalFiles = slices.Sorted(maps.Keys(files))
	return s
}

func (v *Value) port() Port {
	if v.Type == nil || v.Type.Tensor == nil {
		return Port{Name: v.Name}
	}
	return Port{Name: v.Name, Type: v.Type.Tensor.Elem, Shape: v.Type.Tensor.Shape}
}
