package train

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ardanlabs/jinja"

	"github.com/promptmill/promptmill/schemas"
)

// The prompts as the models know them.
func rewritePrompt(raw string) string { return "<bos><rewrite>" + shown(raw, longestShown) + "<ans>" }

func evaluationPrompt(raw string, aspect int) string {
	return "<bos><eval><" + Aspects[aspect] + ">" + subjectOf(raw, aspect) + pictures + "<ans>"
}

func judgmentPrompt(raw string, aspect int, a, b string) string {
	return "<bos><judge><" + Aspects[aspect] + ">" + subjectOf(raw, aspect) + "<sep> " + a + "<sep> " + b + pictures + "<ans>"
}

// subjectOf is the raw prompt for a judge, who is shown 50 characters: beauty is judged without.
func subjectOf(raw string, aspect int) string {
	if Aspects[aspect] == schemas.Aesthetic {
		return ""
	}
	return shown(raw, 50)
}

var pictures = strings.Repeat("<image>", 2*pictureTokens)

// The chat template writes the prompts that the model was trained on, for all that people type.
func TestChatTemplate(t *testing.T) {
	template, err := jinja.Compile(chatTemplate)
	if err != nil {
		t.Fatal(err)
	}
	picture := map[string]any{"type": "image"}
	text := func(s string) map[string]any { return map[string]any{"type": "text", "text": s} }
	const a, b = "image 1 color 3. score 2\nimage 2 color 1. score 4", "image 1 color 3. score 1\nimage 2 color 1. score 1"
	for _, raw := range []string{
		"a cat", "  A <image> Cat\ton   the <b>moon</b> ", strings.Repeat("wörter ", 30), strings.Repeat("x", 100), "8 k, \"quoted\" & 'so' {{ on }}", "<>",
	} {
		for _, c := range []struct {
			system string
			user   any // parts, or a text
			want   string
		}{
			{"rewrite", []any{text(raw)}, rewritePrompt(raw)},
			{"rewrite", raw, rewritePrompt(raw)},
			{"eval aesthetic", []any{picture, picture, text(raw)}, evaluationPrompt(raw, 0)},
			{"eval pick", []any{text("Image 1:"), picture, text("Image 2:"), picture, text(raw)}, evaluationPrompt(raw, 1)},
			{"eval alignment", []any{picture, picture, text(raw)}, evaluationPrompt(raw, 2)},
			{"judge pick", []any{picture, picture, text(raw + "\n---\n" + a + "\n---\n" + b)}, judgmentPrompt(raw, 1, a, b)},
			{"judge aesthetic", []any{picture, picture, text(raw + "\n---\n" + a + "\n---\n" + b)}, judgmentPrompt(raw, 0, a, b)},
		} {
			got, err := template.Render(map[string]any{"messages": []any{
				map[string]any{"role": "system", "content": c.system},
				map[string]any{"role": "user", "content": c.user},
			}})
			// An engine puts as many tokens in a picture's place as it has.
			got = strings.ReplaceAll(got, "<image>", strings.Repeat("<image>", pictureTokens))
			if err != nil || got != c.want {
				t.Errorf("%s of %q: got %q, want %q, error %v", c.system, raw, got, c.want, err)
			}
		}
	}
}

// The committed folders have the small files that a run writes.
func TestCommittedFiles(t *testing.T) {
	for _, folder := range []string{initFolder, sftFolder} {
		files := map[string]string{"chat_template.jinja": chatTemplate}
		for name, v := range vlmConfigs() {
			data, err := json.MarshalIndent(v, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			files[name] = string(data) + "\n"
		}
		for name, want := range files {
			got, err := os.ReadFile(filepath.Join("..", "weights", folder, name))
			if err != nil {
				t.Error(err)
			} else if string(got) != want {
				t.Errorf("%s/%s is not what a run writes", folder, name)
			}
		}
	}
}
