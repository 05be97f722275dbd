package openai

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/promptmill/promptmill/model"
)

func TestDecodeChat(t *testing.T) {
	answers := func(a ...model.Answer) []model.Answer { return a }
	for _, tt := range []struct {
		name, body string
		want       []model.Answer
		rejected   bool
	}{
		{"string", `{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}]}`, answers(model.Answer{Text: "hi", Finish: model.FinishStop}), false},
		{"parts", `{"choices":[{"message":{"content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}}],"created":1.5}`, answers(model.Answer{Text: "ab"}), false},
		{"by index", `{"choices":[{"index":1,"message":{"content":"b"}},{"index":0,"message":{"content":"a"}}]}`, answers(model.Answer{Text: "a"}, model.Answer{Text: "b"}), false},
		{"equal indexes", `{"choices":[{"index":0,"message":{"content":"a"}},{"index":0,"message":{"content":"b"}}]}`, answers(model.Answer{Text: "a"}, model.Answer{Text: "b"}), false},
		{"wild index", `{"choices":[{"index":7,"message":{"content":"a"}}]}`, answers(model.Answer{Text: "a"}), false},
		{"refusal", `{"choices":[{"message":{"content":null,"refusal":"I can't"},"finish_reason":"stop"}]}`, answers(model.Answer{Text: "I can't", Finish: model.FinishFilter}), false},
		{"filtered", `{"choices":[{"message":{"content":""},"finish_reason":"content_filter"}]}`, answers(model.Answer{Finish: model.FinishFilter}), false},
		{"cut off while it thought", `{"choices":[{"message":{"content":null},"finish_reason":"length"}]}`, answers(model.Answer{Finish: model.FinishLength}), false},
		{"one empty of two", `{"choices":[{"message":{"content":""}},{"message":{"content":"b"}}]}`, answers(model.Answer{}, model.Answer{Text: "b"}), false},
		{"empty", `{"choices":[{"message":{"content":" \n"},"finish_reason":"stop"}]}`, nil, true},
		{"null content", `{"choices":[{"message":{"content":null},"finish_reason":"stop"}]}`, nil, true},
		{"not UTF-8", "{\"choices\":[{\"message\":{\"content\":\"a\xffb\"}}]}", answers(model.Answer{Text: "a\uFFFDb"}), false},
		{"half a surrogate", `{"choices":[{"message":{"content":"a\ud83db"}}]}`, answers(model.Answer{Text: "a\uFFFDb"}), false},
		{"a name twice", `{"id":1,"id":2,"choices":[{"message":{"content":"a","content":"b"}}]}`, answers(model.Answer{Text: "b"}), false},
		{"names in capitals", `{"Choices":[{"Message":{"Content":"a"},"Finish_Reason":"stop"}]}`, answers(model.Answer{Text: "a", Finish: model.FinishStop}), false},
		{"more behind it", `{"choices":[{"message":{"content":"a"}}]} {}`, nil, false},
		{"no choices", `{"choices":[]}`, nil, false},
		{"null choices", `{"choices":null,"error":{"message":"busy"}}`, nil, false},
		{"cut", `{"choices":[{"message":{"content":"hi`, nil, false},
		{"html", `<html>`, nil, false},
		{"number", `{"choices":[{"message":{"content":5}}]}`, nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := decodeChat([]byte(tt.body))
			if diff := cmp.Diff(tt.want, got.answers); diff != "" || (err != nil) != (tt.want == nil) || errors.Is(err, model.ErrRejected) != tt.rejected {
				t.Errorf("error %v, rejected should be %v; -want +got:\n%s", err, tt.rejected, diff)
			}
		})
	}
}

func FuzzDecodeChat(f *testing.F) {
	files, err := filepath.Glob("testdata/recorded/*/*.json")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		var rec struct{ Raw string }
		if err := json.Unmarshal(b, &rec); err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(rec.Raw))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		c, err := decodeChat(body)
		if err == nil && (!json.Valid(body) || len(c.answers) == 0 || c.promptTokens < 0 || c.completionTokens < 0) {
			t.Errorf("decodeChat(%q) = %+v", body, c)
		}
		if _, _, err := decodeImage(body); err == nil && !json.Valid(body) {
			t.Errorf("a picture in %q", body)
		}
	})
}
