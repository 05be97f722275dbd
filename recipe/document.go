// Package recipe reads recipes: YAML files in, filled configuration structs out, and for every fault
// the file, the line and what to do about it.
//
// # Design
//
// A [Document] is a tree of keys that remember where they were written: in the user's file, in the
// recipe it extends, or in a --set flag. Extending and setting overlay one tree on another, so
// decoding, validation faults, the search for secrets and the printed recipe all speak of the place
// a person has to edit. The YAML library reads tokens and syntax only; the tree, its decoder and its
// printer are this package's own, because a library's decoder stops at the first fault, and its
// printer cannot lay out a tree made of several files.
//
// The recipe language is the plain part of YAML 1.2: maps, lists, scalars, comments, anchors,
// aliases and merge keys. Tags and several documents in one file are refused. A text field takes any
// scalar as it is written: revision: 0123 is the text 0123.
package recipe

import (
	"maps"
	"slices"
	"strings"
)

// A Document is a recipe being put together: Parse, then Extend, then Set; then Decode, Locate and
// Bytes in any order. It is not safe for concurrent use while it changes.
type Document struct {
	name string
	root *node
	// remarks are the texts of comments: secrets are looked for there too.
	remarks []remark
}

type remark struct {
	at   place
	text string
}

// extendsKey names the recipe that a recipe starts from; Extend consumes it.
const extendsKey = "extends"

// Parse reads one YAML document whose top level is a map. Name is how faults call the file. The
// error joins every fault, each starting with "NAME:LINE:COLUMN: ".
func Parse(name string, text []byte) (*Document, error) {
	at := place{file: name, line: 1, col: 1}
	p := parser{name: name}
	root := p.parse(text)
	if err := p.faults.err(name); err != nil {
		return nil, err
	}
	switch {
	case root == nil || root.kind == nullKind && root.text == "":
		p.faults.add(at, "the recipe is empty; promptmill recipe show prints a complete one")
	case root.kind != mapKind:
		p.faults.add(root.at, "a recipe is a map of keys and values, not %s", root.kind.noun())
	}
	if err := p.faults.err(name); err != nil {
		return nil, err
	}
	root.at = at
	return &Document{name: name, root: root, remarks: p.remarks}, nil
}

// Extend puts the document on top of the recipe that its key extends names, or, without that key, of
// the one named otherwise ("" for none), and so on down the chain. Maps merge key by key, lists and
// scalars replace, and an empty value over a map leaves the map as it is. Bases maps the name of a
// recipe to its text; faults in a base call it "paper.yaml" for the name paper. Comments of the base
// stay where the document has none of its own.
func (d *Document) Extend(bases map[string][]byte, otherwise string) error {
	return d.extend(bases, otherwise, nil)
}

func (d *Document) extend(bases map[string][]byte, name string, chain []string) error {
	var fs faults
	var title []string
	at := d.root.at
	if i := d.root.index(extendsKey); i >= 0 {
		value := d.root.entries[i].value
		name, at = value.text, value.at
		if value.kind != textKind {
			fs.add(at, "extends wants the name of a recipe%s", value.got())
			return fs.err(d.name)
		}
		title = d.root.entries[i].head
		d.root.entries = slices.Delete(d.root.entries, i, i+1)
	}
	if name == "" {
		return nil
	}
	text, ok := bases[name]
	if !ok {
		fs.add(at, "no recipe is named %q; %s", name, hint(name, slices.Sorted(maps.Keys(bases))))
		return fs.err(d.name)
	}
	if slices.Contains(chain, name) {
		fs.add(at, "%s extends itself: %s", name, strings.Join(append(chain, name), " extends "))
		return fs.err(d.name)
	}
	base, err := Parse(name+".yaml", text)
	if err != nil {
		return err
	}
	if err := base.extend(bases, "", append(chain, name)); err != nil {
		return err
	}
	d.root = overlay(base.root, d.root)
	if len(title) > 0 && len(d.root.entries) > 0 {
		first := d.root.entries[0]
		first.head = slices.Concat(title, []string{""}, first.head)
	}
	d.remarks = append(d.remarks, base.remarks...)
	return nil
}

// overlay returns base with over on top of it; it may reuse both. Order is that of base, then over's
// own keys.
func overlay(base, over *node) *node {
	if base.kind == mapKind && over.kind == nullKind {
		return base
	}
	if base.kind != mapKind || over.kind != mapKind {
		return over
	}
	base.at = over.at
	base.flow = base.flow && over.flow
	for _, e := range over.entries {
		i := base.index(e.key)
		if i < 0 {
			base.entries = append(base.entries, e)
			continue
		}
		b := base.entries[i]
		b.at, b.value = e.at, overlay(b.value, e.value)
		b.head = either(e.head, b.head)
		b.foot = either(e.foot, b.foot)
		if e.tail != "" {
			b.tail = e.tail
		}
	}
	return base
}

// either is the first of two blocks of comments that says something.
func either(a, b []string) []string {
	if slices.ContainsFunc(a, func(s string) bool { return s != "" }) {
		return a
	}
	return b
}
