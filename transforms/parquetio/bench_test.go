package parquetio_test

import (
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/passert"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/parquetio"
)

// genFn makes text examples of about 1.2 KB, Count for each element, in the bundle that spills them.
type genFn struct{ Count int }

func (f *genFn) ProcessElement(first int64, emit func(schemas.ChatExample)) {
	for i := range f.Count {
		id := fmt.Sprint(first, "/", i)
		emit(schemas.ChatExample{ID: id, Task: schemas.TaskRewrite, Source: "bench", Messages: []schemas.Message{
			{Role: schemas.RoleUser, Content: words[i%len(words)] + id},
			{Role: schemas.RoleAssistant, Content: strings.Repeat(words[i%len(words)]+", dramatic light, "+id, 1+i%64)},
		}})
	}
}

func init() { beam.RegisterDoFn(reflect.TypeFor[genFn]()) }

// BenchmarkWrite sends 100,000 text examples through the whole sink on prism.
func BenchmarkWrite(b *testing.B) {
	const bundles, count = 8, 12_500
	size := int64(0)
	(&genFn{Count: count}).ProcessElement(0, func(r schemas.ChatExample) { size += int64(len(r.Messages[0].Content) + len(r.Messages[1].Content)) })
	b.SetBytes(bundles * size)
	peak := watchHeap(b)
	for b.Loop() {
		cfg := config(b)
		cfg.Buckets = 16
		p, s := beam.NewPipelineWithRoot()
		seeds := beam.Reshuffle(s, beam.CreateList(s, []int64{0, 1, 2, 3, 4, 5, 6, 7}))
		shards, _ := parquetio.Write[schemas.ChatExample](s, cfg, beam.ParDo(s, &genFn{Count: count}, seeds))
		passert.Count(s, shards, "shards", 16)
		if err := ptest.Run(p); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(bundles*count*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(float64(peak.Load()>>20), "peak-heap-MB")
}

// BenchmarkRows reads 20,000 text examples back, the check of the files' hashes included.
func BenchmarkRows(b *testing.B) {
	cfg := config(b)
	shards, _ := mustWrite(b, cfg, chats(20_000))
	b.ResetTimer()
	for b.Loop() {
		if n := len(read[schemas.ChatExample](b, cfg.Store, shards)); n != 20_000 {
			b.Fatal(n)
		}
	}
	b.ReportMetric(float64(20_000*b.N)/b.Elapsed().Seconds(), "rows/s")
}

// watchHeap follows the heap in use until the benchmark ends.
func watchHeap(b *testing.B) *atomic.Uint64 {
	var peak atomic.Uint64
	done := make(chan struct{})
	b.Cleanup(func() { close(done) })
	go func() {
		var m runtime.MemStats
		for {
			runtime.ReadMemStats(&m)
			peak.Store(max(peak.Load(), m.HeapInuse))
			select {
			case <-done:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
	return &peak
}
