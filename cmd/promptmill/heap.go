package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// heapFloor is the size in bytes below which the heap is not collected. Go collects when the heap has
// doubled; with 40 MB in use that was several times a second and a quarter of the CPU time of a run
// against model servers. It also gives a small run the memory of a large one.
const heapFloor = 144 << 20

// keepHeap lets the heap grow to heapFloor; one with more than half of that in use is collected when it
// has doubled, as ever. A GOGC in the environment decides instead.
func keepHeap() {
	if os.Getenv("GOGC") == "" {
		setHeap(struct{}{})
	}
}

// setHeap sets how far the heap may grow over what the last collection left of it, and leaves garbage
// behind whose cleanup does it again after the next.
func setHeap(struct{}) {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}
	metrics.Read(s)
	live := max(int64(s[0].Value.Uint64()), 4<<20) // none yet: as the runtime begins
	// The runtime lets the heap grow by a share of the live heap and of what else it scans.
	scanned := live + int64(s[1].Value.Uint64()+s[2].Value.Uint64())
	debug.SetGCPercent(int(max((heapFloor-live)*100/scanned, 100)))
	runtime.AddCleanup(&heapWatch{}, setHeap, struct{}{})
}

// A heapWatch has a pointer, because the runtime puts small objects without one together and frees
// them together.
type heapWatch struct{ _ *byte }
