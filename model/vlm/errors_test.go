package vlm_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/modeltest"
	"github.com/promptmill/promptmill/model/onnx/onnxfile"
	"github.com/promptmill/promptmill/model/vlm"
	"github.com/promptmill/promptmill/model/vlm/vlmtest"
)

func TestOpenErrors(t *testing.T) {
	wider, cropped := small, small
	wider.hidden = 48
	cropped.side = 20
	config := func(name, json string) map[string]any { return map[string]any{name: json} }
	for name, c := range map[string]struct {
		files map[string]any
		want  error
		text  []string
	}{
		"no decoder":            {map[string]any{"onnx/decoder_model_merged.onnx": nil}, vlm.ErrFolder, []string{"decoder_model_merged.onnx"}},
		"no vision":             {map[string]any{"onnx/vision_encoder.onnx": nil}, vlm.ErrFolder, []string{"vision_encoder.onnx"}},
		"no tokenizer":          {map[string]any{"tokenizer.json": nil}, vlm.ErrFolder, []string{"tokenizer"}},
		"no preprocessor":       {map[string]any{"preprocessor_config.json": nil}, vlm.ErrFolder, []string{"preprocessor_config.json"}},
		"cut graph":             {map[string]any{"onnx/embed_tokens.onnx": small.embedding().Marshal()[:500]}, onnxfile.ErrModel, []string{"embed_tokens.onnx"}},
		"embeddings too wide":   {map[string]any{"onnx/embed_tokens.onnx": wider.embedding().Marshal()}, vlm.ErrFolder, []string{"decoder_model_merged", "inputs_embeds", "[1 2 48]"}},
		"vision too wide":       {map[string]any{"onnx/vision_encoder.onnx": wider.vision().Marshal()}, vlm.ErrFolder, []string{"vision_encoder", "48", "32"}},
		"pictures of one size":  {map[string]any{"onnx/vision_encoder.onnx": cropped.vision().Marshal()}, vlm.ErrFolder, []string{"pixel_values", "20", "preprocessor_config.json"}},
		"graphs exchanged":      {map[string]any{"onnx/decoder_model_merged.onnx": small.embedding().Marshal()}, vlm.ErrFolder, []string{"decoder_model_merged", "logits"}},
		"broken config":         {config("config.json", `{"text_config": 3}`), vlm.ErrFolder, []string{"config.json"}},
		"no end":                {map[string]any{"generation_config.json": nil, "tokenizer_config.json": map[string]any{"chat_template": vlmtest.Template}}, vlm.ErrFolder, []string{"eos_token_id"}},
		"end outside":           {config("generation_config.json", `{"eos_token_id": 9999}`), vlm.ErrFolder, []string{"eos_token_id", "9999"}},
		"no template":           {config("tokenizer_config.json", `{}`), vlm.ErrFolder, []string{"chat_template"}},
		"broken template":       {config("chat_template.jinja", `{% for m in %}`), vlm.ErrFolder, []string{"chat_template.jinja"}},
		"template that refuses": {config("chat_template.jinja", `{{ raise_exception("never") }}`), vlm.ErrFolder, []string{"chat_template.jinja", "never"}},
		"padding":               {config("processor_config.json", `{"prompt_padding": {"token": "<pad>", "multiple": 0, "side": "left"}}`), vlm.ErrFolder, []string{"processor_config.json", "prompt_padding", "multiple"}},
		"padding's side":        {config("processor_config.json", `{"prompt_padding": {"token": "<pad>", "multiple": 8, "side": "top"}}`), vlm.ErrFolder, []string{"side", "top"}},
		"image token":           {config("processor_config.json", `{"image_token": "<photo>"}`), vlm.ErrFolder, []string{"<photo>"}},
		"pictures of any size":  {config("preprocessor_config.json", `{"size": {"shortest_edge": 20}, "do_normalize": false}`), vlm.ErrFolder, []string{"preprocessor_config.json", "size"}},
		"filter":                {config("preprocessor_config.json", `{"size": 16, "resample": 9, "do_normalize": false}`), vlm.ErrFolder, []string{"resample", "9"}},
		"means":                 {config("preprocessor_config.json", `{"size": 16, "image_mean": [0.5]}`), vlm.ErrFolder, []string{"image_mean", "image_std"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := small
			s.files = c.files
			m, err := vlm.Open(t.Context(), folder(t, s), vlm.Options{})
			if err == nil {
				m.Close()
			}
			if !errors.Is(err, c.want) {
				t.Fatalf("%v; want %v", err, c.want)
			}
			for _, part := range c.text {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%v; want it to name %s", err, part)
				}
			}
		})
	}
}

