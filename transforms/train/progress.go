package train

import (
	"sync"
	"time"

	"github.com/promptmill/promptmill/model"
)

// A Progress is how far a training is that this process waits for.
type Progress struct {
	// Job is its ID, Since when this process began to wait for it.
	Job   string
	Since time.Time
	// TrainStatus is what the trainer said last.
	model.TrainStatus

	// The pace is that between the first look that found a step done and the last that found a new one.
	first, last look
}

// A look found so many steps done.
type look struct {
	at   time.Time
	step int
}

// Left is how long the steps to come take at the pace of those that were seen; ok is false before two were.
func (p Progress) Left(now time.Time) (left time.Duration, ok bool) {
	seen := p.last.step - p.first.step
	if p.Steps == 0 || seen <= 0 {
		return 0, false
	}
	pace := p.last.at.Sub(p.first.at) / time.Duration(seen)
	return max(0, pace*time.Duration(p.Steps-p.last.step)-now.Sub(p.last.at)), true
}

// saw takes in what the trainer said at a time. A trainer that went back to its last checkpoint has a new pace.
func (p *Progress) saw(s model.TrainStatus, at time.Time) {
	p.TrainStatus = s
	switch now := (look{at, s.Step}); {
	case s.Step == 0 || s.Step == p.last.step:
	case p.first.step == 0 || s.Step < p.last.step:
		p.first, p.last = now, now
	default:
		p.last = now
	}
	p.publish()
}

var newest struct {
	mu       sync.Mutex
	training Progress
}

// publish makes p what Live returns, unless another training was begun after it.
func (p *Progress) publish() {
	newest.mu.Lock()
	defer newest.mu.Unlock()
	if !p.Since.Before(newest.training.Since) {
		newest.training = *p
	}
}

// Live returns the training for which this process began to wait last, the zero Progress if there was none: for
// progress only, as ledger.Live is.
func Live() Progress {
	newest.mu.Lock()
	defer newest.mu.Unlock()
	return newest.training
}
