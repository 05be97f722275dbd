package responselog_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/responselog"
	"github.com/promptmill/promptmill/store"
)

// speaker answers differently each time it is asked, so that an answer from the log shows. It writes
// down what it was asked for as seed+n.
type speaker struct {
	info  model.Info
	calls atomic.Int64
	// before, if set, runs in each call; its error is the call's.
	before func(ctx context.Context, req model.ChatRequest) error

	mu    sync.Mutex
	asked []string
}

// spoken makes the answers of any two speakers differ.
var spoken atomic.Int64

func newSpeaker() *speaker {
	return &speaker{info: model.Info{Name: "speaker", Weights: "w1", Deterministic: true}}
}

func (s *speaker) Info() model.Info { return s.info }

func (s *speaker) Chat(ctx context.Context, req model.ChatRequest) (model.ChatResponse, error) {
	s.calls.Add(1)
	call := spoken.Add(1)
	s.mu.Lock()
	s.asked = append(s.asked, fmt.Sprintf("%d+%d", req.Seed, req.N))
	s.mu.Unlock()
	usage := model.Usage{Calls: 1, PromptTokens: 10}
	if s.before != nil {
		if err := s.before(ctx, req); err != nil {
			return model.ChatResponse{Usage: usage}, err
		}
	}
	resp := model.ChatResponse{Usage: usage}
	for i := range req.N {
		resp.Answers = append(resp.Answers, model.Answer{
			Text:   fmt.Sprintf("call %d seed %d", call, req.Seed+int64(i)),
			Finish: model.FinishStop,
		})
	}
	return resp, nil
}

func request(text string, seed int64, n int) model.ChatRequest {
	return model.ChatRequest{Messages: []model.Message{model.Text("user", text)}, Seed: seed, N: n, Template: "t@1"}
}

func local(t testing.TB, dir string) store.Store {
	t.Helper()
	st, err := store.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// open opens a log of st and closes it with the test.
func open(t testing.TB, st store.Store) *responselog.Log {
	t.Helper()
	log, err := responselog.New(t.Context(), st)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shut(t, log) })
	return log
}

func shut(t testing.TB, log *responselog.Log) {
	t.Helper()
	if err := log.Close(); err != nil {
		t.Error(err)
	}
}

// ask returns the answers' texts.
func ask(t testing.TB, c model.Chat, req model.ChatRequest) ([]string, model.Usage) {
	t.Helper()
	resp, err := c.Chat(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, a := range resp.Answers {
		texts = append(texts, a.Text)
	}
	return texts, resp.Usage
}

func names(t testing.TB, st store.Store, prefix string) []string {
	t.Helper()
	var all []string
	for info, err := range st.List(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, info.Name)
	}
	return all
}

func TestAsksOnlyWhatIsMissing(t *testing.T) {
	type step struct {
		seed  int64
		n     int
		asked []string
		usage model.Usage
	}
	for _, tc := range []struct {
		name  string
		steps []step
	}{
		{"n grows", []step{
			{100, 2, []string{"100+2"}, model.Usage{Calls: 1, PromptTokens: 10}},
			{100, 4, []string{"102+2"}, model.Usage{Calls: 1, CacheHits: 2, PromptTokens: 10}},
			{100, 8, []string{"104+4"}, model.Usage{Calls: 1, CacheHits: 4, PromptTokens: 10}},
			{100, 8, nil, model.Usage{CacheHits: 8}},
			{100, 3, nil, model.Usage{CacheHits: 3}},
			{102, 6, nil, model.Usage{CacheHits: 6}},
		}},
		{"two gaps are two requests", []step{
			{7, 1, []string{"7+1"}, model.Usage{Calls: 1, PromptTokens: 10}},
			{10, 2, []string{"10+2"}, model.Usage{Calls: 1, PromptTokens: 10}},
			{6, 8, []string{"6+1", "8+2", "12+2"}, model.Usage{Calls: 3, CacheHits: 3, PromptTokens: 30}},
			{6, 8, nil, model.Usage{CacheHits: 8}},
		}},
		{"other seeds are other answers", []step{
			{1, 2, []string{"1+2"}, model.Usage{Calls: 1, PromptTokens: 10}},
			{5, 2, []string{"5+2"}, model.Usage{Calls: 1, PromptTokens: 10}},
		}},
		{"across the index's blocks and at the ends of the seeds", []step{
			{250, 12, []string{"250+12"}, model.Usage{Calls: 1, PromptTokens: 10}},
			{250, 12, nil, model.Usage{CacheHits: 12}},
			{258, 2, nil, model.Usage{CacheHits: 2}},
			{0, 1, []string{"0+1"}, model.Usage{Calls: 1, PromptTokens: 10}},
			{1<<31 - 1024, 1024, []string{"2147482624+1024"}, model.Usage{Calls: 1, PromptTokens: 10}},
			{1<<31 - 1024, 1024, nil, model.Usage{CacheHits: 1024}},
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inner := newSpeaker()
			st := local(t, t.TempDir())
			first := map[int64]string{}
			for i, s := range tc.steps {
				inner.asked = nil
				// Each step in a log of its own: what counts is what is stored.
				log := open(t, st)
				texts, usage := ask(t, responselog.Chat(inner, log), request("a cat", s.seed, s.n))
				shut(t, log)
				if !slices.Equal(inner.asked, s.asked) || usage != s.usage {
					t.Errorf("step %d asked %v and used %+v, want %v and %+v", i, inner.asked, usage, s.asked, s.usage)
				}
				for j, text := range texts {
					at := s.seed + int64(j)
					if first[at] == "" {
						first[at] = text
					}
					if text != first[at] || !strings.HasSuffix(text, fmt.Sprintf("seed %d", at)) {
						t.Errorf("step %d: answer at %d is %q, was %q", i, at, text, first[at])
					}
				}
			}
		})
	}
}

