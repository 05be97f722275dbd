//go:build unix

package guard_test

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/modeltest/fakeserver"
)

func cpu() time.Duration {
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		return 0
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

// BenchmarkCall prints the CPU time of a call and how full the server's slots are, for the guarded
// caller and for bare net/http. The server is in the process, so its time is in both; the difference
// is what the guard costs.
func BenchmarkCall(b *testing.B) {
	const slots = 64
	for _, latency := range []time.Duration{5 * time.Millisecond, 50 * time.Millisecond} {
		s := fakeserver.New(b, fakeserver.Config{Slots: slots, Latency: latency})
		guarded := open(b, model.Spec{Endpoint: s.URL, Concurrency: slots})
		bare := http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: slots}}
		for name, call := range map[string]func(i int) error{
			"guard": func(i int) error {
				_, err := guarded.Post(b.Context(), chatPath, say(i), hasChoices)
				return err
			},
			"bare": func(i int) error {
				resp, err := bare.Post(s.URL+chatPath, "application/json", strings.NewReader(string(say(i))))
				if err != nil {
					return err
				}
				defer resp.Body.Close()
				body, err := io.ReadAll(resp.Body)
				if err != nil {
					return err
				}
				return hasChoices(body)
			},
		} {
			b.Run(name+"/"+latency.String(), func(b *testing.B) {
				s.ResetStats()
				start, used := time.Now(), cpu()
				var next atomic.Int64
				var wg sync.WaitGroup
				// The guard queues what is over its limit; the bare client needs to be fed just so.
				feeders := map[string]int{"guard": 2 * slots, "bare": slots}[name]
				for range feeders {
					wg.Go(func() {
						for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
							if err := call(int(i)); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				wall := time.Since(start)
				b.ReportMetric(float64((cpu()-used).Microseconds())/float64(b.N), "cpu-us/call")
				b.ReportMetric(100*s.Stats().Busy.Seconds()/(wall.Seconds()*slots), "%slots")
			})
		}
	}
}
