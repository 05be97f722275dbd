package vlm_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/modeltest"
	"github.com/promptmill/promptmill/model/vlm"
	"github.com/promptmill/promptmill/model/vlm/vlmtest"
)

// A folder's graphs are not needed to count; with them nothing else comes out.
func TestProcessorCountsAsEncoder(t *testing.T) {
	p := modeltest.Picture(t, 10, 10, 50)
	say := func(parts ...model.Part) []model.Message {
		return []model.Message{model.Text("system", "Be brief."), {Role: "user", Parts: parts}}
	}
	conversations := map[string][]model.Message{
		"text":         say(model.Part{Text: "a cat"}),
		"pictures":     say(model.Part{Picture: &p}, model.Part{Text: "or"}, model.Part{Picture: &p}),
		"many letters": say(model.Part{Text: strings.Repeat("x", 90)}),
	}
	all := strings.ReplaceAll(vlmtest.Template, "<image>", strings.Repeat("<image>", small.places))
	for name, files := range map[string]map[string]any{
		"one token for a picture": {"processor_config.json": `{"image_seq_length": 3, "prompt_padding": {"token": "<pad>", "multiple": 8, "side": "right"}}`},
		"all tokens of a picture": {"chat_template.jinja": all, "config.json": `{"max_position_embeddings": 160, "image_seq_length": 3}`},
		"Idefics3": {
			"processor_config.json": `{"processor_class": "Idefics3Processor", "image_seq_len": 3}`,
			"tokenizer.json":        vlmtest.Tokenizer("<fake_token_around_image>", "<global-img>"),
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := small
			if s.files = files; files["tokenizer.json"] != nil {
				s.vocab = 256 + len(vlmtest.Specials) + 2
			}
			dir := folder(t, s)
			e, err := open(t, dir, vlm.Options{}).Encoder(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(dir + "/onnx"); err != nil {
				t.Fatal(err)
			}
			processor, err := vlm.OpenProcessor(dir)
			if err != nil {
				t.Fatal(err)
			}
			if processor.Context() != e.Context() || processor.ImageTokens() != small.places {
				t.Errorf("a window of %d, %d places of a picture", processor.Context(), processor.ImageTokens())
			}
			for name, messages := range conversations {
				ids, _, err := e.Prompt(messages)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				got, err := processor.Count(messages, processor.ImageTokens(), "ok", "a longer one")
				if err != nil || len(got) != 2 || got[0] != len(ids)+len(e.Answer("ok")) || got[1] != len(ids)+len(e.Answer("a longer one")) {
					t.Errorf("%s: counted %v, %v; the encoder writes %d and the answers", name, got, err, len(ids))
				}
			}
		})
	}
}

func TestProcessor(t *testing.T) {
	p := modeltest.Picture(t, 10, 10, 50)
	shown := []model.Message{{Role: "user", Parts: []model.Part{{Picture: &p}, {Text: "cat"}}}}
	text := func(role, content string) []model.Message { return []model.Message{model.Text(role, content)} }
	none := map[string]any{"preprocessor_config.json": nil, "processor_config.json": nil}
	with := func(name string, content any) map[string]any {
		return map[string]any{"preprocessor_config.json": nil, "processor_config.json": nil, name: content}
	}
	for name, c := range map[string]struct {
		files    map[string]any
		messages []model.Message
		places   int
		want     int // tokens of the prompt
		err      error
	}{
		"text":                         {none, text("user", "cat"), 0, 6, nil}, // <bos><user>cat<answer>
		"longer than the model":        {none, text("user", strings.Repeat("x", 500)), 0, 503, nil},
		"a picture of unknown size":    {none, shown, 0, 7, nil},
		"a picture":                    {none, shown, 10, 16, nil},
		"a picture nobody writes":      {with("chat_template.jinja", "<user>{{ messages[0].content[1].text }}{# p['type'] #}<answer>"), shown, 10, 15, nil}, // nor <bos>
		"a place without a picture":    {none, text("user", "<image>"), 10, 4, nil},
		"pictures of any size":         {with("preprocessor_config.json", `{"size": {"shortest_edge": 20}}`), shown, 10, 16, nil},
		"no token stands for pictures": {with("processor_config.json", `{"image_token": "<photo>"}`), text("user", "cat"), 0, 6, nil},
		"refused":                      {with("chat_template.jinja", `{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}x`), text("system", "cat"), 0, 0, model.ErrRejected},
		"nothing comes out":            {with("chat_template.jinja", `{{ '' if messages[0].role == 'system' else 'x' }}`), text("system", "cat"), 0, 0, model.ErrRejected},
		"no template":                  {with("tokenizer_config.json", `{"eos_token": "<eos>"}`), nil, 0, 0, vlm.ErrFolder},
		"no tokenizer":                 {with("tokenizer.json", nil), nil, 0, 0, vlm.ErrFolder},
	} {
		t.Run(name, func(t *testing.T) {
			s := small
			s.files = c.files
			processor, err := vlm.OpenProcessor(folder(t, s))
			var got []int
			if err == nil {
				got, err = processor.Count(c.messages, c.places, "")
			}
			if !errors.Is(err, c.err) || err == nil && (len(got) != 1 || got[0] != c.want+1) {
				t.Errorf("%v, %v; want a prompt of %d and the end, %v", got, err, c.want, c.err)
			}
		})
	}
}
