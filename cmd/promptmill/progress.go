package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/ledger"
	"github.com/promptmill/promptmill/transforms/train"
)

const (
	// logEvery is how often a job without a terminal says where it is, redrawEvery one with a terminal.
	logEvery    = 10 * time.Second
	redrawEvery = 200 * time.Millisecond
)

// startProgress shows how many of total units of a stage are through: a bar on a terminal, a log line
// every ten seconds elsewhere, nothing if quiet. It reads the counts of this process, which a bundle
// adds as it goes; a training is one unit, and shown by its steps. The function it returns stops it and waits for the last line.
func (a *app) startProgress(ctx context.Context, what, stage string, total int64) (stop func()) {
	if a.flags.quiet {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	before := ledger.Live()
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		f, ok := a.err.(*os.File)
		terminal := ok && term.IsTerminal(int(f.Fd()))
		switch training := stage == train.Stage; {
		case training && terminal:
			drawTraining(ctx, f, what)
		case training:
			a.logTraining(ctx, what)
		case terminal:
			showBar(ctx, f, what, stage, total, before)
		default:
			a.logProgress(ctx, what, stage, total, before)
		}
	}()
	return func() {
		cancel()
		wg.Wait()
	}
}

func showBar(ctx context.Context, f *os.File, what, stage string, total int64, before []schemas.Count) {
	bar := progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(f), progressbar.OptionSetDescription(what), progressbar.OptionShowCount(),
		progressbar.OptionSetPredictTime(true), progressbar.OptionClearOnFinish(), progressbar.OptionThrottle(100*time.Millisecond))
	tick := time.NewTicker(redrawEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			_ = bar.Clear() // the bar is decoration: its errors change nothing
			return
		case <-tick.C:
			spent := spentSince(before)
			bar.Describe(fmt.Sprintf("%s (%d calls, %d from the log)", what, used(spent, "calls"), used(spent, "cache_hits")))
			_ = bar.Set64(min(ledger.Total(spent, stage, schemas.In), total))
		}
	}
}

func (a *app) logProgress(ctx context.Context, what, stage string, total int64, before []schemas.Count) {
	start := time.Now()
	tick := time.NewTicker(logEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			spent := spentSince(before)
			a.log.Info(what, "done", ledger.Total(spent, stage, schemas.In), "of", total, "calls", used(spent, "calls"),
				"cache_hits", used(spent, "cache_hits"), "dead", ledger.Total(spent, "*", schemas.Dead),
				"seconds", int(time.Since(start).Seconds()))
		}
	}
}

// spentSince is what this process counted since before was taken.
func spentSince(before []schemas.Count) []schemas.Count {
	out := ledger.Live()
	for _, c := range before {
		c.N = -c.N
		out = append(out, c)
	}
	return ledger.Sum(out)
}

func used(counts []schemas.Count, what string) int64 {
	var n int64
	for _, c := range counts {
		if c.Outcome == schemas.Used && c.Reason == what {
			n += c.N
		}
	}
	return n
}
