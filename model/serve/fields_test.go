package serve_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/modeltest"
	"github.com/promptmill/promptmill/model/serve"
)

// What of a request reaches the model, and what of its answer the client.
func TestChatFields(t *testing.T) {
	d := &double{answer: model.ChatResponse{
		Answers: []model.Answer{{Text: "one", Finish: model.FinishStop}, {Text: "two", Finish: model.FinishLength}, {Text: "", Finish: model.FinishUnknown}},
		Usage:   model.Usage{Calls: 1, PromptTokens: 7, CompletionTokens: 5},
	}}
	url := start(t, d.models(), nil)
	code, _, answer := post(t, url+"/v1/chat/completions", fmt.Sprintf(`{"model":"m","messages":[
		{"role":"developer","content":"be brief"},
		{"role":"user","name":"u","content":[{"type":"text","text":"Image 1:"},{"type":"image_url","image_url":{"url":%q,"detail":"low"}},{"type":"text","text":"Score."}]},
		{"role":"assistant","content":null}],
		"n":3,"seed":41,"temperature":0.9,"top_p":0.8,"max_tokens":10,"max_completion_tokens":12,"stop":"END","user":"someone",
		"frequency_penalty":0,"logprobs":false,"response_format":{"type":"text"}}`, dataURL(picture(t, 32, 32))))
	if code != http.StatusOK {
		t.Fatalf("%d: %s", code, answer)
	}
	got := d.chat
	seen := got.Messages[1].Parts[1].Picture
	data, err := seen.Bytes(t.Context())
	if want := modeltest.PictureOf(picture(t, 32, 32)); err != nil || !bytes.Equal(data, picture(t, 32, 32)) || seen.SHA256 != want.SHA256 {
		t.Errorf("the picture came as %d bytes named %s, %v", len(data), seen.SHA256, err)
	}
	got.Messages[1].Parts[1].Picture = nil
	want := model.ChatRequest{
		Messages: []model.Message{
			model.Text("system", "be brief"),
			{Role: "user", Parts: []model.Part{{Text: "Image 1:"}, {}, {Text: "Score."}}},
			model.Text("assistant", ""),
		},
		Sampling: model.Sampling{Temperature: 0.9, TopP: 0.8, MaxTokens: 12, Stop: []string{"END"}}, Seed: 41, N: 3,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the model was asked (-want +got):\n%s", diff)
	}
	for _, want := range []string{
		`"object":"chat.completion"`, `"model":"m"`, `"system_fingerprint":"double-1"`,
		`{"index":0,"message":{"role":"assistant","content":"one"},"finish_reason":"stop"}`,
		`{"index":1,"message":{"role":"assistant","content":"two"},"finish_reason":"length"}`,
		`{"index":2,"message":{"role":"assistant","content":""},"finish_reason":null}`,
		`"usage":{"prompt_tokens":7,"completion_tokens":5,"total_tokens":12}`,
	} {
		if !strings.Contains(answer, want) {
			t.Errorf("the answer has no %s: %s", want, answer)
		}
	}

	// OpenAI's defaults, and another seed each time.
	seeds := map[int64]bool{}
	for range 4 {
		post(t, url+"/v1/chat/completions", `{"messages":[{"role":"user","content":"a cat"}]}`)
		seeds[d.chat.Seed] = true
	}
	if d.chat.N != 1 || d.chat.Sampling.Temperature != 1 || d.chat.Sampling.TopP != 1 || len(seeds) < 2 {
		t.Errorf("by default %+v, seeds %v", d.chat, seeds)
	}
}