func TestEveryFieldIsInTheKey(t *testing.T) {
	base := func() (model.Info, model.ChatRequest) {
		return model.Info{Name: "m", Weights: "w"}, model.ChatRequest{
			Messages: []model.Message{
				{Role: "system", Parts: []model.Part{{Text: "ab"}, {Text: "c"}}},
				{Role: "user", Parts: []model.Part{{Text: "d"}, {Picture: &model.Picture{SHA256: "00"}}}},
			},
			Sampling: model.Sampling{Temperature: .9, TopP: .9, MaxTokens: 5, Stop: []string{"x", "y"}},
			Seed:     3, N: 1, Template: "t",
		}
	}
	for _, tc := range []struct {
		name   string
		change func(*model.Info, *model.ChatRequest)
		same   bool
	}{
		{"nothing", func(*model.Info, *model.ChatRequest) {}, true},
		{"the backend's name", func(i *model.Info, _ *model.ChatRequest) { i.Name = "other" }, true},
		{"weights", func(i *model.Info, _ *model.ChatRequest) { i.Weights = "v" }, false},
		{"template", func(_ *model.Info, r *model.ChatRequest) { r.Template = "u" }, false},
		{"temperature", func(_ *model.Info, r *model.ChatRequest) { r.Sampling.Temperature = 1 }, false},
		{"top p", func(_ *model.Info, r *model.ChatRequest) { r.Sampling.TopP = 1 }, false},
		{"max tokens", func(_ *model.Info, r *model.ChatRequest) { r.Sampling.MaxTokens = 6 }, false},
		{"stop", func(_ *model.Info, r *model.ChatRequest) { r.Sampling.Stop = []string{"xy"} }, false},
		{"role", func(_ *model.Info, r *model.ChatRequest) { r.Messages[1].Role = "assistant" }, false},
		{"text", func(_ *model.Info, r *model.ChatRequest) { r.Messages[1].Parts[0].Text = "e" }, false},
		{"where parts end", func(_ *model.Info, r *model.ChatRequest) {
			r.Messages[0].Parts = []model.Part{{Text: "a"}, {Text: "bc"}}
		}, false},
		{"where messages end", func(_ *model.Info, r *model.ChatRequest) {
			r.Messages = []model.Message{{Role: "system", Parts: slices.Concat(r.Messages[0].Parts, r.Messages[1].Parts)}}
		}, false},
		{"picture", func(_ *model.Info, r *model.ChatRequest) { r.Messages[1].Parts[1].Picture.SHA256 = "01" }, false},
		{"a text like a picture", func(_ *model.Info, r *model.ChatRequest) { r.Messages[1].Parts[1] = model.Part{Text: "00"} }, false},
		{"seed", func(_ *model.Info, r *model.ChatRequest) { r.Seed = 4 }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			log := open(t, local(t, t.TempDir()))
			inner := newSpeaker()
			var req model.ChatRequest
			inner.info, req = base()
			ask(t, responselog.Chat(inner, log), req)
			inner.info, req = base()
			tc.change(&inner.info, &req)
			_, usage := ask(t, responselog.Chat(inner, log), req)
			if same := usage.CacheHits == 1; same != tc.same {
				t.Errorf("the second request is answered from the log: %v, want %v", same, tc.same)
			}
		})
	}
}

