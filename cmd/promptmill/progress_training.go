package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"
	"unicode"

	"golang.org/x/term"

	"github.com/promptmill/promptmill/transforms/train"
)

// shownMetrics are those of a model.TrainStatus, in the order in which they are shown.
var shownMetrics = []string{"loss", "accuracy", "margin"}

// trainingNow is the training that this process has waited for since start; the zero Progress if there is none, because
// its rows are looked at first or because a worker elsewhere waits for it.
func trainingNow(start time.Time) train.Progress {
	if p := train.Live(); !p.Since.Before(start) {
		return p
	}
	return train.Progress{}
}

// drawTraining keeps a line about the training up to date on a terminal, and removes it in the end.
func drawTraining(ctx context.Context, terminal *os.File, what string) {
	const restart = "\r\x1b[K" // the line, cleared
	start := time.Now()
	tick := time.NewTicker(redrawEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			fmt.Fprint(terminal, restart)
			return
		case now := <-tick.C:
			line := []rune(trainingLine(what, trainingNow(start), start, now))
			if width, _, err := term.GetSize(int(terminal.Fd())); err == nil && width > 0 && len(line) >= width {
				line = line[:width-1] // one that wraps could not be redrawn
			}
			fmt.Fprint(terminal, restart+string(line))
		}
	}
}

// trainingLine says how far a training is in words.
func trainingLine(what string, p train.Progress, start, now time.Time) string {
	var b strings.Builder
	switch {
	case p.Steps > 0:
		fmt.Fprintf(&b, "%s: step %d of %d", what, p.Step, p.Steps)
	case p.State != "":
		fmt.Fprintf(&b, "%s: %s", what, p.State)
		if p.Message != "" {
			// Of a program's log: nothing in it may move the cursor.
			b.WriteString(": " + strings.Map(func(r rune) rune {
				if unicode.IsPrint(r) {
					return r
				}
				return ' '
			}, p.Message))
		}
	default:
		fmt.Fprintf(&b, "%s: not begun", what)
	}
	for _, name := range shownMetrics {
		if v, ok := p.Metrics[name]; ok {
			fmt.Fprintf(&b, ", %s %.4g", name, v)
		}
	}
	if left, ok := p.Left(now); ok {
		fmt.Fprintf(&b, ", %s left", left.Round(time.Second))
	} else {
		fmt.Fprintf(&b, ", %s so far", now.Sub(start).Round(time.Second))
	}
	return b.String()
}

// logTraining logs how far the training is when its first step is known, and every ten seconds.
func (a *app) logTraining(ctx context.Context, what string) {
	start := time.Now()
	logged, known := start, false
	tick := time.NewTicker(redrawEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			p := trainingNow(start)
			if now.Sub(logged) < logEvery && (known || p.Step == 0) {
				continue
			}
			logged, known = now, known || p.Step > 0
			a.log.Info(what, trainingFields(p, start, now)...)
		}
	}
}

// trainingFields are the fields of a log line about a training.
func trainingFields(p train.Progress, start, now time.Time) []any {
	var fields []any
	if p.State != "" {
		fields = append(fields, "state", p.State)
	}
	if p.Steps > 0 {
		fields = append(fields, "step", p.Step, "of", p.Steps)
	} else if p.Message != "" {
		fields = append(fields, "message", p.Message)
	}
	for _, name := range shownMetrics {
		if v, ok := p.Metrics[name]; ok {
			fields = append(fields, name, v)
		}
	}
	if left, ok := p.Left(now); ok {
		fields = append(fields, "seconds_left", int(left.Seconds()))
	}
	return append(fields, "seconds", int(now.Sub(start).Seconds()))
}
