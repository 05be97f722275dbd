package openai_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/modeltest"
	"github.com/promptmill/promptmill/model/modeltest/fakeserver"
)

func spec(s *fakeserver.Server, options ...string) model.Spec {
	m := map[string]string{}
	for _, o := range options {
		k, v, _ := strings.Cut(o, "=")
		m[k] = v
	}
	return model.Spec{Backend: "openai", Model: "fake", Revision: "1", Endpoint: s.URL, TotalTimeout: 5 * time.Second, Options: m}
}

func openChat(t testing.TB, spec model.Spec) model.Chat {
	t.Helper()
	m, err := model.OpenChat(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// The servers differ in every way that real ones do; the contract is the same for all.
func TestConformance(t *testing.T) {
	all := modeltest.ChatCaps{Seeds: true, Varied: true, Vision: true, PictureSize: 16, Limits: true}
	for _, tt := range []struct {
		name    string
		server  fakeserver.Config
		options []string
		caps    func(*modeltest.ChatCaps)
	}{
		{"complete", fakeserver.Config{}, []string{"deterministic=yes"}, nil},
		{"vllm", fakeserver.Config{GreedyRefusesN: true, MaxPromptBytes: 50000}, nil, nil},
		{"llama-server", fakeserver.Config{MaxN: 2}, []string{"deterministic=yes"}, nil},
		{"no n", fakeserver.Config{NoN: true}, nil, nil},
		{"same n", fakeserver.Config{SameN: true}, nil, func(c *modeltest.ChatCaps) { c.Varied = false }},
		{"no n, no seed", fakeserver.Config{NoN: true, NoSeed: true}, []string{"seed=no"}, func(c *modeltest.ChatCaps) { c.Varied = false }},
		{"no usage, no finish", fakeserver.Config{NoUsage: true, NoFinish: true}, nil, func(c *modeltest.ChatCaps) { c.Limits = false }},
		{"array content", fakeserver.Config{ContentParts: true}, nil, nil},
		{"vila", fakeserver.Config{VILA: true}, []string{"prefix=", "n=no", "seed=no"}, func(c *modeltest.ChatCaps) { c.Varied, c.Limits = false, false }},
		{"text only", fakeserver.Config{NoImages: true}, nil, func(c *modeltest.ChatCaps) { c.Vision = false }},
		{"faults", fakeserver.Config{FaultRate: 0.2, Seed: 3, Faults: []fakeserver.Fault{
			fakeserver.Status429, fakeserver.Status500, fakeserver.Cut, fakeserver.Reset, fakeserver.Garbage, fakeserver.Empty,
		}}, []string{"deterministic=yes"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			caps := all
			if tt.caps != nil {
				tt.caps(&caps)
			}
			s := fakeserver.New(t, tt.server)
			modeltest.RunChat(t, func(t *testing.T) model.Chat { return openChat(t, spec(s, tt.options...)) }, caps)
		})
	}
}

func ask(t *testing.T, m model.Chat, n int, temperature float64) model.ChatResponse {
	t.Helper()
	resp, err := m.Chat(t.Context(), model.ChatRequest{
		Messages: []model.Message{model.Text("user", "a cat")}, Sampling: model.Sampling{Temperature: temperature}, Seed: 5, N: n,
	})
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// The number of requests is what n saves.
func TestRequestsForN(t *testing.T) {
	for _, tt := range []struct {
		name          string
		server        fakeserver.Config
		option        string
		temperature   float64
		first, second int // requests for 8 answers, the first time with the proof
	}{
		{"proved", fakeserver.Config{}, "n=auto", 1, 2, 1},
		{"trusted", fakeserver.Config{}, "n=yes", 1, 1, 1},
		{"not trusted", fakeserver.Config{}, "n=no", 1, 8, 8},
		{"greedy", fakeserver.Config{GreedyRefusesN: true}, "n=auto", 0, 8, 8},
		{"ignored", fakeserver.Config{NoN: true}, "n=auto", 1, 9, 8},
		{"copies", fakeserver.Config{SameN: true}, "n=auto", 1, 9, 8},
		{"refused", fakeserver.Config{MaxN: 1}, "n=auto", 1, 9, 8},
		{"trusted in vain", fakeserver.Config{NoN: true}, "n=yes", 1, 8, 8},
		// 8 refused, 1, then 4 and 3; afterwards 4 and 4.
		{"at most four", fakeserver.Config{MaxN: 4}, "n=auto", 1, 5, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := fakeserver.New(t, tt.server)
			m := openChat(t, spec(s, tt.option))
			for turn, want := range []int{tt.first, tt.second} {
				s.ResetStats()
				resp := ask(t, m, 8, tt.temperature)
				if got := s.Stats().Calls; got != want {
					t.Errorf("turn %d: %d requests; want %d", turn, got, want)
				}
				if resp.Usage.Calls == 0 || resp.Usage.PromptTokens == 0 || resp.Usage.CompletionTokens == 0 {
					t.Errorf("usage %+v", resp.Usage)
				}
			}
		})
	}
}

// Many first requests at once need one proof.
func TestProofOnce(t *testing.T) {
	s := fakeserver.New(t, fakeserver.Config{Latency: 10 * time.Millisecond})
	m := openChat(t, spec(s))
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { ask(t, m, 2, 1) })
	}
	wg.Wait()
	if n := s.Stats().Calls; n != 21 {
		t.Errorf("20 requests and a proof are %d calls", n)
	}
}

