package vlm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/ardanlabs/jinja"

	"github.com/promptmill/promptmill/model"
)

// tokenizerConfig is what tokenizer_config.json says of conversations.
type tokenizerConfig struct {
	BOS        tokenName       `json:"bos_token"`
	EOS        tokenName       `json:"eos_token"`
	Pad        tokenName       `json:"pad_token"`
	Unk        tokenName       `json:"unk_token"`
	ImageToken tokenName       `json:"image_token"`
	Template   json.RawMessage `json:"chat_template"`
}

// chatTemplate writes a conversation as the text that a model was trained on.
type chatTemplate struct {
	compiled *jinja.Template
	parts    bool // content is a list of parts; else a text with image tokens in it
	texts    bool // content may be a text also where others are lists
	image    string
	values   map[string]any
}

// The templates' language is Jinja2's as transformers sets it up: block tags take the line break after them and the
// blanks before them along.
func readTemplate(folder string, names tokenizerConfig, image string) (*chatTemplate, error) {
	source, path, err := templateSource(folder, names)
	if err != nil {
		return nil, err
	}
	compiled, err := jinja.Compile(strings.TrimSuffix(source, "\n")) // Jinja2 drops it
	if err != nil {
		return nil, fmt.Errorf("%w: %s: chat template: %w", ErrFolder, path, err)
	}
	t := &chatTemplate{compiled: compiled, parts: asksForParts.MatchString(source), texts: asksForText.MatchString(source), image: image, values: map[string]any{
		"bos_token": string(names.BOS), "eos_token": string(names.EOS), "pad_token": string(names.Pad), "unk_token": string(names.Unk),
		"add_generation_prompt": true,
		// Templates that ask for today's date take this one instead: answers must not change from day to day.
		"date_string": "26 Jul 2024",
	}}
	if _, err := t.render([]model.Message{model.Text("user", "a cat")}); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrFolder, path, err)
	}
	return t, nil
}

// asksForParts finds templates that look at the type of a part; others take content for a text. asksForText finds
// those that tell a text from a list: of these some, as Llama 3.2's, take a system message for a text only.
var (
	asksForParts = regexp.MustCompile(`\[\s*['"]type['"]\s*\]|\.type\b|\(\s*['"]type['"]`)
	asksForText  = regexp.MustCompile(`\bis\s+(not\s+)?string\b`)
)

// templateSource returns the template and the file it is in. Newer files go before older ones.
func templateSource(folder string, names tokenizerConfig) (source, path string, err error) {
	path = filepath.Join(folder, "chat_template.jinja")
	data, err := os.ReadFile(path)
	if err == nil {
		return string(data), path, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", path, fmt.Errorf("%w: %w", ErrFolder, err)
	}
	var file struct {
		Template json.RawMessage `json:"chat_template"`
	}
	if err := readJSON(folder, "chat_template.json", &file); err != nil {
		return "", path, err
	}
	for _, f := range []struct {
		name     string
		template json.RawMessage
	}{{"chat_template.json", file.Template}, {"tokenizer_config.json", names.Template}} {
		path = filepath.Join(folder, f.name)
		var several []struct{ Name, Template string }
		switch {
		case len(f.template) == 0 || string(f.template) == "null":
			continue
		case json.Unmarshal(f.template, &source) == nil:
			return source, path, nil
		case json.Unmarshal(f.template, &several) == nil:
			for _, t := range several {
				if t.Name == "default" {
					return t.Template, path, nil
				}
			}
		}
		return "", path, fmt.Errorf("%w: %s: chat_template is neither a text nor a list with one named default", ErrFolder, path)
	}
	return "", folder, fmt.Errorf("%w: %s: no chat template: neither chat_template.jinja nor chat_template in tokenizer_config.json", ErrFolder, folder)
}

// render writes the messages as text. A template may refuse a conversation.
func (t *chatTemplate) render(messages []model.Message) (text string, err error) {
	// The template came with the model, and its language's implementation is not ours: a panic must not end the process.
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("chat template: %v", r)
		}
	}()
	values := map[string]any{}
	for k, v := range t.values {
		values[k] = v
	}
	list := make([]any, len(messages))
	for i, m := range messages {
		list[i] = map[string]any{"role": m.Role, "content": t.content(m)}
	}
	values["messages"] = list
	if text, err = t.compiled.Render(values); err != nil {
		return "", fmt.Errorf("chat template: %w", err)
	}
	return text, nil
}

func (t *chatTemplate) content(m model.Message) any {
	pictures := slices.ContainsFunc(m.Parts, func(p model.Part) bool { return p.Picture != nil })
	if !t.parts || t.texts && !pictures {
		var text strings.Builder
		for _, p := range m.Parts {
			if p.Picture != nil {
				text.WriteString(t.image)
			}
			text.WriteString(p.Text)
		}
		return text.String()
	}
	parts := make([]any, len(m.Parts))
	for i, p := range m.Parts {
		parts[i] = map[string]any{"type": "text", "text": p.Text}
		if p.Picture != nil {
			parts[i] = map[string]any{"type": "image"}
		}
	}
	return parts
}
