package train_test

import (
	"bytes"
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/tokenizer"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/conformance"
	"github.com/promptmill/promptmill/transforms/parquetio"
	"github.com/promptmill/promptmill/transforms/template"
	"github.com/promptmill/promptmill/transforms/train"
)

func init() { parquetio.Register[schemas.VisionChatExample]() }

// initFolder has 192 positions and pads prompts to multiples of 32; a picture takes 4 tokens. Its chat template cuts prompts.
const initFolder = "../../model/tiny/weights/vlm-init"

// question is a row of the supervised set as recipe init makes it.
func question(t *testing.T, task, kind string, answer string, images int, fill ...string) schemas.VisionChatExample {
	t.Helper()
	set, err := template.Open("tiny")
	if err != nil {
		t.Fatal(err)
	}
	tmpl, ok := set.Task(kind)
	if !ok {
		t.Fatalf("no template %s", kind)
	}
	row := schemas.VisionChatExample{Task: task, Messages: append(tmpl.Fill(fill...), schemas.Message{Role: schemas.RoleAssistant, Content: answer}), Source: "oracle"}
	for i := range images {
		var b bytes.Buffer
		if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, 32, 32+i))); err != nil {
			t.Fatal(err)
		}
		row.Images = append(row.Images, schemas.Image{Bytes: b.Bytes(), Path: fmt.Sprintf("%d.png", i)})
	}
	row.ID = schemas.ExampleID(row.Task, row.Messages, row.Images...)
	return row
}

// startFolder is initFolder without its graphs, and with another chat template; "" leaves it out.
func startFolder(t *testing.T, chatTemplate string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json"} {
		data, err := os.ReadFile(filepath.Join(initFolder, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), data, 0o666)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if chatTemplate != "" {
		if err := os.WriteFile(filepath.Join(dir, "chat_template.jinja"), []byte(chatTemplate), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// A row is as long as the trainer makes it: shorter than its texts where the chat template cuts them, longer by what the
// template, the padding and the pictures add.
func TestLengths(t *testing.T) {
	words, err := tokenizer.Open(initFolder)
	if err != nil {
		t.Fatal(err)
	}
	// answer is a text of n tokens.
	answer := func(n int) string {
		text := strings.TrimSpace(strings.Repeat("cat ", n))
		if got := words.Count(text); got != n {
			t.Fatalf("%d tokens, want %d", got, n)
		}
		return text
	}
	const scores = "image 1 color 2 contrast 2 detail 3 shape 3 hue 5. score 3\nimage 2 color 3 contrast 3 detail 2 shape 3 hue 5. score 4"
	long := strings.Repeat("intricate biomechanical demon goddess portrait ", 40)
	if n := words.Count(long); n <= 192 {
		t.Fatalf("%d tokens fit without the template's cut", n)
	}
	evaluation := question(t, schemas.TaskEvaluation, template.Pick, scores, 2, template.Placeholder, long)
	judgment := question(t, schemas.TaskJudgment, template.Judgment+template.Pick, "answer a: 3 for 2 is 1. score 3", 2,
		template.Placeholder, long, template.AnswerA, scores, template.AnswerB, scores)
	// A prompt of 32 tokens with padding, an answer of n and its end.
	rewriting := func(n int) schemas.VisionChatExample {
		return question(t, schemas.TaskRewrite, template.Rewrite, answer(n), 0, template.Placeholder, "a dog")
	}
	chosen := pair("a dog", "p")
	chosen.Prompt = rewriting(1).Messages[:2]
	chosen.Rejected[0].Content = answer(160)
	chosen.ID = schemas.PreferenceID(chosen.Kind, chosen.PromptID, chosen.Prompt, chosen.Chosen)

	for _, tt := range []struct {
		name   string
		row    schemas.Row
		change func(*train.Config)
		detail string // of the refusal; "": none
	}{
		{"a long evaluation question", evaluation, nil, ""},
		{"a long judgment question", judgment, nil, ""},
		{"as long as the window", rewriting(159), nil, ""},
		{"too long by one", rewriting(160), nil, "length: the conversation: 193 tokens (counted through the start's chat template), the context window 192"},
		{"too long a rejected answer", chosen, nil, "length: prompt and rejected: 193 tokens (counted through the start's chat template), the context window 192"},
		{"a narrower window", rewriting(4), func(c *train.Config) { c.Gate.ContextWindow = 36 }, "37 tokens (counted through the start's chat template), the context window 36"},
		{"larger pictures", evaluation, func(c *train.Config) { c.Gate.ImageTokens = 80 }, "(counted through the start's chat template), the context window 192"},
		{"a template that refuses", rewriting(4), func(c *train.Config) {
			c.Start = startFolder(t, "{% if messages[0].role == 'system' %}{{ raise_exception('no task, please') }}{% endif %}{{ messages[0].content }}")
		}, "template: request rejected: chat template: no task, please"},
		{"without a template", evaluation, func(c *train.Config) { c.Start = startFolder(t, "") }, "(counted with the start's tokenizer, without the chat template), the context window 192"},
		{"a template nobody can read", rewriting(160), func(c *train.Config) { c.Start = startFolder(t, "{% for %}") }, ""}, // the lower bound
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			cfg := config(dir)
			cfg.Start = initFolder
			cfg.Weights = "p"
			var checkpoints []schemas.Checkpoint
			var rejected []schemas.Rejected
			if row, ok := tt.row.(schemas.VisionChatExample); ok {
				cfg.Method, cfg.Params, cfg.Gate = model.MethodSFT, train.DefaultSFT(), conformance.DefaultConfig(model.MethodSFT)
				if tt.change != nil {
					tt.change(&cfg)
				}
				checkpoints, _, rejected = run(t, cfg, commit(t, dir, "r", row))
			} else {
				checkpoints, _, rejected = run(t, cfg, commit(t, dir, "r", tt.row.(schemas.PreferencePair)))
			}
			switch {
			case tt.detail == "" && len(checkpoints) == 1 && len(rejected) == 0:
			case tt.detail != "" && len(checkpoints) == 0 && len(rejected) == 1 && rejected[0].Reason == train.NonConforming && strings.Contains(rejected[0].Detail, tt.detail):
			default:
				t.Errorf("%d checkpoints, rejected %+v; want %q", len(checkpoints), rejected, tt.detail)
			}
		})
	}
}
