package sft

import (
	"maps"

	"github.com/promptmill/promptmill/schemas"
)

// A Cut says which side of a mixture a row is on: by the hash of its prompt, or of its pictures where it has no
// prompt. The same hash cuts texts and pictures, so a prompt that both have is on one side.
type Cut struct {
	Seed int64
	// ValidationPermille of the groups are the validation split.
	ValidationPermille int
	// Linked maps groups that share a picture to one of them.
	Linked map[string]string
}

func (c Cut) validation(group string) bool {
	if first, ok := c.Linked[group]; ok {
		group = first
	}
	return schemas.Permille(c.Seed, group) >= 1000-c.ValidationPermille
}

// A linker finds the groups that a chain of shared pictures ties together. It holds about 200 bytes for each
// picture.
type linker struct {
	// parent leads from a group to a smaller one that it is tied to.
	parent map[string]string
	// owner is the first group that had a picture.
	owner map[string]string
}

func newLinker() linker { return linker{map[string]string{}, map[string]string{}} }

func (l linker) root(group string) string {
	for {
		up, ok := l.parent[group]
		if !ok {
			return group
		}
		group = up
	}
}

// add notes that a group has pictures.
func (l linker) add(group string, pictures ...string) {
	for _, p := range pictures {
		first, ok := l.owner[p]
		if !ok {
			l.owner[p] = group
			continue
		}
		// The smallest name becomes the root: the result does not depend on the order of the rows.
		if a, b := l.root(first), l.root(group); a != b {
			l.parent[max(a, b)] = min(a, b)
		}
	}
}

// linked maps every group that is tied to a smaller one to the smallest.
func (l linker) linked() map[string]string {
	out := map[string]string{}
	for group := range maps.Keys(l.parent) {
		out[group] = l.root(group)
	}
	return out
}