// A request that is refused for itself is not taken for a refusal of n.
func TestRefusedRequestSaysNothingAboutN(t *testing.T) {
	s := fakeserver.New(t, fakeserver.Config{MaxPromptBytes: 1000})
	m := openChat(t, spec(s))
	_, err := m.Chat(t.Context(), model.ChatRequest{
		Messages: []model.Message{model.Text("user", strings.Repeat("long ", 500))}, Sampling: model.Sampling{Temperature: 1}, N: 8,
	})
	if !errors.Is(err, model.ErrRejected) || !strings.Contains(err.Error(), "maximum context length") {
		t.Errorf("error is %v; want ErrRejected", err)
	}
	s.ResetStats()
	if ask(t, m, 8, 1); s.Stats().Calls != 1 {
		t.Errorf("afterwards 8 answers take %d requests; want 1", s.Stats().Calls)
	}
}

func judge(t *testing.T, m model.Chat) error {
	one, two := modeltest.Picture(t, 8, 8, 1), modeltest.Picture(t, 8, 8, 2)
	_, err := m.Chat(t.Context(), model.ChatRequest{
		Messages: []model.Message{{Role: "user", Parts: []model.Part{{Picture: &one}, {Picture: &two}, {Text: "Score."}}}}, N: 1,
	})
	return err
}

func TestProbe(t *testing.T) {
	t.Run("first use", func(t *testing.T) {
		s := fakeserver.New(t, fakeserver.Config{LastImageOnly: true})
		m := openChat(t, spec(s))
		ask(t, m, 1, 1) // text needs no probe
		for range 2 {
			if err := judge(t, m); !errors.Is(err, model.ErrConfig) || !strings.Contains(err.Error(), "first of two pictures") {
				t.Errorf("judging by a server that keeps the last picture: %v; want ErrConfig", err)
			}
		}
		if n := s.Stats().Calls; n != 4 {
			t.Errorf("%d calls; want 1 and 3 of the probe", n)
		}
	})
	t.Run("at start", func(t *testing.T) {
		s := fakeserver.New(t, fakeserver.Config{LastImageOnly: true})
		if _, err := model.OpenChat(t.Context(), spec(s, "probe=two_images")); !errors.Is(err, model.ErrConfig) {
			t.Errorf("opening a server that keeps the last picture: %v; want ErrConfig", err)
		}
		good := fakeserver.New(t, fakeserver.Config{})
		m := openChat(t, spec(good, "probe=two_images"))
		if err := judge(t, m); err != nil || good.Stats().Calls != 5 {
			t.Errorf("%d calls, %v; want 4 of the probe and 1", good.Stats().Calls, err)
		}
	})
	t.Run("off", func(t *testing.T) {
		s := fakeserver.New(t, fakeserver.Config{LastImageOnly: true})
		if err := judge(t, openChat(t, spec(s, "probe=off"))); err != nil || s.Stats().Calls != 1 {
			t.Errorf("%d calls, %v", s.Stats().Calls, err)
		}
	})
	t.Run("refused pictures", func(t *testing.T) {
		s := fakeserver.New(t, fakeserver.Config{MaxPromptBytes: 300})
		if err := judge(t, openChat(t, spec(s))); !errors.Is(err, model.ErrConfig) {
			t.Errorf("error is %v; want ErrConfig", err)
		}
	})
	t.Run("no verdict without an answer", func(t *testing.T) {
		s := fakeserver.New(t, fakeserver.Config{FaultRate: 1})
		sp := spec(s)
		sp.TotalTimeout = 200 * time.Millisecond
		m := openChat(t, sp)
		if err := judge(t, m); !errors.Is(err, model.ErrUnavailable) || errors.Is(err, model.ErrConfig) {
			t.Errorf("error is %v; want ErrUnavailable", err)
		}
		s.Change(func(c *fakeserver.Config) { c.FaultRate = 0 })
		if err := judge(t, m); err != nil {
			t.Errorf("after the outage: %v", err)
		}
	})
}