func TestEqualSamplings(t *testing.T) {
	log := open(t, local(t, t.TempDir()))
	inner := newSpeaker()
	chat := responselog.Chat(inner, log)
	zero := 0.
	for _, s := range []model.Sampling{{}, {TopP: 1}, {Temperature: -zero}, {Temperature: -1 * zero, Stop: []string{}}} {
		req := request("p", 1, 1)
		req.Sampling = s
		ask(t, chat, req)
	}
	if n := inner.calls.Load(); n != 1 {
		t.Errorf("four spellings of one sampling were asked %d times", n)
	}
}

func TestAnswersReadBackAsTheyWere(t *testing.T) {
	for _, answers := range [][]model.Answer{
		{{Text: "", Finish: model.FinishUnknown}},
		{{Text: strings.Repeat("score: 7\n", 5000), Finish: model.FinishLength}, {Text: "\x00\xff not UTF-8", Finish: model.FinishFilter}},
		{{Text: "ß 🐈", Finish: "tool_calls"}},
	} {
		st := local(t, t.TempDir())
		log := open(t, st)
		got, err := responselog.Chat(fixed(answers), log).Chat(t.Context(), request("p", 1, len(answers)))
		if err != nil {
			t.Fatal(err)
		}
		shut(t, log)
		again, err := responselog.Chat(fixed(nil), open(t, st)).Chat(t.Context(), request("p", 1, len(answers)))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(got.Answers, again.Answers); diff != "" {
			t.Error(diff)
		}
	}
}

// fixed gives always the same answers, however many were asked for.
type fixed []model.Answer

func (fixed) Info() model.Info { return model.Info{Name: "fixed", Weights: "w"} }

func (f fixed) Chat(context.Context, model.ChatRequest) (model.ChatResponse, error) {
	return model.ChatResponse{Answers: f, Usage: model.Usage{Calls: 1}}, nil
}