// A stream has each answer whole and in order, how it ended, and the usage if asked for.
func TestStream(t *testing.T) {
	d := &double{answer: model.ChatResponse{
		Answers: []model.Answer{{Text: "one\n\ndata: x", Finish: model.FinishStop}, {Text: "two", Finish: model.FinishLength}},
		Usage:   model.Usage{PromptTokens: 3, CompletionTokens: 2},
	}}
	url := start(t, d.models(), nil)
	code, header, body := post(t, url+"/v1/chat/completions", `{"messages":[{"role":"user","content":"a cat"}],"n":2,"stream":true,"stream_options":{"include_usage":true}}`)
	if code != http.StatusOK || header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%d, %v: %s", code, header, body)
	}
	events := strings.Split(strings.TrimSuffix(body, "\n\n"), "\n\n")
	if last := events[len(events)-1]; last != "data: [DONE]" {
		t.Errorf("ends with %q", last)
	}
	var texts [2]string
	var finishes []string
	var total int
	for _, e := range events[:len(events)-1] {
		var chunk struct {
			Object  string
			Choices []struct {
				Index  int
				Delta  struct{ Role, Content string }
				Finish *string `json:"finish_reason"`
			}
			Usage *struct {
				Total int `json:"total_tokens"`
			}
		}
		if err := json.Unmarshal([]byte(strings.TrimPrefix(e, "data: ")), &chunk); err != nil || chunk.Object != "chat.completion.chunk" {
			t.Fatalf("%q: %v", e, err)
		}
		for _, c := range chunk.Choices {
			texts[c.Index] += c.Delta.Content
			if c.Finish != nil {
				finishes = append(finishes, *c.Finish)
			}
		}
		if chunk.Usage != nil {
			total = chunk.Usage.Total
		}
	}
	if diff := cmp.Diff([2]string{"one\n\ndata: x", "two"}, texts); diff != "" || !slices.Equal(finishes, []string{"stop", "length"}) || total != 5 {
		t.Errorf("finishes %v, %d tokens, texts:\n%s", finishes, total, diff)
	}
}

func TestImagesFields(t *testing.T) {
	d := &double{drawn: picture(t, 48, 32)}
	url := start(t, d.models(), func(c *serve.Config) { c.Drawing.Scheduler = "ddim" })
	code, _, answer := post(t, url+"/v1/images/generations", `{"prompt":"a cat","size":"48x32","seed":9,"negative_prompt":"ugly","num_inference_steps":5,"guidance_scale":2,"scheduler":"euler","response_format":"b64_json"}`)
	want := model.ImageRequest{Prompt: "a cat", NegativePrompt: "ugly", Width: 48, Height: 32, Steps: 5, Guidance: 2, Scheduler: "euler", Seed: 9}
	if code != http.StatusOK {
		t.Fatalf("%d: %s", code, answer)
	}
	if diff := cmp.Diff(want, d.images[0]); diff != "" {
		t.Errorf("the model was asked (-want +got):\n%s", diff)
	}
	var got struct {
		Data []struct {
			B64JSON []byte `json:"b64_json"`
			Seed    int64  `json:"seed"`
			Flagged bool   `json:"nsfw_content_detected"`
		} `json:"data"`
	}
	if err := json.Unmarshal([]byte(answer), &got); err != nil || len(got.Data) != 1 || !bytes.Equal(got.Data[0].B64JSON, d.drawn) || got.Data[0].Seed != 9 || !got.Data[0].Flagged {
		t.Errorf("answer %.200s, %v", answer, err)
	}

	// What is not said is what the configuration says; size auto says nothing.
	d.drawn = picture(t, 64, 64)
	post(t, url+"/v1/images/generations", `{"prompt":"a cat","size":"auto","seed":1}`)
	want = model.ImageRequest{Prompt: "a cat", Width: 64, Height: 64, Steps: 20, Guidance: 7.5, Scheduler: "ddim", Seed: 1}
	if diff := cmp.Diff(want, d.images[1]); diff != "" {
		t.Errorf("by default (-want +got):\n%s", diff)
	}
}

// Several pictures are those of consecutive seeds.
func TestSeveralImages(t *testing.T) {
	url := start(t, scene(t), nil)
	draw := func(n int, seed int64) []string {
		code, _, answer := post(t, url+"/v1/images/generations", fmt.Sprintf(`{"prompt":"a red fox","n":%d,"seed":%d}`, n, seed))
		var got struct {
			Data []struct {
				B64JSON string `json:"b64_json"`
			} `json:"data"`
		}
		if err := json.Unmarshal([]byte(answer), &got); err != nil || code != http.StatusOK || len(got.Data) != n {
			t.Fatalf("%d, %v: %.200s", code, err, answer)
		}
		var out []string
		for _, d := range got.Data {
			out = append(out, d.B64JSON)
		}
		return out
	}
	for i, p := range draw(3, 70) {
		if alone := draw(1, 70+int64(i))[0]; p != alone {
			t.Errorf("picture %d of three is not that of seed %d", i, 70+i)
		}
	}
}
