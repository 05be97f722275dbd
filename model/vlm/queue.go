package vlm

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/promptmill/promptmill/model"
)

var errClosed = errors.New("vlm: the model was closed")

// A job is a request, or a part of one, that waits for a lane or is being answered by one.
type job struct {
	ctx    context.Context
	prompt *prompt
	how    model.Sampling
	most   int // tokens of an answer
	rows   []*answering
	open   int // rows that have not ended
	bytes  int64
	done   chan error // has room for the one that comes
}

// An answering is a row: an answer that grows.
type answering struct {
	job    *job
	rng    *rand.Rand
	ids    []int32
	drawn  int
	answer model.Answer
	ended  bool
}

// A queue deals jobs to lanes and keeps account of the memory they take.
type queue struct {
	mu      sync.Mutex
	changed *sync.Cond
	waiting []*job
	lanes   int
	used    int64
	most    int64
	closed  bool
	coming  atomic.Int64 // requests whose prompts are being made
}

func newQueue(lanes int, most int64) *queue {
	q := &queue{lanes: lanes, most: most}
	q.changed = sync.NewCond(&q.mu)
	return q
}

func (q *queue) put(j *job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		j.done <- errClosed
		return
	}
	q.waiting = append(q.waiting, j)
	q.changed.Signal()
}

// release gives back what a job took.
func (q *queue) release(j *job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.used -= j.bytes
	q.changed.Broadcast()
}

func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for _, j := range q.waiting {
		j.done <- errClosed
	}
	q.waiting = nil
	q.changed.Broadcast()
}

// promptTokens bounds the tokens of the prompts that are read at a time, whose logits a graph may give for each.
const promptTokens = 4096

// gathering bounds how long an idle lane that could begin waits for requests that are as good as there, pause how long it
// waits to see whether any comes.
const (
	gathering = 5 * time.Millisecond
	pause     = 100 * time.Microsecond
)

// gather lets requests come that are made at the same time as the first: each has a goroutine, which may not have run.
// A lane that began with the first alone would be some steps ahead of the others. mu is held, but not meanwhile.
func (q *queue) gather() {
	for begin := time.Now(); time.Since(begin) < gathering; {
		came := len(q.waiting)
		q.mu.Unlock()
		time.Sleep(pause)
		q.mu.Lock()
		if q.coming.Load() == 0 && len(q.waiting) == came {
			return
		}
	}
}

// take returns jobs of one prompt length with up to room rows. A lane that is idle waits for some; without
// any it gets none when the queue is closed.
func (q *queue) take(room int, idle bool) []*job {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		if idle && len(q.waiting) > 0 {
			q.gather()
		}
		q.dropCancelled()
		if jobs := q.next(room); jobs != nil || !idle || q.closed {
			if len(q.waiting) > 0 {
				q.changed.Signal()
			}
			return jobs
		}
		q.changed.Wait()
	}
}

func (q *queue) dropCancelled() {
	kept := q.waiting[:0]
	for _, j := range q.waiting {
		if err := j.ctx.Err(); err != nil {
			j.done <- err
			continue
		}
		kept = append(kept, j)
	}
	clear(q.waiting[len(kept):])
	q.waiting = kept
}

// next takes the job that waits longest and others like it, but leaves the other lanes their share.
func (q *queue) next(room int) []*job {
	if len(q.waiting) == 0 {
		return nil
	}
	all := 0
	for _, j := range q.waiting {
		all += len(j.rows)
	}
	share := (all + q.lanes - 1) / q.lanes
	length := len(q.waiting[0].prompt.ids)
	var jobs []*job
	rows := 0
	kept := make([]*job, 0, len(q.waiting))
	for _, j := range q.waiting {
		first := len(jobs) == 0
		fits := rows+len(j.rows) <= room && (q.used == 0 || q.used+j.bytes <= q.most)
		if first && !fits {
			return nil // nobody overtakes it
		}
		if !fits || len(j.prompt.ids) != length || !first && (rows+len(j.rows) > share || (len(jobs)+1)*length > promptTokens) {
			kept = append(kept, j)
			continue
		}
		jobs = append(jobs, j)
		rows += len(j.rows)
		q.used += j.bytes
	}
	q.waiting = kept
	return jobs
}
