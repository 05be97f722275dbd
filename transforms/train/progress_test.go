package train_test

import (
	"testing"
	"time"

	"github.com/promptmill/promptmill/model/modeltest/pupil"
	"github.com/promptmill/promptmill/transforms/train"
)

// Whoever asks while a training is waited for hears of its steps, its loss and when it will be over.
func TestLive(t *testing.T) {
	const pause = 60 * time.Millisecond
	dir := t.TempDir()
	data := commit(t, dir, "r", pair("a cat", "pupil-start"))
	cfg := config(dir)
	cfg.Trainer.Options = map[string]string{"pause": pause.String()}

	begun, ended, seen := time.Now(), make(chan struct{}), make(chan []train.Progress)
	go func() {
		var looks []train.Progress
		for {
			if p := train.Live(); !p.Since.Before(begun) && p.Steps > 0 && (len(looks) == 0 || looks[len(looks)-1].Step != p.Step) {
				looks = append(looks, p)
			}
			select {
			case <-ended:
				seen <- looks
				return
			case <-time.After(pause / 20):
			}
		}
	}()
	_, trainings, _ := run(t, cfg, data)
	close(ended)
	looks := <-seen
	if len(trainings) != 1 || len(looks) < 2 {
		t.Fatalf("trainings %v, looks %v", trainings, looks)
	}
	for i, p := range looks { // the first step sets the clock
		now := time.Now()
		left, ok := p.Left(now)
		if p.Job != trainings[0].Job || p.Steps != pupil.Steps || p.Metrics["loss"] <= 0 || ok != (p.Step > 1) || left > 0 && p.Step == p.Steps {
			t.Errorf("look %d: %+v, %v left %v", i, p, left, ok)
		}
		if later, _ := p.Left(now.Add(time.Hour)); later != 0 {
			t.Errorf("look %d: %v left when the time is over", i, later)
		}
	}
	// Seen from the beginning, the steps to come each take their pause.
	p := looks[1]
	if left, _ := p.Left(p.Since); p.Step < p.Steps && left < time.Duration(p.Steps-p.Step)*pause {
		t.Errorf("%v left after %d of %d steps of %v", left, p.Step, p.Steps, pause)
	}
}
