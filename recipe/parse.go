package recipe

import (
	"bytes"
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	goparser "github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Limits on one text. A real recipe stays below a hundredth of each. They bound time and memory,
// whatever the text: the library's parser takes time in the square of nested brackets, and aliases
// of aliases grow exponentially.
const (
	maxBytes  = 1 << 20
	maxTokens = 50_000
	maxValues = 10_000
	maxDepth  = 32
)

// A parser makes a tree of one text.
type parser struct {
	name string
	// flag says that the text is that of a flag: places in it have no line.
	flag    bool
	faults  faults
	remarks []remark
	anchors map[string]*node
	values  int
	// written are the entries in the order of the text, for the comments.
	written []written
}

type written struct {
	*entry
	flow bool
	// line and col are where the key or the dash begins.
	line, col int
}

// parse returns the tree, or nil where p.faults say why not.
func (p *parser) parse(text []byte) *node {
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	if !p.legible(text) {
		return nil
	}
	source := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(text))
	tokens := lexer.Tokenize(source)
	if !p.bounded(tokens) {
		return nil
	}
	file, err := goparser.Parse(tokens, 0, goparser.AllowDuplicateMapKey())
	if err != nil {
		p.syntax(err, source)
		return nil
	}
	var body ast.Node
	for _, doc := range file.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.DirectiveType {
			continue
		}
		if body != nil {
			p.faults.add(p.at(doc.Body), "a second document starts here; a recipe is one: take out the line ---")
			return nil
		}
		body = doc.Body
	}
	if body == nil {
		return nil
	}
	p.anchors = map[string]*node{}
	root := p.value(body, p.at(body), maxDepth)
	p.comments(source, tokens)
	return root
}

// legible refuses what no YAML reader may take: too much, other encodings, control characters.
func (p *parser) legible(text []byte) bool {
	if len(text) > maxBytes {
		p.faults.add(p.position(1, 1), "%d bytes are too many for a recipe, at most %d; keep data in files that it names", len(text), maxBytes)
		return false
	}
	line, col := 1, 1
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			p.faults.add(p.position(line, col), "byte 0x%02x is not UTF-8; save the file as UTF-8", text[i])
			return false
		case r == '\n':
			line, col = line+1, 0
		case r < ' ' && r != '\t' && r != '\r' || r == 0x7f:
			p.faults.add(p.position(line, col), "control character %U; delete it, or write it in double quotes as an escape", r)
			return false
		}
		i, col = i+size, col+1
	}
	return true
}

func (p *parser) bounded(tokens token.Tokens) bool {
	if len(tokens) > maxTokens {
		p.faults.add(p.position(1, 1), "this is too much for a recipe; keep data in files that it names")
		return false
	}
	depth := 0
	for _, tk := range tokens {
		switch tk.Type {
		case token.SequenceStartType, token.MappingStartType:
			depth++
		case token.SequenceEndType, token.MappingEndType:
			depth--
		}
		if depth > maxDepth {
			p.tooDeep(p.position(tk.Position.Line, tk.Position.Column))
			return false
		}
	}
	return true
}

func (p *parser) tooDeep(at place) {
	p.faults.add(at, "more than %d levels deep; nothing in a recipe is", maxDepth)
}

// syntax tells the library's complaint without its excerpt of the text, which may hold a secret.
func (p *parser) syntax(err error, source string) {
	line, col, complaint := 1, 1, "this makes no sense"
	var se *yaml.SyntaxError
	if errors.As(err, &se) {
		complaint = se.Message
		if se.Token != nil && se.Token.Position != nil {
			line, col = se.Token.Position.Line, max(se.Token.Position.Column, 1)
		}
	}
	if p.flag {
		p.faults.add(p.position(line, col), "not YAML: %s; put the value in quotes if it is text", complaint)
		return
	}
	if lines := strings.Split(source, "\n"); line <= len(lines) {
		text := lines[line-1]
		if strings.Contains(text[:len(text)-len(strings.TrimLeft(text, " \t"))], "\t") {
			p.faults.add(p.position(line, col), "a tab indents this line; YAML takes spaces only")
			return
		}
	}
	p.faults.add(p.position(line, col), "not YAML: %s; look at the indentation, colons and quotes here and in the line above", complaint)
}

func (p *parser) position(line, col int) place {
	if p.flag {
		return place{file: p.name}
	}
	return place{p.name, line, col}
}

func (p *parser) at(n ast.Node) place {
	switch m := n.(type) {
	case *ast.MappingNode:
		if !m.IsFlowStyle && len(m.Values) > 0 {
			return p.at(m.Values[0].Key)
		}
	case *ast.MappingValueNode:
		return p.at(m.Key)
	}
	tk := n.GetToken()
	if tk == nil || tk.Position == nil {
		return p.position(1, 1)
	}
	return p.position(tk.Position.Line, max(tk.Position.Column, 1))
}

