package onnxfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// What ONNX Runtime takes: operator sets from 7 on. The upper bounds only catch numbers that no version has;
// whether a runtime is new enough is for the runtime to say.
const (
	minOpset = 7
	maxOpset = 100
	maxIR    = 100
)

// Check says whether the model makes sense: versions, names that are used and not defined or defined twice, types, shapes,
// the amount of data of each tensor, and that external data lies within root, the model's folder, and is long enough.
// With root nil, external data is an error. The error wraps ErrModel and names node or tensor.
//
// Links are followed only within root. Check does not keep another process from changing the folder afterwards.
func (m *Model) Check(root *os.Root) error {
	c := &checker{root: root, sizes: map[string]int64{}}
	if err := c.model(m); err != nil {
		return fmt.Errorf("%w: %w", ErrModel, err)
	}
	return nil
}

type checker struct {
	root  *os.Root
	sizes map[string]int64 // of the external files seen
}

func (c *checker) model(m *Model) error {
	if m.IRVersion < 1 || m.IRVersion > maxIR {
		return fmt.Errorf("ir_version %d: not an ONNX file, or a damaged one", m.IRVersion)
	}
	if m.Graph == nil {
		return errors.New("it has no graph")
	}
	domains, err := checkOpsets(m.Opsets)
	if err != nil {
		return err
	}
	if len(m.Graph.Outputs) == 0 {
		return errors.New("the graph has no outputs")
	}
	for _, v := range append(m.Graph.Inputs[:len(m.Graph.Inputs):len(m.Graph.Inputs)], m.Graph.Outputs...) {
		if err := v.check(); err != nil {
			return fmt.Errorf("%q: %w", v.Name, err)
		}
	}
	for _, n := range m.Functions {
		inner, err := checkOpsets(n.Opsets)
		if err != nil {
			return fmt.Errorf("function %q: %w", n.Name, err)
		}
		domains[plain(n.Domain)] = true // A model may define functions of a domain without importing it.
		s := &scope{names: map[string]bool{}}
		for _, name := range n.Inputs {
			s.names[name] = true
		}
		if err := c.nodes(n.Nodes, s, nil); err != nil {
			return fmt.Errorf("function %q: %w", n.Name, err)
		}
		for _, a := range n.Defaults {
			if err := c.attribute(a, s, inner); err != nil {
				return fmt.Errorf("function %q: attribute %q: %w", n.Name, a.Name, err)
			}
		}
	}
	return c.graph(m.Graph, nil, domains)
}

func plain(domain string) string {
	if domain == "ai.onnx" {
		return ""
	}
	return domain
}

// checkOpsets returns the domains that are imported.
func checkOpsets(opsets []*Opset) (map[string]bool, error) {
	domains, versions := map[string]bool{}, map[string]int64{}
	for _, o := range opsets {
		if v, ok := versions[plain(o.Domain)]; ok && v != o.Version {
			return nil, fmt.Errorf("operator set %q is imported twice, with versions %d and %d", o.Domain, v, o.Version)
		}
		domains[plain(o.Domain)], versions[plain(o.Domain)] = true, o.Version
		low := int64(1)
		if plain(o.Domain) == "" {
			low = minOpset
		}
		if o.Version < low || o.Version > maxOpset {
			return nil, fmt.Errorf("operator set %q has version %d, not in %d..%d: export the model again with a newer one", o.Domain, o.Version, low, maxOpset)
		}
	}
	if len(domains) == 0 {
		return nil, errors.New("it imports no operator set")
	}
	return domains, nil
}

func (v *Value) check() error {
	if v.Name == "" {
		return errors.New("an input or output has no name")
	}
	if v.Type == nil || v.Type.Tensor == nil {
		return nil // A type that is inferred, or not a tensor's.
	}
	if t := v.Type.Tensor; !t.Elem.known() {
		return fmt.Errorf("unknown %v", t.Elem)
	} else if t.Shape != nil {
		for _, d := range t.Shape.Dims {
			if d.Symbol == "" && d.Size < -1 {
				return fmt.Errorf("the shape %v has a negative size", t.Shape)
			}
		}
	}
	return nil
}

// scope is the names that a graph's nodes can use: its own and those of the graphs around it.
type scope struct {
	names map[string]bool
	outer *scope
}

func (s *scope) has(name string) bool {
	for ; s != nil; s = s.outer {
		if s.names[name] {
			return true
		}
	}
	return false
}

func (s *scope) define(name string) error {
	if s.names[name] {
		return fmt.Errorf("%q is defined twice", name)
	}
	s.names[name] = true
	return nil
}

func (c *checker) graph(g *Graph, outer *scope, domains map[string]bool) error {
	s := &scope{names: map[string]bool{}, outer: outer}
	for _, v := range g.Inputs {
		if err := s.define(v.Name); err != nil {
			return err
		}
	}
	initializers := &scope{names: map[string]bool{}}
	for _, t := range g.Initializers {
		if err := errors.Join(initializers.define(t.Name), c.tensor(t)); err != nil {
			return fmt.Errorf("initializer %q: %w", t.Name, err)
		}
		s.names[t.Name] = true
	}
	for _, sparse := range g.Sparse {
		if err := c.sparse(sparse); err != nil {
			return err
		}
		if err := initializers.define(sparse.Values.Name); err != nil {
			return err
		}
		s.names[sparse.Values.Name] = true
	}
	if err := c.nodes(g.Nodes, s, domains); err != nil {
		return err
	}
	for _, v := range g.Outputs {
		if !s.has(v.Name) {
			return fmt.Errorf("output %q is not computed", v.Name)
		}
	}
	return nil
}

