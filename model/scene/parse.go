package scene

import (
	"crypto/sha256"
	"encoding/binary"
	"regexp"
	"slices"
	"strings"
)

// A State is what the renderer knows of a prompt.
type State struct {
	Category Category
	// Hue is the subject's, in degrees, in [0, 360).
	Hue   float64
	Style Style
	// Alpha is how solid the subject is, in [.25, 1]: 1 up to five modifiers, then .09 less for each.
	Alpha float64
	// Modifiers counts the comma segments after the first.
	Modifiers int
}

var (
	thousands  = regexp.MustCompile(`\b(\d) k\b`)
	dimensions = regexp.MustCompile(`\b(\d)-?\s?d\b`)
	foreign    = regexp.MustCompile(`[^a-z0-9,.\- ]`)
	comma      = regexp.MustCompile(` *, *`)
	blanks     = regexp.MustCompile(` +`)
	word       = regexp.MustCompile(`[a-z]+`)

	modifier = func() *regexp.Regexp {
		var names []string
		for name := range lexicon {
			names = append(names, regexp.QuoteMeta(name))
		}
		// The longest first: an alternation takes the first that matches.
		slices.SortFunc(names, func(a, b string) int {
			if d := len(b) - len(a); d != 0 {
				return d
			}
			return strings.Compare(a, b)
		})
		return regexp.MustCompile(strings.Join(names, "|"))
	}()
)

// Normalize brings a prompt into the world's alphabet: lower case letters, digits, point, hyphen,
// and ", " between segments; "8 k" becomes "8k" and "3 d" becomes "3d".
func Normalize(prompt string) string {
	t := strings.ToLower(strings.TrimSpace(prompt))
	t = thousands.ReplaceAllString(t, "${1}k")
	t = dimensions.ReplaceAllString(t, "${1}d")
	t = foreign.ReplaceAllString(t, " ")
	t = comma.ReplaceAllString(t, ", ")
	return strings.Trim(blanks.ReplaceAllString(t, " "), " ,")
}

// Segments cuts a normalized prompt at its commas and drops empty segments.
func Segments(normalized string) []string {
	var out []string
	for s := range strings.SplitSeq(normalized, ",") {
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	return out
}

// Subject is the truth that alignment is measured against: the category and hue of a raw prompt's
// first comma segment. The first word that names a category decides, except that a portrait of
// something else is that. A prompt that names none is a Thing, in a hue that is a hash of the segment
// unless it names a colour.
func Subject(raw string) (Category, float64) {
	text, _, _ := strings.Cut(Normalize(raw), ",")
	words := word.FindAllString(text, -1)
	category := Thing
	for _, w := range words {
		if c, ok := wordCategory[w]; ok {
			category = c
			break
		}
	}
	if category == Person && slices.Contains(words, "portrait") {
		for _, w := range words {
			if c, ok := wordCategory[w]; ok && c != Person {
				category = c
				break
			}
		}
	}
	for _, w := range words {
		if hue, ok := colours[w]; ok {
			return category, hue
		}
	}
	if category == Thing {
		sum := sha256.Sum256([]byte(text))
		return category, float64(binary.BigEndian.Uint32(sum[:4]) % 360)
	}
	return category, kinds[category].hue
}

// Parse reads a prompt: the subject from raw, the style from full. An empty raw stands for full, which
// is all that an image request can know.
func Parse(full, raw string) State {
	if raw == "" {
		raw = full
	}
	full = Normalize(full)
	st := State{Modifiers: max(0, len(Segments(full))-1)}
	st.Category, st.Hue = Subject(raw)

	gain, v := &gains[st.Category], &st.Style
	for d := range v {
		v[d] = base[d] + offsets[st.Category][d]
	}
	seen := map[string]bool{}
	for _, name := range modifier.FindAllString(full, -1) {
		if seen[name] {
			continue
		}
		seen[name] = true
		for d, x := range lexicon[name] {
			v[d] += x * gain[d]
		}
	}
	for d := range v {
		v[d] = min(max(v[d], lowest[d]), highest[d])
	}
	excess := float64(max(0, st.Modifiers-5))
	v[clut] = min(.8, v[clut]+.04*excess)
	st.Alpha = min(max(1-.09*excess, .25), 1)
	return st
}