// value makes a tree of n, whose lists and maps stand under the key at under.
func (p *parser) value(n ast.Node, under place, room int) *node {
	if room == 0 {
		p.tooDeep(under)
		return &node{at: under}
	}
	if !p.count(1, under) {
		return &node{at: under}
	}
	switch n := n.(type) {
	case nil:
		return &node{at: under}
	case *ast.MappingNode:
		return p.mapping(n.Values, n.IsFlowStyle, under, room)
	case *ast.MappingValueNode:
		return p.mapping([]*ast.MappingValueNode{n}, false, under, room)
	case *ast.SequenceNode:
		list := &node{kind: listKind, at: under, flow: n.IsFlowStyle}
		for i, item := range n.Values {
			at := under
			if item != nil {
				at = p.at(item)
			}
			e := &entry{at: at}
			w := written{e, list.flow, at.line, at.col}
			if i < len(n.Entries) && n.Entries[i].Start != nil {
				dash := n.Entries[i].Start.Position
				w.line, w.col = dash.Line, dash.Column
			}
			p.written = append(p.written, w)
			e.value = p.value(item, at, room-1)
			list.entries = append(list.entries, e)
		}
		return list
	case *ast.AnchorNode:
		v := p.value(n.Value, under, room)
		p.anchors[n.Name.GetToken().Value] = v
		return v
	case *ast.AliasNode:
		return p.alias(n, under)
	case *ast.TagNode:
		p.faults.add(p.at(n), "a recipe has no tags such as %s; quote a value to make it text", shorten(n.GetToken().Value))
		return &node{at: under}
	case *ast.StringNode:
		tk := n.GetToken()
		if tk.Type != token.StringType {
			return &node{kind: textKind, text: n.Value, at: p.at(n)}
		}
		return &node{kind: resolve(n.Value), text: n.Value, at: p.at(n)}
	case *ast.LiteralNode:
		return &node{kind: textKind, text: n.Value.Value, at: p.at(n)}
	case *ast.NullNode:
		v := &node{at: p.at(n)}
		if tk := n.GetToken(); tk.Type != token.ImplicitNullType {
			v.text = tk.Value
		}
		return v
	default:
		text := n.GetToken().Value
		return &node{kind: resolve(text), text: text, at: p.at(n)}
	}
}

// count takes n values from the budget of the text.
func (p *parser) count(n int, at place) bool {
	if p.values <= maxValues && p.values+n > maxValues {
		p.faults.add(at, "more than %d values, aliases counted each time; keep data in files that the recipe names", maxValues)
	}
	p.values += n
	return p.values <= maxValues
}

// mapping makes a map; what its merge keys bring gives way to its own keys.
func (p *parser) mapping(values []*ast.MappingValueNode, flow bool, under place, room int) *node {
	m := &node{kind: mapKind, at: under, flow: flow}
	var merged []*node
	for _, v := range values {
		at := p.at(v.Key)
		if _, ok := v.Key.(*ast.MergeKeyNode); ok {
			merged = append(merged, p.merged(v.Value, at, room))
			continue
		}
		key, ok := p.key(v.Key)
		if !ok {
			continue
		}
		e := &entry{key: key, at: at}
		p.written = append(p.written, written{e, flow, at.line, at.col})
		e.value = p.value(v.Value, at, room-1)
		if i := m.index(key); i >= 0 {
			first := m.entries[i].at
			p.faults.add(at, "key %q is already in line %d; keep one of them", shorten(key), first.line)
			continue
		}
		m.entries = append(m.entries, e)
	}
	for _, from := range merged {
		for _, e := range from.entries {
			if m.index(e.key) < 0 {
				m.entries = append(m.entries, e)
			}
		}
	}
	return m
}

// merged is what a merge key brings: a map, or a list of them of which the first has its way.
func (p *parser) merged(n ast.Node, at place, room int) *node {
	v := p.value(n, at, room-1)
	all := &node{kind: mapKind, at: at}
	from := []*node{v}
	if v.kind == listKind {
		from = nil
		for _, e := range v.entries {
			from = append(from, e.value)
		}
	}
	for _, m := range from {
		if m.kind != mapKind {
			p.faults.add(at, "the merge key << wants an alias of a map, such as <<: *name")
			return all
		}
		for _, e := range m.entries {
			if all.index(e.key) < 0 {
				all.entries = append(all.entries, e)
			}
		}
	}
	return all
}

func (p *parser) key(n ast.MapKeyNode) (string, bool) {
	if k, ok := n.(*ast.MappingKeyNode); ok {
		return p.scalarKey(k.Value)
	}
	return p.scalarKey(n)
}

func (p *parser) scalarKey(n ast.Node) (string, bool) {
	if s, ok := n.(*ast.StringNode); ok && s.Value != "" {
		return s.Value, true
	}
	if _, ok := n.(ast.ScalarNode); ok {
		if text := n.GetToken().Value; n.Type() != ast.NullType && n.Type() != ast.LiteralType && text != "" {
			return text, true
		}
	}
	at := p.position(1, 1)
	if n != nil {
		at = p.at(n)
	}
	p.faults.add(at, "a key is one word; quote it if it is not")
	return "", false
}

func (p *parser) alias(n *ast.AliasNode, under place) *node {
	name := n.Value.GetToken().Value
	from, ok := p.anchors[name]
	if !ok {
		p.faults.add(p.at(n), "no anchor &%s stands above this alias", shorten(name))
		return &node{at: under}
	}
	return p.copy(from, under)
}

// copy keeps the places of what it copies: that is where a person edits it.
func (p *parser) copy(from *node, under place) *node {
	n := &node{kind: from.kind, text: from.text, at: from.at, flow: from.flow}
	if !p.count(1, under) {
		return n
	}
	for _, e := range from.entries {
		n.entries = append(n.entries, &entry{key: e.key, at: e.at, value: p.copy(e.value, under)})
	}
	return n
}
