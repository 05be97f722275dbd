package vlm

import (
	"cmp"
	"context"
	"slices"
)

// A lane writes answers: one goroutine, one batch at a time.
type lane struct {
	m       *Model
	cohorts []*cohort
	steps   int
	sampler sampler
}

// A cohort is rows of one length. A row that has ended stays until it is worth moving the others together.
type cohort struct {
	cache *cache
	rows  []*answering
}

// oldestEvery: of so many steps one goes to the longest cohort, whatever comes in.
const oldestEvery = 8

func (l *lane) run() {
	for {
		running := l.leave()
		if room := l.m.options.MaxBatch - running; 2*room >= l.m.options.MaxBatch || room > 0 && l.young() {
			jobs := l.m.queue.take(room, running == 0)
			if len(jobs) > 0 {
				l.begin(jobs)
			} else if running == 0 {
				return
			}
		}
		if l.join() {
			l.step()
		}
	}
}

// catchUp is how many steps requests may be late for those that came before them.
const catchUp = 4

// young says whether the shortest cohort has only begun. Who comes then joins it after a few steps: requests that are made
// at the same time come one after the other, and are to be one batch.
func (l *lane) young() bool {
	if len(l.cohorts) == 0 {
		return false
	}
	c := l.cohorts[0] // join sorted them
	return !slices.ContainsFunc(c.rows, func(r *answering) bool { return len(r.ids) > catchUp })
}

// begin reads the prompts of jobs and draws the first tokens.
func (l *lane) begin(jobs []*job) {
	prompts := make([]*prompt, len(jobs))
	for i, j := range jobs {
		prompts[i] = j.prompt
	}
	logits, read, err := l.m.read(context.Background(), prompts, 1)
	if err != nil {
		for _, j := range jobs {
			l.fail(j, err)
		}
		return
	}
	defer logits.close()
	c := &cohort{cache: read}
	var from []int
	for i, j := range jobs {
		for _, r := range j.rows {
			if !r.ended { // as all are when one cannot be drawn
				l.draw(r, lastRow(logits, i))
			}
			if !r.ended {
				c.rows, from = append(c.rows, r), append(from, i)
			}
		}
	}
	if !read.whole(from) {
		defer read.close()
		if len(from) == 0 {
			return
		}
		if c.cache, err = l.m.decoder.gather(from, read); err != nil {
			l.failAll(c, err)
			return
		}
	}
	l.cohorts = append(l.cohorts, c)
}

// read runs prompts of one length through the decoder.
func (m *Model) read(ctx context.Context, prompts []*prompt, keep int) (*array, *cache, error) {
	tokens, err := m.embedPrompt(ctx, prompts)
	if err != nil {
		return nil, nil, err
	}
	defer tokens.close()
	none, err := m.decoder.room(len(prompts), 0)
	if err != nil {
		return nil, nil, err
	}
	defer none.close()
	return m.decoder.run(ctx, tokens.Tensor, none, keep)
}

// next runs tokens, equally many a row, through the decoder, behind past.
func (m *Model) next(ctx context.Context, ids []int32, past *cache) (*array, *cache, error) {
	tokens, err := m.embed.embed(ctx, ids, past.rows)
	if err != nil {
		return nil, nil, err
	}
	defer tokens.close()
	return m.decoder.run(ctx, tokens.Tensor, past, len(ids)/past.rows)
}

// join makes one of cohorts of equal length, and says whether there is one to go on with.
func (l *lane) join() bool {
	slices.SortStableFunc(l.cohorts, func(a, b *cohort) int { return cmp.Compare(a.cache.length, b.cache.length) })
	for i := 0; i+1 < len(l.cohorts); {
		a, b := l.cohorts[i], l.cohorts[i+1]
		if a.cache.length != b.cache.length {
			i++
			continue
		}
		l.cohorts = slices.Delete(l.cohorts, i+1, i+2)
		a.rows = append(slices.Clone(a.rows), b.rows...)
		if !l.compact(a, a.cache, b.cache) {
			l.cohorts = slices.Delete(l.cohorts, i, i+1)
		}
	}
	return len(l.cohorts) > 0
}

// compact gives c a cache of its rows that have not ended; from has all of them. It says whether there is one.
func (l *lane) compact(c *cohort, from ...*cache) bool {
	var places []int
	var rows []*answering
	for i, r := range c.rows {
		if !r.ended {
			places, rows = append(places, i), append(rows, r)
		}
	}
	c.rows = rows
	var err error
	if len(rows) > 0 {
		if c.cache, err = l.m.decoder.gather(places, from...); err != nil {
			l.failAll(c, err)
		}
	}
	for _, old := range from {
		old.close()
	}
	return len(rows) > 0 && err == nil
}

// step writes one token of each row of a cohort: of the shortest, so that it reaches the others, but now and then of
// the longest.
func (l *lane) step() {
	c := l.cohorts[0]
	if l.steps++; l.steps%oldestEvery == 0 {
		c = l.cohorts[len(l.cohorts)-1]
	}
	last := make([]int32, len(c.rows))
	for i, r := range c.rows {
		last[i] = r.ids[len(r.ids)-1]
	}
	logits, next, err := l.m.next(context.Background(), last, c.cache)
	if err != nil {
		l.failAll(c, err)
		return
	}
	defer logits.close()
	c.cache.close()
	c.cache = next
	for i, r := range c.rows {
		if r.ended {
			continue
		}
		if err := r.job.ctx.Err(); err != nil {
			l.fail(r.job, err)
		} else {
			l.draw(r, lastRow(logits, i))
		}
	}
}

// leave drops cohorts that have ended and moves rows together where a quarter has. It returns how many rows go on.
func (l *lane) leave() int {
	running := 0
	l.cohorts = slices.DeleteFunc(l.cohorts, func(c *cohort) bool {
		alive := 0
		for _, r := range c.rows {
			if !r.ended {
				alive++
			}
		}
		if 4*alive <= 3*len(c.rows) && !l.compact(c, c.cache) {
			return true
		}
		running += alive
		return false
	})
	return running
}

// draw adds a token to a row and ends it if it is the last.
func (l *lane) draw(r *answering, logits []float32) {
	j := r.job
	token, err := l.sampler.draw(logits, j.how, r.rng)
	if err != nil {
		l.fail(j, err)
		return
	}
	r.ids = append(r.ids, token)
	r.drawn++
	if r.answer, r.ended = l.m.ends(r.ids, j.how.Stop, j.most); !r.ended {
		return
	}
	if j.open--; j.open == 0 {
		l.m.queue.release(j)
		j.done <- nil
	}
}

// fail ends all rows of a job.
func (l *lane) fail(j *job, err error) {
	if j.open == 0 {
		return
	}
	j.open = 0
	for _, r := range j.rows {
		r.ended = true
	}
	l.m.queue.release(j)
	j.done <- err
}

func (l *lane) failAll(c *cohort, err error) {
	for _, r := range c.rows {
		l.fail(r.job, err)
	}
}
