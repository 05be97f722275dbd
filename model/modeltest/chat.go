package modeltest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/promptmill/promptmill/model"
)

// ChatCaps says which of the optional powers a chat model has.
type ChatCaps struct {
	// Seeds: equal requests with equal seeds get equal answers, and answer i of a request is that of
	// a request for one with Seed+i.
	Seeds bool
	// Varied: answers to one request at temperature 1 are not all the same.
	Varied bool
	// Vision: messages may hold pictures of PictureSize x PictureSize pixels, two of them.
	Vision      bool
	PictureSize int
	// Decodes: it looks at the pictures itself, and refuses those that model.Inspect does.
	Decodes bool
	// Limits: MaxTokens bounds the answers, and a cut-off one says so.
	Limits bool
}

// RunChat tests a chat model as subtests of t. open is called once per subtest.
func RunChat(t *testing.T, open func(t *testing.T) model.Chat, caps ChatCaps) {
	request := func(text string, n int, seed int64) model.ChatRequest {
		return model.ChatRequest{
			Messages: []model.Message{model.Text("system", "Rewrite the prompt."), model.Text("user", text)},
			Sampling: model.Sampling{Temperature: 1, TopP: 0.9, MaxTokens: 24}, Seed: seed, N: n, Template: "modeltest/1",
		}
	}
	texts := func(t *testing.T, m model.Chat, req model.ChatRequest) []string {
		t.Helper()
		resp, err := m.Chat(t.Context(), req)
		if err != nil {
			t.Errorf("Chat: %v", err)
			return make([]string, req.N)
		}
		if len(resp.Answers) != req.N {
			t.Fatalf("Chat gave %d answers; want %d", len(resp.Answers), req.N)
		}
		if resp.Usage.Calls < 1 || resp.Usage.CacheHits != 0 {
			t.Errorf("usage %+v; want at least one call and no cache hits", resp.Usage)
		}
		out := make([]string, req.N)
		for i, a := range resp.Answers {
			out[i] = a.Text
		}
		return out
	}

	t.Run("Info", func(t *testing.T) { checkInfo(t, open(t).Info) })
	t.Run("ExactlyN", func(t *testing.T) {
		m := open(t)
		for _, n := range []int{1, 2, 3, 8} {
			got := texts(t, m, request("a cat", n, 7))
			if caps.Varied && n == 8 && len(slices.Compact(slices.Sorted(slices.Values(got)))) == 1 {
				t.Errorf("8 answers at temperature 1 are all %q", got[0])
			}
		}
	})
	t.Run("Greedy", func(t *testing.T) {
		req := request("a cat", 3, 7)
		req.Sampling.Temperature = 0
		got := texts(t, open(t), req)
		if caps.Seeds && (got[0] != got[1] || got[1] != got[2]) {
			t.Errorf("greedy answers differ: %q", got)
		}
	})
	t.Run("ChildSeeds", func(t *testing.T) {
		if !caps.Seeds {
			t.Skip("no seeds")
		}
		m := open(t)
		all := texts(t, m, request("a dog in the rain", 4, 1000))
		for i, want := range all {
			if got := texts(t, m, request("a dog in the rain", 1, 1000+int64(i)))[0]; got != want {
				t.Errorf("answer %d is %q, asked for alone %q", i, want, got)
			}
		}
	})
	t.Run("Concurrent", func(t *testing.T) {
		m := open(t)
		const n = 16
		together := make([][]string, n)
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() { together[i] = texts(t, m, request(fmt.Sprintf("castle %d", i), 2, int64(i))) })
		}
		wg.Wait()
		if !m.Info().Deterministic {
			return
		}
		for i, want := range together {
			if got := texts(t, m, request(fmt.Sprintf("castle %d", i), 2, int64(i))); !slices.Equal(got, want) {
				t.Errorf("request %d: %q among others, %q alone", i, want, got)
			}
		}
	})
	t.Run("Cancel", func(t *testing.T) {
		m := open(t)
		checkCancel(t, func(ctx context.Context) error {
			_, err := m.Chat(ctx, request("a slow cat", 8, 1))
			return err
		})
		texts(t, m, request("a cat", 1, 1))
	})
	t.Run("HardTexts", func(t *testing.T) {
		m := open(t)
		for name, text := range hardTexts {
			resp, err := m.Chat(t.Context(), request(text, 2, 1))
			if !typed(err) || err == nil && len(resp.Answers) != 2 {
				t.Errorf("%s: %d answers, %v; want 2 or ErrRejected", name, len(resp.Answers), err)
			}
		}
	})
	t.Run("MaxTokens", func(t *testing.T) {
		if !caps.Limits {
			t.Skip("no limits")
		}
		req := request("a cat", 2, 3)
		req.Sampling.MaxTokens = 1
		resp, err := open(t).Chat(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range resp.Answers {
			if a.Finish != model.FinishLength {
				t.Errorf("answer of one token %+v; want finish length", a)
			}
		}
	})
	t.Run("Pictures", func(t *testing.T) {
		if !caps.Vision {
			t.Skip("no vision")
		}
		m := open(t)
		one, two := Picture(t, caps.PictureSize, caps.PictureSize, 0), Picture(t, caps.PictureSize, caps.PictureSize, 255)
		judge := func(a, b model.Picture) model.ChatRequest {
			req := request("", 2, 5)
			req.Messages = []model.Message{{Role: "user", Parts: []model.Part{
				{Text: "Image 1:"}, {Picture: &a}, {Text: "Image 2:"}, {Picture: &b}, {Text: "Score both images."},
			}}}
			return req
		}
		first := texts(t, m, judge(one, two))
		if again := texts(t, m, judge(one, two)); caps.Seeds && !slices.Equal(first, again) {
			t.Errorf("equal requests: %q, then %q", first, again)
		}
		if _, err := m.Chat(t.Context(), judge(one, unreadable())); !errors.Is(err, errPicture) {
			t.Errorf("with a picture that cannot be read: %v; want its error", err)
		}
		if !caps.Decodes {
			return
		}
		for name, data := range BadPictures(t) {
			if _, err := m.Chat(t.Context(), judge(one, PictureOf(data))); !errors.Is(err, model.ErrRejected) {
				t.Errorf("%s: %v; want ErrRejected", name, err)
			}
		}
	})
}