// nodes first collects what all nodes give: ONNX wants them sorted, ONNX Runtime sorts them itself. A nil domains
// takes any.
func (c *checker) nodes(nodes []*Node, s *scope, domains map[string]bool) error {
	for i, n := range nodes {
		if n.Op == "" {
			return fmt.Errorf("node %d %q has no operator", i, n.Name)
		}
		if domains != nil && !domains[plain(n.Domain)] {
			return fmt.Errorf("node %d %q: operator %q of domain %q, which is not imported", i, n.Name, n.Op, n.Domain)
		}
		for _, name := range n.Outputs {
			if name == "" {
				continue
			}
			if err := s.define(name); err != nil {
				return fmt.Errorf("node %d %q (%s): %w", i, n.Name, n.Op, err)
			}
		}
	}
	for i, n := range nodes {
		for _, name := range n.Inputs {
			if name != "" && !s.has(name) {
				return fmt.Errorf("node %d %q (%s): input %q is not defined", i, n.Name, n.Op, name)
			}
		}
		for _, a := range n.Attributes {
			if err := c.attribute(a, s, domains); err != nil {
				return fmt.Errorf("node %d %q (%s): attribute %q: %w", i, n.Name, n.Op, a.Name, err)
			}
		}
	}
	return nil
}

// attribute looks at every value, also at those that the type says do not count: a reader may take them.
func (c *checker) attribute(a *Attribute, s *scope, domains map[string]bool) error {
	tensors, graphs, sparses := a.Tensors, a.Graphs, a.Sparses
	if a.Tensor != nil {
		tensors = append(tensors[:len(tensors):len(tensors)], a.Tensor)
	}
	if a.Graph != nil {
		graphs = append(graphs[:len(graphs):len(graphs)], a.Graph)
	}
	if a.Sparse != nil {
		sparses = append(sparses[:len(sparses):len(sparses)], a.Sparse)
	}
	missing := a.Type == AttributeTensor && a.Tensor == nil || a.Type == AttributeGraph && a.Graph == nil || a.Type == AttributeSparse && a.Sparse == nil
	if missing && a.Ref == "" {
		return errors.New("its value is missing")
	}
	for _, t := range tensors {
		if err := c.tensor(t); err != nil {
			return err
		}
	}
	for _, sparse := range sparses {
		if err := c.sparse(sparse); err != nil {
			return err
		}
	}
	for _, g := range graphs {
		if err := c.graph(g, s, domains); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) sparse(s *Sparse) error {
	if s.Values == nil || s.Indices == nil {
		return errors.New("a sparse tensor has no values or no indices")
	}
	if _, err := elements(s.Dims); err != nil {
		return fmt.Errorf("sparse tensor %q: %w", s.Values.Name, err)
	}
	if err := errors.Join(c.tensor(s.Values), c.tensor(s.Indices)); err != nil {
		return fmt.Errorf("sparse tensor %q: %w", s.Values.Name, err)
	}
	return nil
}

func (c *checker) tensor(t *Tensor) error {
	switch t.Location {
	case 0:
		if len(t.External) > 0 {
			return errors.New("names external data and says it has none")
		}
		return t.checkInline()
	case 1:
		return c.external(t)
	}
	return fmt.Errorf("data_location %d is not known", t.Location)
}

// external checks a tensor in a file of its own: docs/ExternalData.md of ONNX.
func (c *checker) external(t *Tensor) error {
	if !t.Type.known() || t.Type == String {
		return fmt.Errorf("external data of %v", t.Type)
	}
	if t.Raw != nil || len(t.typed) > 0 {
		return errors.New("has its data twice, here and in another file")
	}
	size, err := t.bytes()
	if err != nil {
		return err
	}
	location, offset, length := "", int64(0), size
	seen := &scope{names: map[string]bool{}}
	for _, e := range t.External {
		if err := seen.define(e.Key); err != nil {
			return fmt.Errorf("external data: %w", err)
		}
		var err error
		switch e.Key {
		case "location":
			location = e.Value
		case "offset":
			offset, err = strconv.ParseInt(e.Value, 10, 64)
		case "length":
			length, err = strconv.ParseInt(e.Value, 10, 64)
		}
		if err != nil || offset < 0 || length < 0 {
			return fmt.Errorf("external data: %s %q is not a number of bytes", e.Key, e.Value)
		}
	}
	if length != size {
		return fmt.Errorf("external data: %v%v takes %d bytes, length says %d", t.Type, t.Dims, size, length)
	}
	have, err := c.size(location)
	if err != nil {
		return fmt.Errorf("external data: %w", err)
	}
	if offset > have || length > have-offset {
		return fmt.Errorf("external data: %q has %d bytes, %d from %d on are wanted: copy the whole file", location, have, length, offset)
	}
	return nil
}

// size is that of a file within the folder.
func (c *checker) size(location string) (int64, error) {
	if size, ok := c.sizes[location]; ok {
		return size, nil
	}
	// The root refuses what leaves it; this also refuses what only another system would take for a path out.
	if !filepath.IsLocal(location) || strings.ContainsAny(location, "\\:\x00") {
		return 0, fmt.Errorf("location %q is not a file of the model's folder", location)
	}
	if c.root == nil {
		return 0, fmt.Errorf("%q is not here: the model must be opened from its folder", location)
	}
	info, err := c.root.Stat(location)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("there is no %q in the model's folder: copy it there", location)
	}
	if err != nil {
		return 0, fmt.Errorf("location %q (links may not leave the model's folder; copy the file): %w", location, err)
	}
	if !info.Mode().IsRegular() {
		return 0, fmt.Errorf("location %q is not a file", location)
	}
	c.sizes[location] = info.Size()
	return info.Size(), nil
}
