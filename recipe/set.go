package recipe

import (
	"fmt"
	"strings"
)

// Set overlays assignments such as rewrite.temperature=0.7 or inputs.prompts[1].path=gs://b/x, in
// order. A value is YAML: a=[x, y] is a list, a="8" the text 8. Maps merge, other values replace;
// keys that are not there are made, and index n of a list of n adds an item. Whether a key exists and
// a value fits is found by Decode; faults in an assignment name it instead of a line, without the
// value where that may be a secret.
func (d *Document) Set(assignments []string) error {
	var fs faults
	for _, a := range assignments {
		path, text, ok := strings.Cut(a, "=")
		if !ok {
			fs.add(place{file: "--set " + shorten(a)}, "there is no =; write key=value, such as rewrite.temperature=0.7")
			continue
		}
		at := place{file: "--set " + label(path, text)}
		p := parser{name: at.file, flag: true}
		value := p.parse([]byte(text))
		if len(p.faults) > 0 {
			fs = append(fs, p.faults...)
			continue
		}
		if value == nil {
			value = &node{at: at}
		}
		if err := d.root.set(path, value, at); err != nil {
			fs.add(at, "%w", err)
		}
	}
	return fs.err(d.name)
}

// label is an assignment as faults show it.
func label(path, text string) string {
	last := path[strings.LastIndexByte(path, '.')+1:]
	if secretText(text) || secretKey(last) && !reference(text) {
		return shorten(path)
	}
	return shorten(path + "=" + text)
}

// set overlays value on what path leads to from n, making what is missing.
func (n *node) set(path string, value *node, at place) error {
	last, rest := n.find(path)
	if rest == "" && path != "" {
		*last = *overlay(last, value)
		return nil
	}
	for {
		var err error
		if last, rest, err = last.grow(rest, at); err != nil {
			return err
		}
		if rest == "" {
			*last = *overlay(last, value)
			return nil
		}
	}
}

// grow makes the entry that the first part of path names; path is not empty unless the whole one is.
func (n *node) grow(path string, at place) (*node, string, error) {
	e := &entry{at: at, value: &node{at: at}}
	i, rest, ok := cutIndex(path)
	if ok {
		if n.kind == nullKind {
			*n = node{kind: listKind, at: at}
		}
		if n.kind != listKind {
			return nil, "", fmt.Errorf("[%d] wants a list, and there is %s", i, n.kind.noun())
		}
		if i != len(n.entries) {
			return nil, "", fmt.Errorf("[%d] is not in this list of %d; [%d] adds an item", i, len(n.entries), len(n.entries))
		}
	} else {
		end := strings.IndexAny(path, ".[")
		if end < 0 {
			end = len(path)
		}
		e.key, rest = path[:end], path[end:]
		if e.key == "" || strings.ContainsAny(e.key, " \t\n]") {
			return nil, "", fmt.Errorf("%q is not a path of keys; write it like inputs.prompts[0].path", shorten(path))
		}
		if n.kind == nullKind {
			*n = node{kind: mapKind, at: at}
		}
		if n.kind != mapKind {
			return nil, "", fmt.Errorf("%s wants a map of keys around it, and there is %s", e.key, n.kind.noun())
		}
	}
	n.entries = append(n.entries, e)
	return e.value, strings.TrimPrefix(rest, "."), nil
}
