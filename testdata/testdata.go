// Package testdata holds the real prompts that come with promptmill: the demo reads them from the binary.
package testdata

import "embed"

// Files are the files below prompts/ that recipes name as builtin:prompts/NAME.
//
//go:embed prompts/sd_prompts.jsonl prompts/sd_prompts_all.jsonl.gz prompts/pairs.jsonl prompts/rewritings.jsonl.gz prompts/parti_prompts.tsv prompts/geneval.jsonl
var Files embed.FS
