package vlm_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/modeltest"
	"github.com/promptmill/promptmill/model/onnx"
	"github.com/promptmill/promptmill/model/tokenizer"
	"github.com/promptmill/promptmill/model/vlm"
)

// plain runs a model's graphs without a cache: the whole text for each token.
type plain struct {
	tb             testing.TB
	tokens         *tokenizer.Tokenizer
	embed, decoder *onnx.Session
	shape          shape
}

func newPlain(tb testing.TB, dir string, s shape) *plain {
	tb.Helper()
	tokens, err := tokenizer.Open(dir)
	if err != nil {
		tb.Fatal(err)
	}
	p := &plain{tb: tb, tokens: tokens, shape: s}
	for name, session := range map[string]**onnx.Session{"embed_tokens.onnx": &p.embed, "decoder_model_merged.onnx": &p.decoder} {
		if *session, err = onnx.Open(filepath.Join(dir, "onnx", name), onnx.Options{}); err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup((*session).Close)
	}
	return p
}

func tensor[E onnx.Element](tb testing.TB, data []E, dims ...int64) *onnx.Tensor {
	tb.Helper()
	t, err := onnx.NewTensor(data, dims...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(t.Close)
	return t
}

// prompt is the ids of a conversation of one user message without pictures, filled up.
func (p *plain) prompt(text string) []int64 {
	ids := p.tokens.Encode("<bos><user>"+text+"<answer>", false)
	ids = append(make([]int32, (16-len(ids)%16)%16), ids...)
	out := make([]int64, len(ids))
	for i, id := range ids {
		if out[i] = int64(id); i < 16 && id == 0 {
			out[i] = 256 // <pad>
		}
	}
	return out
}

// logits are those after each token of rows of equal length.
func (p *plain) logits(rows ...[]int64) []float32 {
	p.tb.Helper()
	n, length := int64(len(rows)), int64(len(rows[0]))
	run := func(s *onnx.Session, in ...*onnx.Tensor) *onnx.Tensor {
		out, err := s.Run(p.tb.Context(), in)
		if err != nil {
			p.tb.Fatal(err)
		}
		for _, t := range out {
			p.tb.Cleanup(t.Close)
		}
		return out[0]
	}
	embeds := run(p.embed, tensor(p.tb, slices.Concat(rows...), n, length))
	var places []int64
	for range n {
		for i := range length {
			places = append(places, i)
		}
	}
	in := []*onnx.Tensor{embeds, tensor(p.tb, slices.Repeat([]int64{1}, int(n*length)), n, length), tensor(p.tb, places, n, length)}
	for range 2 * p.shape.layers {
		in = append(in, tensor(p.tb, []float32{}, n, int64(p.shape.heads), 0, int64(p.shape.hidden/p.shape.heads)))
	}
	out := make([]*onnx.Tensor, len(p.decoder.Outputs()))
	if err := p.decoder.RunInto(p.tb.Context(), in, out); err != nil {
		p.tb.Fatal(err)
	}
	for _, t := range out {
		p.tb.Cleanup(t.Close)
	}
	for i, o := range p.decoder.Outputs() {
		if o.Name == "logits" {
			return onnx.Data[float32](out[i])
		}
	}
	p.tb.Fatal("no logits")
	return nil
}

// logProbs are the log-probabilities of what follows a row.
func (p *plain) logProbs(row []int64) []float64 {
	vocab := p.shape.tokens()
	logits := p.logits(row)
	return normalized(logits[len(logits)-vocab:])
}

func normalized(logits []float32) []float64 {
	sum := 0.
	for _, l := range logits {
		sum += math.Exp(float64(l))
	}
	out := make([]float64, len(logits))
	for i, l := range logits {
		out[i] = float64(l) - math.Log(sum)
	}
	return out
}

func likeliest(logs []float64) int {
	best := 0
	for i, v := range logs {
		if v > logs[best] {
			best = i
		}
	}
	return best
}

func ask(text string, n int, seed int64, s model.Sampling) model.ChatRequest {
	return model.ChatRequest{Messages: []model.Message{model.Text("user", text)}, Sampling: s, Seed: seed, N: n}
}

func chat(tb testing.TB, m model.Chat, req model.ChatRequest) model.ChatResponse {
	tb.Helper()
	res, err := m.Chat(tb.Context(), req)
	if err != nil {
		tb.Error(err)
		return model.ChatResponse{Answers: make([]model.Answer, req.N)}
	}
	return res
}

func TestGreedyEqualsRecomputation(t *testing.T) {
	for name, s := range map[string]shape{"plain": small, "optional inputs": withOptional(small)} {
		t.Run(name, func(t *testing.T) {
			m, ref := open(t, folder(t, s), vlm.Options{}), newPlain(t, folder(t, small), small)
			for _, text := range []string{"a cat", "a much longer prompt with a castle in it", ""} {
				row, want := ref.prompt(text), []int32(nil)
				start, finish := len(row), model.FinishLength
				for range 20 {
					next := likeliest(ref.logProbs(row))
					if next == 258 {
						finish = model.FinishStop
						break
					}
					row, want = append(row, int64(next)), append(want, int32(next))
				}
				res := chat(t, m, ask(text, 2, 1, model.Sampling{MaxTokens: 20}))
				if got := res.Answers[0]; got.Text != ref.tokens.Decode(want, true) || got.Finish != finish || res.Answers[1] != got {
					t.Errorf("%q: %+v; want twice %q, %s", text, res.Answers, ref.tokens.Decode(want, true), finish)
				}
				if res.Usage.PromptTokens != start || res.Usage.Calls != 1 {
					t.Errorf("%q: usage %+v; want %d prompt tokens", text, res.Usage, start)
				}
			}
		})
	}
}

func withOptional(s shape) shape {
	s.optional = true
	return s
}

func TestLogProbsEqualRecomputation(t *testing.T) {
	dir := folder(t, small)
	m, ref := open(t, dir, vlm.Options{}), newPlain(t, dir, small)
	answers := []string{"sharp focus", "x", ""}
	got, err := m.LogProbs(t.Context(), []model.Message{model.Text("user", "a cat")}, answers)
	if err != nil {
		t.Fatal(err)
	}
	for i, answer := range answers {
		row := ref.prompt("a cat")
		ids := append(ref.tokens.Encode(answer, false), 258)
		if len(got[i]) != len(ids) {
			t.Fatalf("%q: %d numbers, want %d", answer, len(got[i]), len(ids))
		}
		for j, id := range ids {
			if want := ref.logProbs(row)[id]; math.Abs(got[i][j]-want) > 1e-4 {
				t.Errorf("%q: token %d: %v, want %v", answer, j, got[i][j], want)
			}
			row = append(row, int64(id))
		}
	}
}

// Every row of a batch has the bits that it has alone: what batching in this package relies on.
func TestRowsKeepTheirBits(t *testing.T) {
	s := small
	s.hidden, s.heads, s.layers = 144, 4, 3
	ref := newPlain(t, folder(t, s), s)
	for _, length := range []int{1, 2, 32} {
		var rows [][]int64
		for i := range 33 {
			rows = append(rows, ref.prompt(fmt.Sprintf("castle number %02d.", i))[32-length:])
			rows[i][0] = int64(i)
		}
		each := length * s.tokens()
		for _, n := range []int{2, 3, 8, 33} {
			all := ref.logits(rows[:n]...)
			for i := range n {
				if alone := ref.logits(rows[i]); !slices.Equal(all[i*each:(i+1)*each], alone) {
					t.Errorf("%d tokens: row %d of %d has other bits than alone", length, i, n)
				}
			}
		}
	}
}

func TestAnswersDoNotDependOnOthers(t *testing.T) {
	dir := folder(t, small)
	alone, busy := open(t, dir, vlm.Options{Parallel: 1}), open(t, dir, vlm.Options{MaxBatch: 10, Parallel: 2})
	one, two := modeltest.Picture(t, 20, 30, 0), modeltest.Picture(t, 16, 16, 200)
	var requests []model.ChatRequest
	for i := range 40 {
		req := ask(strings.Repeat("castle ", i%5)+fmt.Sprint(i), 1+i%4, int64(i), model.Sampling{Temperature: .9, TopP: .9, MaxTokens: 5 + i})
		if i%3 == 0 {
			req.Messages[0].Parts = append(req.Messages[0].Parts, model.Part{Picture: &one}, model.Part{Picture: &two})
		}
		if i%7 == 0 {
			req.N = 23 // more than a batch
		}
		requests = append(requests, req)
	}
	got := make([]model.ChatResponse, len(requests))
	var wg sync.WaitGroup
	for i, req := range requests {
		wg.Go(func() {
			time.Sleep(time.Duration(i%10) * time.Millisecond) // some join those that run
			got[i] = chat(t, busy, req)
		})
	}
	wg.Wait()
	for i, req := range requests {
		want := chat(t, alone, req)
		if !slices.Equal(got[i].Answers, want.Answers) || got[i].Usage != want.Usage {
			t.Errorf("request %d: %q among others, %q alone", i, got[i].Answers, want.Answers)
		}
	}
}

func TestPicturesCount(t *testing.T) {
	for name, s := range map[string]shape{"rank 4": small, "rank 5": withOptional(small)} {
		t.Run(name, func(t *testing.T) {
			m := open(t, folder(t, s), vlm.Options{})
			one, two := modeltest.Picture(t, 16, 16, 0), modeltest.Picture(t, 16, 16, 255)
			logProb := func(pictures ...model.Picture) float64 {
				message := model.Text("user", "which?")
				for _, p := range pictures {
					message.Parts = append(message.Parts, model.Part{Picture: &p})
				}
				got, err := m.LogProbs(t.Context(), []model.Message{message}, []string{"first"})
				if err != nil {
					t.Fatal(err)
				}
				return got[0][0]
			}
			if a, b := logProb(one, two), logProb(two, one); a == b {
				t.Errorf("the order of pictures does not count: %v", a)
			}
			if a, b := logProb(one, two), logProb(one, two); a != b {
				t.Errorf("equal pictures: %v, then %v", a, b)
			}
		})
	}
}

func TestStop(t *testing.T) {
	m := open(t, folder(t, small), vlm.Options{})
	how := model.Sampling{Temperature: 1, MaxTokens: 40}
	whole := chat(t, m, ask("a cat", 1, 3, how)).Answers[0].Text
	stop := whole[len(whole)/2 : len(whole)/2+3]
	how.Stop = []string{"", "never to be seen", stop}
	want, _, _ := strings.Cut(whole, stop)
	got := chat(t, m, ask("a cat", 1, 3, how))
	if a := got.Answers[0]; a.Text != want || a.Finish != model.FinishStop {
		t.Errorf("stop %q: %+v; want %q, stop", stop, a, want)
	}
	if got.Usage.CompletionTokens >= 40 {
		t.Errorf("stop %q: %d tokens were drawn", stop, got.Usage.CompletionTokens)
	}
}

// Answers at a temperature have the model's frequencies, cut at top-p.
func TestFrequencies(t *testing.T) {
	dir := folder(t, small)
	m, ref := open(t, dir, vlm.Options{}), newPlain(t, dir, small)
	const n, temperature, topP = 4000, .7, .8
	logs := ref.logProbs(ref.prompt("a cat"))
	type token struct {
		id int
		p  float64
	}
	var all []token
	sum := 0.
	for id, l := range logs {
		all = append(all, token{id, math.Exp(l / temperature)})
		sum += all[id].p
	}
	slices.SortFunc(all, func(a, b token) int { return int(math.Copysign(1, b.p-a.p)) })
	kept, within := 0, 0.
	for ; within < topP*sum; kept++ {
		within += all[kept].p
	}
	got := map[string]int{}
	for _, a := range chat(t, m, ask("a cat", n, 1, model.Sampling{Temperature: temperature, TopP: topP, MaxTokens: 1})).Answers {
		got[a.Text]++
	}
	want := map[string]float64{}
	for _, k := range all[:kept] {
		want[ref.tokens.Decode([]int32{int32(k.id)}, true)] += n * k.p / within
	}
	for text, count := range got {
		if e := want[text]; math.Abs(float64(count)-e) > 5*math.Sqrt(e+1) {
			t.Errorf("%q came %d times, want about %.0f", text, count, e)
		}
	}
	if len(want) < 3 || len(got) < len(want)-2 {
		t.Errorf("%d texts of %d", len(got), len(want))
	}
}

func TestCancelLeavesOthersAlone(t *testing.T) {
	m := open(t, folder(t, small), vlm.Options{Parallel: 1})
	how := model.Sampling{Temperature: 1, MaxTokens: 100}
	want := chat(t, m, ask("stays", 4, 9, how))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			if _, err := m.Chat(ctx, ask("goes", 8, int64(i), how)); !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled request: %v", err)
			}
		})
	}
	wg.Go(func() {
		if got := chat(t, m, ask("stays", 4, 9, how)); !slices.Equal(got.Answers, want.Answers) {
			t.Errorf("beside cancelled ones %q, alone %q", got.Answers, want.Answers)
		}
	})
	time.Sleep(3 * time.Millisecond)
	cancel()
	wg.Wait()
}

func TestClose(t *testing.T) {
	m, err := vlm.Open(t.Context(), folder(t, small), vlm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	m.Close()
	if _, err := m.Chat(t.Context(), ask("a cat", 1, 1, model.Sampling{})); err == nil {
		t.Error("a closed model answered")
	}
}
