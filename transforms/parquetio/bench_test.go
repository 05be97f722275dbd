package parquetio_test

import (
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/promptmill/promptmill/schemas"
)

// BenchmarkWrite sends 100,000 text examples of about 1 KB through the whole sink on prism; the time
// includes what Beam needs to make the elements.
func BenchmarkWrite(b *testing.B) {
	rows := chats(100_000)
	size := 0
	for i := range rows {
		rows[i].Messages[1].Content += strings.Repeat(", oil on canvas, dramatic light", 1+i%64)
		size += len(rows[i].Messages[0].Content) + len(rows[i].Messages[1].Content)
	}
	b.SetBytes(int64(size))
	peak := watchHeap(b)
	for b.Loop() {
		cfg := config(b)
		cfg.Buckets = 16
		shards, _, err := write(b, "prism", cfg, rows, 8)
		if err != nil || len(shards) != 16 {
			b.Fatalf("%d shards: %v", len(shards), err)
		}
	}
	b.ReportMetric(float64(len(rows)*b.N)/b.Elapsed().Seconds(), "rows/s")
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
