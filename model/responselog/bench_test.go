package responselog_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/responselog"
)

// judge gives answers of 1.45 KB, as the judges of the paper's templates do.
type judge struct{ texts []string }

func newJudge() judge {
	words := strings.Fields(`the image shows a detailed cinematic portrait of an old castle on hill with dramatic lighting
		composition colour harmony subject matches prompt however background slightly blurred and score for aesthetic
		quality I would rate this between six eight because alignment strong while texture lacks depth overall`)
	var j judge
	for range 64 {
		var b strings.Builder
		for b.Len() < 1450 {
			b.WriteString(words[rand.IntN(len(words))] + " ")
		}
		j.texts = append(j.texts, b.String())
	}
	return j
}

func (judge) Info() model.Info { return model.Info{Name: "judge", Weights: "w"} }

func (j judge) Chat(_ context.Context, req model.ChatRequest) (model.ChatResponse, error) {
	resp := model.ChatResponse{Usage: model.Usage{Calls: 1}}
	for i := range req.N {
		resp.Answers = append(resp.Answers, model.Answer{Text: j.texts[(int(req.Seed)+i)%len(j.texts)], Finish: model.FinishStop})
	}
	return resp, nil
}

func question(i int64) model.ChatRequest {
	return model.ChatRequest{
		Template: "aesthetic@1", Seed: i % (1 << 30), N: 3,
		Messages: []model.Message{{Role: "user", Parts: []model.Part{
			{Text: strings.Repeat("You compare two images drawn for one prompt. ", 30)},
			{Picture: &model.Picture{SHA256: fmt.Sprintf("%064d", i)}},
			{Text: "a cat"},
		}}},
	}
}

func cpu() float64 {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return float64(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkChat is a call of three answers of 1.45 KB from 64 goroutines, asked and from the log.
func BenchmarkChat(b *testing.B) {
	for _, name := range []string{"append", "lookup"} {
		b.Run(name, func(b *testing.B) {
			log := open(b, local(b, b.TempDir()))
			chat := responselog.Chat(newJudge(), log)
			distinct := int64(1 << 62)
			if name == "lookup" {
				distinct = 20000
				for i := range distinct {
					if _, err := chat.Chat(b.Context(), question(i)); err != nil {
						b.Fatal(err)
					}
				}
			}
			var next atomic.Int64
			b.SetParallelism(32)
			b.ReportAllocs()
			b.ResetTimer()
			before := cpu()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := chat.Chat(b.Context(), question(next.Add(1)%distinct)); err != nil {
						b.Error(err)
					}
				}
			})
			b.ReportMetric((cpu()-before)/float64(b.N), "cpu-ns/op")
		})
	}
}

// BenchmarkOpen opens a log of b.N calls and measures what each costs in memory.
func BenchmarkOpen(b *testing.B) {
	st := unsynced(b, b.TempDir())
	log := open(b, st)
	scores := responselog.Scores(zero{}, log)
	for i := range b.N {
		if _, err := scores.Score(b.Context(), []model.ScoreRequest{{Text: fmt.Sprint(i)}}); err != nil {
			b.Fatal(err)
		}
	}
	shut(b, log)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	b.ResetTimer()
	log = open(b, st)
	b.StopTimer()
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(b.N), "heap-B/call")
	if n := log.Stats().Calls; n != b.N {
		b.Errorf("%d calls, want %d", n, b.N)
	}
}

type zero struct{}

func (zero) Info() model.Info { return model.Info{Name: "zero", Weights: "z"} }

func (zero) Score(_ context.Context, reqs []model.ScoreRequest) ([]float64, error) {
	return make([]float64, len(reqs)), nil
}