func TestBackendErrors(t *testing.T) {
	dir := folder(t, small)
	for name, spec := range map[string]model.Spec{
		"no folder":      {},
		"missing folder": {Model: filepath.Join(dir, "nowhere")},
		"unknown option": {Model: dir, Options: map[string]string{"speed": "high"}},
		"not a number":   {Model: dir, Options: map[string]string{"threads": "two"}},
		"negative":       {Model: dir, Options: map[string]string{"max_batch": "-1"}},
		"provider":       {Model: dir, Options: map[string]string{"provider": "abacus"}},
		"variant":        {Model: dir, Options: map[string]string{"variant": "../fp16"}},
	} {
		spec.Backend = "vlm"
		if _, err := model.OpenChat(t.Context(), spec); !errors.Is(err, model.ErrConfig) {
			t.Errorf("%s: %v; want ErrConfig", name, err)
		}
	}
}

func TestRequestErrors(t *testing.T) {
	s := small
	s.files = map[string]any{"chat_template.jinja": `{% if messages[0].role == 'assistant' %}{{ raise_exception('users begin') }}{% endif %}` + vlmtest.Template}
	m := open(t, folder(t, s), vlm.Options{CacheBytes: 1 << 16})
	picture := modeltest.Picture(t, 16, 16, 9)
	broken := model.Picture{SHA256: "ab", Bytes: func(context.Context) ([]byte, error) { return []byte("\x89PNG\r\n\x1a\nnot at all"), nil }}
	with := func(change func(*model.ChatRequest)) model.ChatRequest {
		req := ask("a cat", 1, 1, model.Sampling{MaxTokens: 4})
		change(&req)
		return req
	}
	for name, c := range map[string]struct {
		req  model.ChatRequest
		want error
		text string
	}{
		"no answers":          {with(func(r *model.ChatRequest) { r.N = 0 }), model.ErrRejected, "0 answers"},
		"no messages":         {with(func(r *model.ChatRequest) { r.Messages = nil }), model.ErrRejected, "messages"},
		"temperature":         {with(func(r *model.ChatRequest) { r.Sampling.Temperature = -1 }), model.ErrRejected, "temperature"},
		"top_p":               {with(func(r *model.ChatRequest) { r.Sampling.TopP = 1.1 }), model.ErrRejected, "top_p"},
		"long prompt":         {with(func(r *model.ChatRequest) { r.Messages[0].Parts[0].Text = strings.Repeat("castle ", 30) }), model.ErrRejected, "tokens"},
		"too much memory":     {with(func(r *model.ChatRequest) { r.Sampling.MaxTokens = 140 }), model.ErrRejected, "cache_bytes"},
		"image token in text": {with(func(r *model.ChatRequest) { r.Messages[0].Parts[0].Text = "a <image> cat" }), model.ErrRejected, "<image>"},
		"template refuses":    {with(func(r *model.ChatRequest) { r.Messages[0].Role = "assistant" }), model.ErrRejected, "users begin"},
		"broken picture":      {with(func(r *model.ChatRequest) { r.Messages[0].Parts[0] = model.Part{Picture: &broken} }), model.ErrBadPicture, "picture ab"},
	} {
		_, err := m.Chat(t.Context(), c.req)
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v; want %v with %q", name, err, c.want, c.text)
		}
	}
	if _, err := m.Chat(t.Context(), with(func(r *model.ChatRequest) {
		r.Messages[0].Parts = append(r.Messages[0].Parts, model.Part{Picture: &picture})
	})); err != nil {
		t.Errorf("after all these: %v", err)
	}
	if _, err := m.Beam(t.Context(), ask("a", 1, 1, model.Sampling{}).Messages, vlm.BeamSearch{}); !errors.Is(err, model.ErrRejected) {
		t.Errorf("beam search of width 0: %v; want ErrRejected", err)
	}
}

