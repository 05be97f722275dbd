package openai_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/guard"
	_ "github.com/promptmill/promptmill/model/openai"
)

var update = flag.Bool("update", false, "rewrite golden files")

// A recording is one exchange with a real server; see testdata/README.md.
type recording struct {
	Case        string          `json:"case"`
	Request     json.RawMessage `json:"request"`
	Status      int             `json:"status"`
	ContentType string          `json:"content_type"`
	Raw         string          `json:"raw"`
}

// TestRecorded replays every exchange: the backend must send what was sent, and make of the answer
// what testdata/recorded.txt says. Requests that the backend would never send go through its guard.
func TestRecorded(t *testing.T) {
	files, err := filepath.Glob("testdata/recorded/*/*.json")
	if err != nil || len(files) < 150 {
		t.Fatalf("%d recordings, %v", len(files), err)
	}
	lines := make([]string, len(files))
	t.Run("replay", func(t *testing.T) {
		for i, file := range files {
			name := strings.TrimSuffix(strings.TrimPrefix(file, "testdata/recorded/"), ".json")
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				lines[i] = name + ": " + replay(t, file)
			})
		}
	})
	got := strings.Join(lines, "\n") + "\n"
	if *update {
		if err := os.WriteFile("testdata/recorded.txt", []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/recorded.txt")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func replay(t *testing.T, file string) string {
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var rec recording
	if err := json.Unmarshal(data, &rec); err != nil {
		t.Fatal(err)
	}
	var sent []byte
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		if sent == nil {
			sent = body
		}
		if rec.Status < 0 {
			<-r.Context().Done()
			return
		}
		w.Header().Set("Content-Type", rec.ContentType)
		w.WriteHeader(rec.Status)
		_, _ = io.WriteString(w, rec.Raw)
	}))
	defer server.Close()
	spec := model.Spec{
		Backend: "openai", Endpoint: server.URL, TotalTimeout: time.Second, AttemptTimeout: 300 * time.Millisecond,
		Options: map[string]string{"n": "yes", "probe": "off"},
	}
	req, ok := parse(rec.Request, &spec)
	if !ok {
		client, err := guard.Open(spec)
		if err != nil {
			t.Fatal(err)
		}
		body, err := client.Post(t.Context(), "/v1/x", rec.Request, nil)
		if err != nil {
			return "raw: " + show(err, server.URL)
		}
		return fmt.Sprintf("raw: %d bytes", len(body))
	}
	m, err := model.OpenChat(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := m.Chat(t.Context(), req)
	if err != nil {
		return show(err, server.URL)
	}
	if len(resp.Answers) != req.N {
		t.Fatalf("%d answers; want %d", len(resp.Answers), req.N)
	}
	if want, got := canonical(t, rec.Request), canonical(t, sent); want["messages"] != "word x20000" && !reflect.DeepEqual(want, got) {
		t.Errorf("sent and recorded differ (-recorded +sent):\n%s", cmp.Diff(want, got))
	}
	var b strings.Builder
	for _, a := range resp.Answers {
		fmt.Fprintf(&b, "%.40q %s, ", a.Text, a.Finish)
	}
	fmt.Fprintf(&b, "%+v", resp.Usage)
	return b.String()
}

// show is an error without what changes from run to run.
func show(err error, url string) string {
	kind := "untyped"
	for name, e := range map[string]error{"rejected": model.ErrRejected, "config": model.ErrConfig, "unavailable": model.ErrUnavailable} {
		if strings.Contains(err.Error(), e.Error()) {
			kind = name
		}
	}
	text := err.Error()
	if _, after, found := strings.Cut(text, "server answered "); found {
		text = after
	} else if _, after, found := strings.Cut(text, " tries: "); found {
		text = after
	}
	return fmt.Sprintf("%s: %s", kind, strings.ReplaceAll(text, strings.TrimPrefix(url, "http://"), "HOST"))
}