func TestFailures(t *testing.T) {
	t.Run("errors are not stored, and what succeeded before is", func(t *testing.T) {
		log := open(t, local(t, t.TempDir()))
		inner := newSpeaker()
		chat := responselog.Chat(inner, log)
		ask(t, chat, request("p", 2, 1))
		inner.before = func(_ context.Context, req model.ChatRequest) error {
			if req.Seed == 3 {
				return fmt.Errorf("too long: %w", model.ErrRejected)
			}
			return nil
		}
		resp, err := chat.Chat(t.Context(), request("p", 0, 6))
		if !errors.Is(err, model.ErrRejected) || resp.Usage.Calls != 2 || resp.Usage.CacheHits != 0 || len(resp.Answers) != 0 {
			t.Errorf("got %+v, %v; want two calls and the model's error", resp, err)
		}
		inner.before, inner.asked = nil, nil
		if _, usage := ask(t, chat, request("p", 0, 6)); usage.CacheHits != 3 || !slices.Equal(inner.asked, []string{"3+3"}) {
			t.Errorf("asked %v with %d hits; want 3+3 and 3", inner.asked, usage.CacheHits)
		}
	})
	t.Run("too few answers", func(t *testing.T) {
		log := open(t, local(t, t.TempDir()))
		if _, err := responselog.Chat(fixed(make([]model.Answer, 1)), log).Chat(t.Context(), request("p", 0, 2)); err == nil {
			t.Error("one answer to a request for two is taken")
		}
		if n := log.Stats().Calls; n != 0 {
			t.Errorf("%d records of it", n)
		}
	})
	t.Run("no identity", func(t *testing.T) {
		inner := newSpeaker()
		inner.info.Weights = ""
		_, err := responselog.Chat(inner, open(t, local(t, t.TempDir()))).Chat(t.Context(), request("p", 0, 1))
		if !errors.Is(err, model.ErrConfig) {
			t.Errorf("a model without weights: %v", err)
		}
	})
	for _, req := range []model.ChatRequest{request("p", -1, 1), request("p", 1<<31-1023, 1), request("p", 0, 0), request("p", 0, 1025)} {
		if _, err := responselog.Chat(newSpeaker(), open(t, local(t, t.TempDir()))).Chat(t.Context(), req); !errors.Is(err, model.ErrRejected) {
			t.Errorf("seed %d n %d: %v", req.Seed, req.N, err)
		}
	}
	t.Run("closed", func(t *testing.T) {
		log := open(t, local(t, t.TempDir()))
		shut(t, log)
		if _, err := responselog.Chat(newSpeaker(), log).Chat(t.Context(), request("p", 0, 1)); !errors.Is(err, responselog.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}

func TestInfoPassesThrough(t *testing.T) {
	inner := newSpeaker()
	if got := responselog.Chat(inner, open(t, local(t, t.TempDir()))).Info(); got != inner.info {
		t.Errorf("got %+v", got)
	}
}

func TestOneCallForManyWhoAskAtOnce(t *testing.T) {
	log := open(t, local(t, t.TempDir()))
	inner := newSpeaker()
	inner.before = func(context.Context, model.ChatRequest) error {
		time.Sleep(20 * time.Millisecond)
		return nil
	}
	var calls, hits atomic.Int64
	texts := make([]string, 100)
	var wg sync.WaitGroup
	for i := range texts {
		wg.Go(func() {
			// Two wrappers of one log: the flights are the log's.
			resp, err := responselog.Chat(inner, log).Chat(t.Context(), request("p", 1, 1+i%3))
			if err != nil {
				t.Error(err)
				return
			}
			texts[i] = resp.Answers[0].Text
			calls.Add(int64(resp.Usage.Calls))
			hits.Add(int64(resp.Usage.CacheHits))
		})
	}
	wg.Wait()
	if n := inner.calls.Load(); n > 3 || n != calls.Load() {
		t.Errorf("%d calls were made, %d counted; want at most one for each of three answers", n, calls.Load())
	}
	if got, want := log.Stats().Stored+hits.Load(), int64(199); got != want {
		t.Errorf("%d answers asked or hit, want %d", got, want)
	}
	if len(slices.Compact(texts)) != 1 {
		t.Errorf("different answers to one request")
	}
}

func TestErrorsAreSharedAndCancellationIsNot(t *testing.T) {
	log := open(t, local(t, t.TempDir()))
	inner := newSpeaker()
	chat := responselog.Chat(inner, log)
	entered, leave := make(chan struct{}, 100), make(chan struct{})
	inner.before = func(ctx context.Context, _ model.ChatRequest) error {
		entered <- struct{}{}
		select {
		case <-leave:
			return model.ErrUnavailable
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	errs := make(chan error, 2)
	go func() { _, err := chat.Chat(ctx, request("p", 1, 1)); errs <- err }()
	<-entered
	go func() { _, err := chat.Chat(t.Context(), request("p", 1, 1)); errs <- err }()
	cancel()
	if err := <-errs; !errors.Is(err, context.Canceled) {
		t.Errorf("who was cancelled: %v", err)
	}
	<-entered // the second now asks for itself
	third := make(chan error)
	go func() { _, err := chat.Chat(t.Context(), request("p", 1, 1)); third <- err }()
	waiting, stop := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer stop()
	if _, err := chat.Chat(waiting, request("p", 1, 1)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("who waits is not cancelled: %v", err)
	}
	close(leave)
	if err := <-errs; !errors.Is(err, model.ErrUnavailable) {
		t.Errorf("who asked: %v", err)
	}
	if err := <-third; !errors.Is(err, model.ErrUnavailable) {
		t.Errorf("who waited: %v", err)
	}
}

func TestAnswerOfACancelledCallerIsKept(t *testing.T) {
	log := open(t, local(t, t.TempDir()))
	inner := newSpeaker()
	ctx, cancel := context.WithCancel(t.Context())
	inner.before = func(context.Context, model.ChatRequest) error { cancel(); return nil }
	_, _ = responselog.Chat(inner, log).Chat(ctx, request("p", 1, 2))
	if _, usage := ask(t, responselog.Chat(inner, log), request("p", 1, 2)); usage.CacheHits != 2 {
		t.Errorf("%+v: the paid answers are lost", usage)
	}
}

func TestPanicOfAModelBlocksNobody(t *testing.T) {
	log := open(t, local(t, t.TempDir()))
	inner := newSpeaker()
	chat := responselog.Chat(inner, log)
	inner.before = func(context.Context, model.ChatRequest) error { panic("model") }
	func() {
		defer func() { _ = recover() }()
		_, _ = chat.Chat(t.Context(), request("p", 1, 1))
	}()
	inner.before = nil
	ask(t, chat, request("p", 1, 1))
}