func TestVariantsAndDigest(t *testing.T) {
	s := small
	s.gain = 9
	s.files = map[string]any{"decoder_model_merged_fp16.onnx": s.decoder().Marshal(), "onnx/vision_encoder.onnx": nil, "vision_encoder.onnx": s.vision().Marshal()}
	dir := folder(t, s)
	one, two, half := open(t, dir, vlm.Options{}), open(t, dir, vlm.Options{}), open(t, dir, vlm.Options{Variant: "fp16"})
	if one.Info() != two.Info() || one.Info().Weights == half.Info().Weights || !one.Info().Deterministic {
		t.Errorf("%+v, %+v and a variant %+v", one.Info(), two.Info(), half.Info())
	}
	if err := os.WriteFile(filepath.Join(dir, "generation_config.json"), []byte(`{"eos_token_id": [258, 10]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if other := open(t, dir, vlm.Options{}); other.Info().Weights == one.Info().Weights {
		t.Error("other end tokens, but the same identity")
	}
}

// Memory stays as it is over some thousand answers of many lengths, with pictures that are all different.
func TestMemoryIsFlat(t *testing.T) {
	if testing.Short() {
		t.Skip("a second of generation")
	}
	m := open(t, folder(t, small), vlm.Options{CacheBytes: 1 << 20})
	round := func(first int) {
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				req := ask(strings.Repeat("cat ", i%8), 10, int64(first+i), model.Sampling{Temperature: 1, MaxTokens: 1 + i%20})
				p := modeltest.Picture(t, 8+first%8, 8+i, uint8(first+i))
				req.Messages[0].Parts = append(req.Messages[0].Parts, model.Part{Picture: &p})
				chat(t, m, req)
			})
		}
		wg.Wait()
	}
	round(0)
	before := resident(t)
	for i := range 3 {
		round(100 * (i + 1))
	}
	if grown := resident(t) - before; grown > 48<<20 {
		t.Errorf("%d MB more after 3,000 answers", grown>>20)
	}
}

// resident is the process's memory in bytes.
func resident(t *testing.T) int64 {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("not executed: it reads /proc")
	}
	runtime.GC()
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	var size, pages int64
	if _, err := fmt.Sscan(string(data), &size, &pages); err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// A graph that overflows is an error of each request, not an answer.
func TestLogitsThatAreNotNumbers(t *testing.T) {
	s := small
	s.gain = math.Inf(1)
	m := open(t, folder(t, s), vlm.Options{})
	req := ask("a cat", 3, 1, model.Sampling{Temperature: 1, TopP: .5, MaxTokens: 4})
	for range 2 {
		if _, err := m.Chat(t.Context(), req); err == nil || !strings.Contains(err.Error(), "logits") {
			t.Errorf("Chat: %v; want an error about logits", err)
		}
	}
	if _, err := m.Beam(t.Context(), req.Messages, vlm.BeamSearch{Width: 2}); err == nil || !strings.Contains(err.Error(), "logits") {
		t.Errorf("Beam: %v; want an error about logits", err)
	}
	if _, err := m.LogProbs(t.Context(), req.Messages, []string{"x"}); err == nil || !strings.Contains(err.Error(), "logits") {
		t.Errorf("LogProbs: %v; want an error about logits", err)
	}
}
