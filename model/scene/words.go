package scene

import (
	"maps"
	"slices"
	"strings"
)

// Nouns are the words that name a category; Thing has none.
func Nouns(c Category) []string { return strings.Fields(kinds[c].words) }

// Colours are the words that name a hue, sorted.
func Colours() []string { return slices.Sorted(maps.Keys(colours)) }

// Modifiers are what the style knows, sorted.
func Modifiers() []string { return slices.Sorted(maps.Keys(lexicon)) }
