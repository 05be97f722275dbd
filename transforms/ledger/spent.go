package ledger

import "github.com/promptmill/promptmill/model"

// Spent counts what stage's model calls cost, as Used calls, cache_hits, prompt_tokens and
// completion_tokens; and, of models in the process, the calls by device, as "ran on cuda:0".
func (t *Tally) Spent(stage string, u model.Usage) {
	t.Used(stage, "calls", u.Calls)
	t.Used(stage, "cache_hits", u.CacheHits)
	t.Used(stage, "prompt_tokens", u.PromptTokens)
	t.Used(stage, "completion_tokens", u.CompletionTokens)
	if u.Device != "" {
		t.Used(stage, "ran on "+u.Device, u.Calls)
	}
}
