package diffusion_test

import (
	"flag"
	"fmt"
	"math"
	"os"
	"runtime/debug"
	"sync"
	"testing"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/diffusion"
)

// go test ./model/diffusion -run TestMemory -v -pictures 10000 is the whole measurement.
var pictures = flag.Int("pictures", 2000, "how many pictures TestMemory draws")

// resident is the memory of the process in KB, the runtime's with it, without what Go could give back.
func resident(t *testing.T) int {
	t.Helper()
	debug.FreeOSMemory()
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Skipf("not executed: %v", err)
	}
	var all, pages int
	if _, err := fmt.Sscan(string(data), &all, &pages); err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize() / 1024
}

// Memory does not grow with the number of pictures. What the decoder gives of one is 12 KB: if any were left behind each
// quarter of the pictures would show it, where the allocators' pools grow in one and not in the next.
func TestMemory(t *testing.T) {
	p := open(t, folder, diffusion.Options{MaxBatch: 8})
	n := 0
	drawn := func(until int) int {
		for n < until {
			var wg sync.WaitGroup
			for range min(8, until-n) {
				n++
				req := model.ImageRequest{Prompt: fmt.Sprintf("a castle number %d", n), Width: 32, Height: 32, Steps: 2, Guidance: 1, Scheduler: "ddim", Seed: int64(n)}
				wg.Go(func() {
					if _, err := p.Draw(t.Context(), req); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
		}
		return resident(t)
	}
	quarter := *pictures / 4
	least := math.MaxInt
	for i, last := 1, drawn(quarter); i < 4; i++ {
		now := drawn(n + quarter)
		t.Logf("after %d pictures %d KB, %d more than after %d", n, now, now-last, n-quarter)
		least, last = min(least, now-last), now
	}
	if least > quarter { // 1 KB each
		t.Errorf("memory grew by %d KB or more with each %d pictures", least, quarter)
	}
}
