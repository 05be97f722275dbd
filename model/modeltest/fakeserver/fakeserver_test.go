package fakeserver_test

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/modeltest/fakeserver"
)

func post(t *testing.T, url, body string) (int, string) {
	t.Helper()
	resp, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return resp.StatusCode, err.Error()
	}
	return resp.StatusCode, string(b)
}

const two = `{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"a"}},{"type":"image_url","image_url":{"url":"b"}},{"type":"text","text":"Score."}]}],"seed":4}`

func TestTexts(t *testing.T) {
	s := fakeserver.New(t, fakeserver.Config{})
	for _, tt := range []struct{ body, says string }{
		{`{"messages":[{"role":"user","content":"a cat"}]}`, `"content":"a `},
		{two, `Output for Image 1:\nScore: `},
		{strings.Replace(two, "Score.", "Answer A: x Answer B: y", 1), `Output for Answer A:\nScore: `},
	} {
		status, first := post(t, s.URL+"/v1/chat/completions", tt.body)
		_, again := post(t, s.URL+"/v1/chat/completions", tt.body)
		_, other := post(t, s.URL+"/v1/chat/completions", strings.Replace(tt.body, `"messages"`, `"max_tokens":500,"top_p":0.5,"messages"`, 1))
		if status != 200 || !strings.Contains(first, tt.says) || first != again || first == other {
			t.Errorf("%d %s\nagain %s\nother %s", status, first, again, other)
		}
	}
	st := s.Stats()
	if st.Calls != 9 || st.OK != 9 || st.Distinct != 6 || st.Repeated != 3 || st.PaidTwice != 3 {
		t.Errorf("stats %+v", st)
	}
}

// The same faults for the same content, whatever the concurrency.
func TestFaultsRepeat(t *testing.T) {
	outcomes := func(width int) map[string]int {
		s := fakeserver.New(t, fakeserver.Config{FaultRate: 0.4, Seed: 7, RedirectTo: "http://elsewhere.example/", Faults: []fakeserver.Fault{
			fakeserver.Status429, fakeserver.Status500, fakeserver.Status503, fakeserver.Garbage, fakeserver.Empty,
		}})
		var mu sync.Mutex
		got := map[string]int{}
		slots := make(chan struct{}, width)
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				body, err := json.Marshal(map[string]any{"seed": i, "messages": []map[string]string{{"role": "user", "content": "x"}}})
				if err != nil {
					t.Error(err)
				}
				_, answer := post(t, s.URL+"/v1/chat/completions", string(body))
				mu.Lock()
				got[answer]++
				mu.Unlock()
			})
		}
		wg.Wait()
		if n := len(s.Stats().Faults); n != 5 {
			t.Errorf("%d kinds of fault in 100 requests; want 5", n)
		}
		return got
	}
	if one, many := outcomes(1), outcomes(16); !maps.Equal(one, many) {
		t.Errorf("one at a time %v\n16 at once %v", one, many)
	}
}

func TestSlots(t *testing.T) {
	s := fakeserver.New(t, fakeserver.Config{Slots: 3, Latency: 10 * time.Millisecond})
	begin := time.Now()
	var wg sync.WaitGroup
	for range 12 {
		wg.Go(func() { post(t, s.URL+"/v1/chat/completions", two) })
	}
	wg.Wait()
	st := s.Stats()
	if took := time.Since(begin); took < 40*time.Millisecond || st.MaxInFlight != 3 || st.MaxOpen < 4 || st.Busy < 120*time.Millisecond {
		t.Errorf("12 requests of 10 ms on 3 slots took %v: %+v", took, st)
	}
}

func TestKeyAndRoutes(t *testing.T) {
	s := fakeserver.New(t, fakeserver.Config{Key: "k"})
	if status, body := post(t, s.URL+"/v1/chat/completions", two); status != 401 {
		t.Errorf("without the key: %d %s", status, body)
	}
	for _, tt := range []struct {
		path, body string
		status     int
		says       string
	}{
		{"/v1/nothing", "{}", 404, "Not Found"},
		{"/v1/images/generations", `{"n":1}`, 400, "prompt"},
		{"/v1/images/generations", `{"prompt":"x","size":"64x64"}`, 200, "b64_json"},
		{"/sdapi/v1/txt2img", `{"prompt":"x","width":64,"height":64,"seed":5}`, 200, `\"seed\":5`},
		{"/sdapi/v1/txt2img", `{"prompt":"x","sampler_name":"nope"}`, 404, "Sampler not found"},
		{"/v1/chat/completions", `{"messages":[]}`, 400, "must not be empty"},
		{"/v1/chat/completions", `{`, 400, "JSON"},
	} {
		s.Change(func(c *fakeserver.Config) { c.Key = "" })
		if status, body := post(t, s.URL+tt.path, tt.body); status != tt.status || !strings.Contains(body, tt.says) {
			t.Errorf("%s %s: %d %.200s; want %d, %q", tt.path, tt.body, status, body, tt.status, tt.says)
		}
	}
}

func TestPictureFaults(t *testing.T) {
	s := fakeserver.New(t, fakeserver.Config{FaultRate: 1})
	for fault, check := range map[fakeserver.Fault]func(model.PictureInfo, error) bool{
		fakeserver.Black:   func(p model.PictureInfo, err error) bool { return err == nil && p.Black },
		fakeserver.Damaged: func(_ model.PictureInfo, err error) bool { return err != nil },
		fakeserver.Bomb: func(_ model.PictureInfo, err error) bool {
			return err != nil && strings.Contains(err.Error(), "40000 x 40000")
		},
	} {
		s.Change(func(c *fakeserver.Config) { c.Faults = []fakeserver.Fault{fault} })
		_, body := post(t, s.URL+"/sdapi/v1/txt2img", `{"prompt":"x","width":64,"height":64}`)
		var w struct{ Images [][]byte }
		if err := json.NewDecoder(bytes.NewReader([]byte(body))).Decode(&w); err != nil || len(w.Images) != 1 {
			t.Fatalf("%s: %.100s, %v", fault, body, err)
		}
		if info, err := model.Inspect(w.Images[0], model.PictureLimits{}); !check(info, err) {
			t.Errorf("%s: %+v, %v", fault, info, err)
		}
	}
}