// canonical is a request as plain data, without what the backend always sends and the recorder did not.
func canonical(t *testing.T, b []byte) map[string]any {
	var v map[string]any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	if v["temperature"] == 1.0 {
		delete(v, "temperature")
	}
	return v
}

// parse finds the ChatRequest and the options that give a recorded request; false if there is none.
func parse(raw json.RawMessage, spec *model.Spec) (model.ChatRequest, bool) {
	var q map[string]json.RawMessage
	if json.Unmarshal(raw, &q) != nil || q["messages"] == nil {
		return model.ChatRequest{}, false
	}
	req := model.ChatRequest{N: 1, Sampling: model.Sampling{Temperature: 1}}
	good := true
	take := func(name string, to any) bool {
		v, given := q[name]
		delete(q, name)
		if given && json.Unmarshal(v, to) != nil {
			good = false
		}
		return given
	}
	var messages []struct {
		Role    string
		Content json.RawMessage
	}
	shortened := string(q["messages"]) == `"word x20000"` // by the recorder
	if shortened {
		q["messages"] = json.RawMessage(`[{"role":"user","content":"` + strings.Repeat("word ", 20000) + `"}]`)
	}
	take("messages", &messages)
	take("model", &spec.Model)
	take("temperature", &req.Sampling.Temperature)
	take("max_tokens", &req.Sampling.MaxTokens)
	take("stop", &req.Sampling.Stop)
	var beam bool
	take("use_beam_search", &beam)
	switch given := take("n", &req.N); {
	case beam && given:
		spec.Options["beams"], req.N = fmt.Sprint(req.N), 1
	case beam, given && (req.N < 1 || req.Sampling.Temperature == 0):
		good = false // never sent: no number of beams, and n in greedy requests
	}
	spec.Options["seed"] = "no"
	if take("seed", &req.Seed) {
		spec.Options["seed"] = "yes"
	}
	if _, stream := q["stream"]; stream || len(messages) == 0 {
		good = false
	}
	if len(q) > 0 {
		extra, err := json.Marshal(q)
		spec.Options["extra"] = string(extra)
		good = good && err == nil
	}
	for _, m := range messages {
		parts, ok := parseContent(m.Content)
		good = good && ok
		req.Messages = append(req.Messages, model.Message{Role: m.Role, Parts: parts})
	}
	return req, good
}

func parseContent(raw json.RawMessage) ([]model.Part, bool) {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return []model.Part{{Text: text}}, true
	}
	var parts []struct {
		Type     string
		Text     string
		ImageURL struct{ URL string } `json:"image_url"`
	}
	if json.Unmarshal(raw, &parts) != nil {
		return nil, false
	}
	var out []model.Part
	for _, p := range parts {
		if p.Type == "text" {
			out = append(out, model.Part{Text: p.Text})
			continue
		}
		_, code, _ := strings.Cut(p.ImageURL.URL, ";base64,")
		data, err := base64.StdEncoding.DecodeString(code)
		if err != nil || !bytes.HasPrefix(data, []byte("\x89PNG")) {
			return nil, false // the backend sends nothing of the kind
		}
		out = append(out, model.Part{Picture: &model.Picture{SHA256: "x", Bytes: func(context.Context) ([]byte, error) { return data, nil }}})
	}
	return out, true
}

// The recordings must stay a fair mix: most are requests that the backend sends itself.
func TestRecordedCoversServers(t *testing.T) {
	b, err := os.ReadFile("testdata/recorded.txt")
	if err != nil {
		t.Fatal(err)
	}
	answered := map[string]int{}
	for line := range strings.Lines(string(b)) {
		if server, rest, _ := strings.Cut(line, "/"); !strings.Contains(rest, ": raw: ") {
			answered[server]++
		}
	}
	if got := slices.Sorted(maps.Keys(answered)); len(got) != 5 || answered["vllm_cpu"] < 30 {
		t.Errorf("recordings that the backend sends: %v", answered)
	}
}
