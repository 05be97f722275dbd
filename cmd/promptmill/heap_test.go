package main

import (
	"os"
	"os/exec"
	"runtime"
	"runtime/metrics"
	"testing"
	"time"
)

// growth is by how many percent the heap may grow now.
func growth() uint64 {
	s := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// A small heap may grow to the floor, a large one to its double, and a small one again to the floor. A process of its
// own has a small heap.
func TestKeepHeap(t *testing.T) {
	const child = "PROMPTMILL_KEEP_HEAP"
	if os.Getenv(child) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKeepHeap$")
		cmd.Env = append(os.Environ(), child+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	t.Setenv("GOGC", "")
	keepHeap()
	await := func(what string, ok func(uint64) bool) {
		t.Helper()
		for range 100 {
			runtime.GC()
			if ok(growth()) {
				return
			}
			time.Sleep(10 * time.Millisecond) // the cleanup has its own goroutine
		}
		t.Errorf("%s: the heap may grow by %d%%", what, growth())
	}
	await("small", func(g uint64) bool { return g > 150 })
	used := make([]byte, heapFloor)
	await("large", func(g uint64) bool { return g == 100 })
	runtime.KeepAlive(used)
	await("small again", func(g uint64) bool { return g > 150 })
}
