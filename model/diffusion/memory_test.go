package diffusion_test

import (
	"flag"
	"fmt"
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

// Memory does not grow with the number of pictures. What the decoder gives of one is 12 KB: if any were left behind it
// would be seen.
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
	before := drawn(*pictures / 4) // arenas and pools have their size
	for i := 2; i <= 4; i++ {
		after := drawn(*pictures * i / 4)
		t.Logf("after %d pictures %d KB, after %d %d KB", *pictures/4, before, n, after)
		if i == 4 && after-before > n-*pictures/4 { // 1 KB each
			t.Errorf("memory grew from %d KB after %d pictures to %d KB after %d", before, *pictures/4, after, n)
		}
	}
}