func TestOptions(t *testing.T) {
	s := fakeserver.New(t, fakeserver.Config{})
	for _, tt := range []struct{ option, says string }{
		{"typo=1", `no option "typo"; there are prefix, n, `},
		{"n=maybe", `option n: "maybe" is not one of auto, yes, no`},
		{"seed=1", "option seed"},
		{"probe=yes", "option probe"},
		{"prefix=v1", "option prefix"},
		{"prefix=/v1?key=1", "option prefix"},
		{"beams=many", "option beams"},
		{"extra=[1]", "option extra: not a JSON object"},
		{"extra=null", "option extra: not a JSON object"},
		{`extra={"n":3}`, `option extra: "n" is set by promptmill itself`},
		{"deterministic=true", "option deterministic"},
	} {
		if _, err := model.OpenChat(t.Context(), spec(s, tt.option)); !errors.Is(err, model.ErrConfig) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v; want ErrConfig with %q", tt.option, err, tt.says)
		}
	}
	if _, err := model.OpenChat(t.Context(), model.Spec{Backend: "openai", Endpoint: s.URL}); !errors.Is(err, model.ErrConfig) {
		t.Errorf("without a model: %v; want ErrConfig", err)
	}
	got := openChat(t, spec(s, "deterministic=yes")).Info()
	if want := (model.Info{Name: "openai fake", Weights: "fake@1", Deterministic: true}); got != want {
		t.Errorf("Info = %+v; want %+v", got, want)
	}
	if n := s.Stats().Calls; n != 0 {
		t.Errorf("opening made %d calls", n)
	}
}

func TestBadPicture(t *testing.T) {
	s := fakeserver.New(t, fakeserver.Config{})
	gif := model.Picture{SHA256: "abc", Bytes: func(context.Context) ([]byte, error) { return []byte("GIF89a..."), nil }}
	_, err := openChat(t, spec(s)).Chat(t.Context(), model.ChatRequest{
		Messages: []model.Message{{Role: "user", Parts: []model.Part{{Picture: &gif}}}}, N: 1,
	})
	if !errors.Is(err, model.ErrRejected) || s.Stats().Calls != 0 {
		t.Errorf("a GIF: %d calls, %v; want none, ErrRejected", s.Stats().Calls, err)
	}
}

// Eight rewrites and one judgment, as the pipelines ask.
func Example() {
	s, err := fakeserver.Start(fakeserver.Config{})
	if err != nil {
		panic(err)
	}
	defer s.Close()
	m, err := model.OpenChat(context.Background(), model.Spec{Backend: "openai", Model: "fake", Endpoint: s.URL})
	if err != nil {
		panic(err)
	}
	resp, err := m.Chat(context.Background(), model.ChatRequest{
		Messages: []model.Message{model.Text("user", "a cat")}, Sampling: model.Sampling{Temperature: 0.9, TopP: 0.9, MaxTokens: 4}, N: 8, Seed: 1,
	})
	fmt.Println(len(resp.Answers), resp.Answers[0].Text, err)
	// Output: 8 a golden portrait concept <nil>
}
