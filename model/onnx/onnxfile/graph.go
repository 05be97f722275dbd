package onnxfile

// Graph is a GraphProto.
type Graph struct {
	Name   string
	Nodes  []*Node
	Inputs []*Value
	// Outputs name what the graph gives.
	Outputs []*Value
	// Initializers are the weights. One that is named like an input is that input's default.
	Initializers []*Tensor
	Sparse       []*Sparse
	// Values are what is known of types and shapes between the nodes.
	Values   []*Value
	Metadata []*Entry
	Doc      string

	unknown []byte
}

// Node is a NodeProto: one operator. An empty name among Inputs or Outputs is an optional one that is left out.
type Node struct {
	Inputs, Outputs            []string
	Name, Op, Domain, Overload string
	Attributes                 []*Attribute
	Metadata                   []*Entry
	Doc                        string

	unknown []byte
}

// Attribute returns the attribute of a name, or nil.
func (n *Node) Attribute(name string) *Attribute {
	for _, a := range n.Attributes {
		if a.Name == name {
			return a
		}
	}
	return nil
}

// AttributeType says which of an Attribute's values holds.
type AttributeType int64

// The types of attributes that graphs use.
const (
	AttributeFloat   AttributeType = 1
	AttributeInt     AttributeType = 2
	AttributeString  AttributeType = 3
	AttributeTensor  AttributeType = 4
	AttributeGraph   AttributeType = 5
	AttributeFloats  AttributeType = 6
	AttributeInts    AttributeType = 7
	AttributeStrings AttributeType = 8
	AttributeTensors AttributeType = 9
	AttributeGraphs  AttributeType = 10
	AttributeSparse  AttributeType = 11
	AttributeSparses AttributeType = 12
)

// Attribute is an AttributeProto. Type says which value counts.
type Attribute struct {
	Name    string
	Type    AttributeType
	Float   float32
	Int     int64
	String  []byte
	Tensor  *Tensor
	Graph   *Graph
	Floats  []float32
	Ints    []int64
	Strings []string
	Tensors []*Tensor
	Graphs  []*Graph
	Sparse  *Sparse
	Sparses []*Sparse
	// Ref, inside a Function, names the function's attribute that is taken in this one's place.
	Ref string
	Doc string

	unknown []byte
}

var graphSchema = schema{
	1: "node[]", 2: "name", 5: "initializer[]", 10: "doc_string", 11: "input[]", 12: "output[]", 13: "value_info[]",
	15: "sparse_initializer[]", 16: "metadata_props[]",
}

func (g *Graph) decode(r reader) *CorruptError {
	return r.each(graphSchema, &g.unknown, func(f field) *CorruptError {
		switch f.number {
		case 1:
			return many(f, &g.Nodes)
		case 2:
			return f.text(&g.Name)
		case 5:
			return many(f, &g.Initializers)
		case 10:
			return f.text(&g.Doc)
		case 11:
			return many(f, &g.Inputs)
		case 12:
			return many(f, &g.Outputs)
		case 13:
			return many(f, &g.Values)
		case 15:
			return many(f, &g.Sparse)
		}
		return many(f, &g.Metadata)
	})
}

func (g *Graph) encode(w *writer) {
	messages(w, 1, g.Nodes)
	w.textSet(2, g.Name)
	messages(w, 5, g.Initializers)
	w.textSet(10, g.Doc)
	messages(w, 11, g.Inputs)
	messages(w, 12, g.Outputs)
	messages(w, 13, g.Values)
	messages(w, 15, g.Sparse)
	messages(w, 16, g.Metadata)
	w.b = append(w.b, g.unknown...)
}

var nodeSchema = schema{
	1: "input[]", 2: "output[]", 3: "name", 4: "op_type", 5: "attribute[]", 6: "doc_string", 7: "domain", 8: "overload", 9: "metadata_props[]",
}

func (n *Node) decode(r reader) *CorruptError {
	return r.each(nodeSchema, &n.unknown, func(f field) *CorruptError {
		switch f.number {
		case 1:
			return f.texts(&n.Inputs)
		case 2:
			return f.texts(&n.Outputs)
		case 3:
			return f.text(&n.Name)
		case 4:
			return f.text(&n.Op)
		case 5:
			return many(f, &n.Attributes)
		case 6:
			return f.text(&n.Doc)
		case 7:
			return f.text(&n.Domain)
		case 8:
			return f.text(&n.Overload)
		}
		return many(f, &n.Metadata)
	})
}

func (n *Node) encode(w *writer) {
	w.texts(1, n.Inputs)
	w.texts(2, n.Outputs)
	w.textSet(3, n.Name)
	w.textSet(4, n.Op)
	messages(w, 5, n.Attributes)
	w.textSet(6, n.Doc)
	w.textSet(7, n.Domain)
	w.textSet(8, n.Overload)
	messages(w, 9, n.Metadata)
	w.b = append(w.b, n.unknown...)
}

var attributeSchema = schema{
	1: "name", 2: "f", 3: "i", 4: "s", 5: "t", 6: "g", 7: "floats[]", 8: "ints[]", 9: "strings[]", 10: "tensors[]", 11: "graphs[]",
	13: "doc_string", 20: "type", 21: "ref_attr_name", 22: "sparse_tensor", 23: "sparse_tensors[]",
}

func (a *Attribute) decode(r reader) *CorruptError {
	return r.each(attributeSchema, &a.unknown, func(f field) *CorruptError {
		switch f.number {
		case 1:
			return f.text(&a.Name)
		case 2:
			return f.float(&a.Float)
		case 3:
			return f.integer(&a.Int)
		case 4:
			return f.bytes(&a.String)
		case 5:
			return one(f, &a.Tensor)
		case 6:
			return one(f, &a.Graph)
		case 7:
			return f.floats(&a.Floats)
		case 8:
			return f.integers(&a.Ints)
		case 9:
			return f.texts(&a.Strings)
		case 10:
			return many(f, &a.Tensors)
		case 11:
			return many(f, &a.Graphs)
		case 13:
			return f.text(&a.Doc)
		case 20:
			return f.integer((*int64)(&a.Type))
		case 21:
			return f.text(&a.Ref)
		case 22:
			return one(f, &a.Sparse)
		}
		return many(f, &a.Sparses)
	})
}

func (a *Attribute) encode(w *writer) {
	w.textSet(1, a.Name)
	// A zero is a value where the type says so, except that a reference must have none.
	valued := func(t AttributeType) bool { return a.Type == t && a.Ref == "" }
	if valued(AttributeFloat) || a.Float != 0 {
		w.float(2, a.Float)
	}
	if valued(AttributeInt) || a.Int != 0 {
		w.integer(3, a.Int)
	}
	if valued(AttributeString) || len(a.String) > 0 {
		w.bytes(4, a.String)
	}
	if a.Tensor != nil {
		w.message(5, a.Tensor)
	}
	if a.Graph != nil {
		w.message(6, a.Graph)
	}
	for _, v := range a.Floats {
		w.float(7, v)
	}
	w.integers(8, a.Ints)
	w.texts(9, a.Strings)
	messages(w, 10, a.Tensors)
	messages(w, 11, a.Graphs)
	w.textSet(13, a.Doc)
	w.integerSet(20, int64(a.Type))
	w.textSet(21, a.Ref)
	if a.Sparse != nil {
		w.message(22, a.Sparse)
	}
	messages(w, 23, a.Sparses)
	w.b = append(w.b, a.unknown...)
}
