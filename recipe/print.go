package recipe

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"unicode"
)

// maxWidth is where a list or map in brackets is broken into lines.
const maxWidth = 110

// Bytes prints the document as YAML with its comments: the recipe that is in force, complete where a
// base was. Parse reads it back to the same values.
func (d *Document) Bytes() []byte {
	if len(d.root.entries) == 0 {
		return []byte("{}\n")
	}
	var b printer
	b.block(d.root, 0, false)
	return b.Bytes()
}

type printer struct{ bytes.Buffer }

// block prints the entries of a list or a map, one or more lines each. The first goes on the line that
// is already begun if inline.
func (b *printer) block(n *node, depth int, inline bool) {
	indent := strings.Repeat("  ", depth)
	for i, e := range n.entries {
		if i > 0 || !inline {
			for _, c := range e.head {
				b.line(indent, c)
			}
			b.WriteString(indent)
		}
		if n.kind == listKind {
			b.WriteString("-")
			b.value(e, depth, true)
		} else {
			b.WriteString(scalar(e.key) + ":")
			b.value(e, depth, false)
		}
		for _, c := range e.foot {
			b.line(indent, c)
		}
	}
}

func (b *printer) line(indent, text string) {
	if text != "" {
		b.WriteString(indent + text)
	}
	b.WriteByte('\n')
}

// value prints the value of e behind its key or dash, to the end of its last line.
func (b *printer) value(e *entry, depth int, item bool) {
	comment := ""
	if e.tail != "" {
		comment = " " + e.tail
	}
	n := e.value
	indent := strings.Repeat("  ", depth+1)
	switch {
	case n.kind < listKind:
		text := inline(n)
		if n.kind == nullKind {
			text = n.text
		}
		if block, ok := literal(n, indent); ok {
			b.WriteString(" " + block[:strings.IndexByte(block, '\n')] + comment + block[strings.IndexByte(block, '\n'):])
			return
		}
		if text != "" {
			text = " " + text
		}
		b.WriteString(text + comment + "\n")
	case len(n.entries) == 0 || n.flow && bare(n) && len(inline(n))+2*depth+len(e.key) < maxWidth:
		b.WriteString(" " + inline(n) + comment + "\n")
	case item && n.kind == mapKind && comment == "" && len(n.entries[0].head) == 0:
		b.WriteByte(' ')
		b.block(n, depth+1, true)
	default:
		b.WriteString(comment + "\n")
		b.block(n, depth+1, false)
	}
}

// bare tells whether no comment is inside n.
func bare(n *node) bool {
	for _, e := range n.entries {
		if either(e.head, nil) != nil || e.tail != "" || len(e.foot) > 0 || !bare(e.value) {
			return false
		}
	}
	return true
}

// inline is n on one line.
func inline(n *node) string {
	switch n.kind {
	case nullKind:
		return "null"
	case textKind:
		return scalar(n.text)
	case listKind, mapKind:
		var parts []string
		for _, e := range n.entries {
			part := inline(e.value)
			if n.kind == mapKind {
				part = strings.TrimSuffix(scalar(e.key)+": "+part, " ")
			}
			parts = append(parts, part)
		}
		if n.kind == listKind {
			return "[" + strings.Join(parts, ", ") + "]"
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	return n.text
}

// plainPattern holds the texts that need no quotes anywhere: a colon only between letters, digits and
// slashes.
var plainPattern = regexp.MustCompile(`^[\pL\pN_/][\pL\pN_/.+()=-]*(?:[ :][\pL\pN_/.+()=-]+)*$`)

// elsewhere holds the texts that readers of YAML 1.1 take for something else.
var elsewhere = regexp.MustCompile(`^(?i:y|n|yes|no|on|off|[0-9_.:+-]+)$`)

// scalar writes text so that it is read back as text.
func scalar(text string) string {
	if plainPattern.MatchString(text) && !elsewhere.MatchString(text) && resolve(text) == textKind {
		return text
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b) // a JSON string is a double-quoted scalar
	enc.SetEscapeHTML(false)
	if err := enc.Encode(text); err != nil {
		panic("recipe: " + err.Error())
	}
	var escaped strings.Builder
	for _, r := range strings.TrimSuffix(b.String(), "\n") {
		if unprintable(r) { // JSON escapes fewer than YAML wants
			fmt.Fprintf(&escaped, `\U%08X`, r)
			continue
		}
		escaped.WriteRune(r)
	}
	return escaped.String()
}

// literal writes a text of several lines as a block, if it can be one.
func literal(n *node, indent string) (string, bool) {
	body, clipped := strings.CutSuffix(n.text, "\n")
	if n.kind != textKind || !strings.Contains(n.text, "\n") || body == "" {
		return "", false
	}
	lines := strings.Split(body, "\n")
	for i, l := range lines {
		edge := l == "" && (i == 0 || i == len(lines)-1)
		if edge || i == 0 && l[0] == ' ' || strings.TrimRight(l, " ") != l || strings.ContainsFunc(l, unprintable) {
			return "", false
		}
	}
	var b strings.Builder
	b.WriteString("|")
	if !clipped {
		b.WriteString("-")
	}
	b.WriteString("\n")
	for _, l := range lines {
		if l != "" {
			b.WriteString(indent + l)
		}
		b.WriteString("\n")
	}
	return b.String(), true
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }
