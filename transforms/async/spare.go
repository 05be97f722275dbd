package async

import "sync/atomic"

// spares bounds the goroutines that wait for their next call.
const spares = 256

var (
	// handover takes a call to a goroutine that waits for one.
	handover = make(chan func())
	waiting  atomic.Int64
)

// spawn runs f in another goroutine, one that has run a call before if there is one. The way down to a
// model server is deep: on a fresh goroutine the stack is copied two or three times as it grows, at every
// call.
func spawn(f func()) {
	select {
	case handover <- f:
	default:
		go work(f)
	}
}

// work runs f and then what is handed to it, until enough others wait.
func work(f func()) {
	for {
		f()
		if waiting.Add(1) > spares {
			waiting.Add(-1)
			return
		}
		f = <-handover
		waiting.Add(-1)
	}
}
