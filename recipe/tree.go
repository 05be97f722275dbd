package recipe

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// A place is where a person wrote something: a position in a file, or, with line 0, a whole flag.
type place struct {
	file      string
	line, col int
}

func (p place) String() string {
	if p.line == 0 {
		return p.file
	}
	return fmt.Sprintf("%s:%d:%d", p.file, p.line, p.col)
}

type kind uint8

const (
	nullKind kind = iota
	boolKind
	intKind
	floatKind
	textKind
	listKind
	mapKind
)

func (k kind) noun() string {
	return [...]string{"nothing", "a truth value", "a number", "a number", "text", "a list", "a map"}[k]
}

// A node is a value. A scalar's text is what was written, unquoted; quoted says that quotes or a
// block made it text. At is the scalar itself, or the key that a list or a map stands under.
type node struct {
	kind    kind
	text    string
	at      place
	flow    bool
	entries []*entry
}

// An entry is a key of a map with its value, or an item of a list, whose key is "". Comments are
// kept as they were written, from the # on; "" is a blank line.
type entry struct {
	key   string
	at    place
	value *node
	head  []string
	tail  string
	foot  []string
}

// index is the position of key, or -1.
func (n *node) index(key string) int {
	for i, e := range n.entries {
		if e.key == key {
			return i
		}
	}
	return -1
}

// got ends a complaint about a value: `, got "eight"`.
func (n *node) got() string {
	switch {
	case n.kind == textKind:
		return ", got " + strconv.Quote(shorten(n.text))
	case n.kind >= listKind || n.kind == nullKind:
		return ", got " + n.kind.noun()
	default:
		return ", got " + shorten(n.text)
	}
}

func shorten(s string) string {
	const most = 60
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "..."
	}
	return s
}

// find follows path, such as inputs.prompts[1].path, from n as far as its keys are there. It returns
// the last value reached and the part of path that is left. A key may itself hold dots: the longest
// one that is there wins.
func (n *node) find(path string) (*node, string) {
	for path != "" {
		next, rest := n.step(path)
		if next == nil {
			return n, path
		}
		n, path = next, strings.TrimPrefix(rest, ".")
	}
	return n, ""
}

func (n *node) step(path string) (*node, string) {
	if n.kind == listKind {
		if i, rest, ok := cutIndex(path); ok && i < len(n.entries) {
			return n.entries[i].value, rest
		}
		return nil, path
	}
	var best *entry
	for _, e := range n.entries {
		rest, ok := strings.CutPrefix(path, e.key)
		if !ok || e.key == "" || rest != "" && rest[0] != '.' && rest[0] != '[' {
			continue
		}
		if best == nil || len(e.key) > len(best.key) {
			best = e
		}
	}
	if best == nil {
		return nil, path
	}
	return best.value, path[len(best.key):]
}

var indexPattern = regexp.MustCompile(`^\[([0-9]{1,6})\]`)

// cutIndex takes a leading [3] off path.
func cutIndex(path string) (i int, rest string, ok bool) {
	m := indexPattern.FindStringSubmatch(path)
	if m == nil {
		return 0, path, false
	}
	i, err := strconv.Atoi(m[1])
	return i, path[len(m[0]):], err == nil
}

// The scalars of YAML 1.2's core schema, where yes, 1_000 and 12:30 are text.
var (
	nullPattern  = regexp.MustCompile(`^(?:~|null|Null|NULL)?$`)
	boolPattern  = regexp.MustCompile(`^(?:true|True|TRUE|false|False|FALSE)$`)
	intPattern   = regexp.MustCompile(`^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$`)
	floatPattern = regexp.MustCompile(`^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$`)
)

// resolve is the kind of an unquoted scalar.
func resolve(text string) kind {
	switch {
	case nullPattern.MatchString(text):
		return nullKind
	case boolPattern.MatchString(text):
		return boolKind
	case intPattern.MatchString(text):
		return intKind
	case floatPattern.MatchString(text):
		return floatKind
	}
	return textKind
}
