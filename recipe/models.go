package recipe

import "fmt"

// asked is how a backend's own models want to be asked where that is not as the paper asks: the template set they were
// trained on, and what stands between a prompt and an answer that continues it.
var asked = map[string]struct{ set, continues string }{"tiny": {"tiny", ", "}}

// Using are the assignments that have one backend play all roles, asked in the words that it knows.
func Using(backend string) []string {
	words, ok := asked[backend]
	if !ok {
		words.set = "paper"
	}
	out := []string{fmt.Sprintf("templates.set=%s", words.set), fmt.Sprintf("rewrite.continues=%q", words.continues)}
	for _, role := range []string{"policy", "images", "judge"} {
		out = append(out, fmt.Sprintf(`models.%s={backend: %q, model: "", revision: "", endpoint: "", concurrency: 0}`, role, backend))
	}
	return out
}
