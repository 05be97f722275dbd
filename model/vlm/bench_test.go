package vlm_test

import (
	"fmt"
	"sync"
	"syscall"
	"testing"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/vlm"
)

// trained has the size of the models that are committed.
var trained = shape{hidden: 144, heads: 4, layers: 3, context: 176, side: 32, places: 4, gain: 40, vocab: 2048}

// BenchmarkTokens is one lane on one thread: requests that come together, 32 tokens before an answer and 40 of it.
func BenchmarkTokens(b *testing.B) {
	dir := folder(b, trained)
	for _, how := range []struct {
		name string
		model.Sampling
	}{{"greedy", model.Sampling{MaxTokens: 40}}, {"sampled", model.Sampling{MaxTokens: 40, Temperature: .9, TopP: .9}}} {
		for _, batch := range []int{1, 8, 64} {
			b.Run(fmt.Sprintf("%s/batch=%d", how.name, batch), func(b *testing.B) {
				m := open(b, dir, vlm.Options{Parallel: 1})
				tokens, before := 0, cpu(b)
				for b.Loop() {
					var wg sync.WaitGroup
					var mu sync.Mutex
					for i := range batch {
						wg.Go(func() {
							res := chat(b, m, ask(fmt.Sprintf("a castle number %02d", i), 1, int64(i), how.Sampling))
							mu.Lock()
							defer mu.Unlock()
							tokens += res.Usage.CompletionTokens
						})
					}
					wg.Wait()
				}
				b.ReportMetric(float64(tokens)/b.Elapsed().Seconds(), "tokens/s")
				b.ReportMetric(float64(tokens)/(cpu(b)-before), "tokens/cpu-s")
			})
		}
	}
}

// cpu is the seconds of processor time that the process has had.
func cpu(b *testing.B) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}
