package onnxfile

// Model is a ModelProto: a graph and the operator sets it is written in.
type Model struct {
	// IRVersion is the version of the file format.
	IRVersion       int64
	Producer        string
	ProducerVersion string
	Domain          string
	Version         int64
	Doc             string
	Graph           *Graph
	Opsets          []*Opset
	Metadata        []*Entry
	Functions       []*Function

	unknown []byte
}

// Opset is an OperatorSetIdProto. Domain "" is ONNX's own, which is also called ai.onnx.
type Opset struct {
	Domain  string
	Version int64

	unknown []byte
}

// Entry is a StringStringEntryProto.
type Entry struct {
	Key, Value string

	unknown []byte
}

// Function is a FunctionProto: an operator made of others.
type Function struct {
	Domain, Name, Overload string
	Inputs, Outputs        []string
	// Attributes are names of attributes without default, Defaults are those with one.
	Attributes []string
	Defaults   []*Attribute
	Nodes      []*Node
	Opsets     []*Opset
	Values     []*Value
	Metadata   []*Entry
	Doc        string

	unknown []byte
}

// Marshal encodes the model: fields in the order of their numbers, then those that Parse did not know.
func (m *Model) Marshal() []byte {
	w := &writer{}
	m.encode(w)
	return w.b
}

var modelSchema = schema{
	1: "ir_version", 2: "producer_name", 3: "producer_version", 4: "domain", 5: "model_version", 6: "doc_string",
	7: "graph", 8: "opset_import[]", 14: "metadata_props[]", 25: "functions[]",
}

func (m *Model) decode(r reader) *CorruptError {
	return r.each(modelSchema, &m.unknown, func(f field) *CorruptError {
		switch f.number {
		case 1:
			return f.integer(&m.IRVersion)
		case 2:
			return f.text(&m.Producer)
		case 3:
			return f.text(&m.ProducerVersion)
		case 4:
			return f.text(&m.Domain)
		case 5:
			return f.integer(&m.Version)
		case 6:
			return f.text(&m.Doc)
		case 7:
			return one(f, &m.Graph)
		case 8:
			return many(f, &m.Opsets)
		case 14:
			return many(f, &m.Metadata)
		}
		return many(f, &m.Functions)
	})
}

func (m *Model) encode(w *writer) {
	w.integerSet(1, m.IRVersion)
	w.textSet(2, m.Producer)
	w.textSet(3, m.ProducerVersion)
	w.textSet(4, m.Domain)
	w.integerSet(5, m.Version)
	w.textSet(6, m.Doc)
	if m.Graph != nil {
		w.message(7, m.Graph)
	}
	messages(w, 8, m.Opsets)
	messages(w, 14, m.Metadata)
	messages(w, 25, m.Functions)
	w.b = append(w.b, m.unknown...)
}

var opsetSchema = schema{1: "domain", 2: "version"}

func (o *Opset) decode(r reader) *CorruptError {
	return r.each(opsetSchema, &o.unknown, func(f field) *CorruptError {
		if f.number == 1 {
			return f.text(&o.Domain)
		}
		return f.integer(&o.Version)
	})
}

func (o *Opset) encode(w *writer) {
	w.textSet(1, o.Domain)
	w.integer(2, o.Version)
	w.b = append(w.b, o.unknown...)
}

var entrySchema = schema{1: "key", 2: "value"}

func (e *Entry) decode(r reader) *CorruptError {
	return r.each(entrySchema, &e.unknown, func(f field) *CorruptError {
		if f.number == 1 {
			return f.text(&e.Key)
		}
		return f.text(&e.Value)
	})
}

func (e *Entry) encode(w *writer) {
	w.text(1, e.Key)
	w.text(2, e.Value)
	w.b = append(w.b, e.unknown...)
}

var functionSchema = schema{
	1: "name", 4: "input[]", 5: "output[]", 6: "attribute[]", 7: "node[]", 8: "doc_string", 9: "opset_import[]", 10: "domain",
	11: "attribute_proto[]", 12: "value_info[]", 13: "overload", 14: "metadata_props[]",
}

func (n *Function) decode(r reader) *CorruptError {
	return r.each(functionSchema, &n.unknown, func(f field) *CorruptError {
		switch f.number {
		case 1:
			return f.text(&n.Name)
		case 4:
			return f.texts(&n.Inputs)
		case 5:
			return f.texts(&n.Outputs)
		case 6:
			return f.texts(&n.Attributes)
		case 7:
			return many(f, &n.Nodes)
		case 8:
			return f.text(&n.Doc)
		case 9:
			return many(f, &n.Opsets)
		case 10:
			return f.text(&n.Domain)
		case 11:
			return many(f, &n.Defaults)
		case 12:
			return many(f, &n.Values)
		case 13:
			return f.text(&n.Overload)
		}
		return many(f, &n.Metadata)
	})
}

func (n *Function) encode(w *writer) {
	w.textSet(1, n.Name)
	w.texts(4, n.Inputs)
	w.texts(5, n.Outputs)
	w.texts(6, n.Attributes)
	messages(w, 7, n.Nodes)
	w.textSet(8, n.Doc)
	messages(w, 9, n.Opsets)
	w.textSet(10, n.Domain)
	messages(w, 11, n.Defaults)
	messages(w, 12, n.Values)
	w.textSet(13, n.Overload)
	messages(w, 14, n.Metadata)
	w.b = append(w.b, n.unknown...)
}
