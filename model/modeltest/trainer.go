package modeltest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/promptmill/promptmill/model"
)

// A TrainCase is how a job of a TrainerBench goes.
type TrainCase string

// The cases of training jobs.
const (
	// TrainGood takes a few steps and succeeds.
	TrainGood TrainCase = "good"
	// TrainSlow succeeds too, but takes some seconds, with steps on the way.
	TrainSlow TrainCase = "slow"
	// TrainBadData has data that the trainer refuses.
	TrainBadData TrainCase = "bad_data"
	// TrainDiverges has a loss that becomes NaN.
	TrainDiverges TrainCase = "diverges"
	// TrainNothing ends well by its own account and leaves no checkpoint.
	TrainNothing TrainCase = "nothing"
)

// A TrainerBench is where a trainer is tested.
type TrainerBench struct {
	// Open opens the trainer, each time as another process would: nothing is shared but what lasts.
	Open func(t *testing.T) model.Trainer
	// Job is a job of the given ID and case; equal arguments give equal jobs.
	Job func(t *testing.T, id string, c TrainCase) model.TrainJob
	// Lacks are the cases that cannot be had here.
	Lacks []TrainCase
	// Begun counts how often the training of a job was really begun, in any process.
	Begun func(t *testing.T, id string) int
	// Crash ends the running training of a job as a power cut would; nil if that cannot be had here.
	Crash func(t *testing.T, id string)
	// Deterministic: equal jobs but for the ID give equal weights.
	Deterministic bool
}

const trainTimeout = 60 * time.Second

// RunTrainer tests a trainer as subtests of t. bench is called once per subtest.
func RunTrainer(t *testing.T, bench func(t *testing.T) TrainerBench) {
	test := func(name string, needs TrainCase, run func(t *testing.T, b TrainerBench)) {
		t.Run(name, func(t *testing.T) {
			b := bench(t)
			if slices.Contains(b.Lacks, needs) {
				t.Skipf("no case %s here", needs)
			}
			run(t, b)
		})
	}
	test("Info", TrainGood, func(t *testing.T, b TrainerBench) { checkInfo(t, b.Open(t).Info) })
	test("Trains", TrainGood, trains)
	test("Reattach", TrainSlow, reattaches)
	test("AtOnce", TrainGood, startsAtOnce)
	test("Crash", TrainSlow, crashes)
	test("Cancel", TrainSlow, cancels)
	for name, c := range map[string]TrainCase{"BadData": TrainBadData, "Diverges": TrainDiverges, "NoCheckpoint": TrainNothing} {
		test(name, c, func(t *testing.T, b TrainerBench) { fails(t, b, c) })
	}
	test("Digest", TrainGood, digests)
	test("Refuses", TrainGood, refuses)
}

func begin(t *testing.T, m model.Trainer, job model.TrainJob) string {
	t.Helper()
	handle, err := m.Start(t.Context(), job)
	if err != nil {
		t.Fatalf("Start %s: %v", job.ID, err)
	}
	if handle == "" {
		t.Fatalf("Start %s: no handle", job.ID)
	}
	return handle
}

func status(t *testing.T, m model.Trainer, handle string) model.TrainStatus {
	t.Helper()
	s, err := m.Status(t.Context(), handle)
	if err != nil {
		t.Fatalf("Status: %v", err)
	}
	return s
}

func ended(s model.TrainStatus) bool {
	return slices.Contains([]model.TrainState{model.TrainSucceeded, model.TrainFailed, model.TrainCancelled}, s.State)
}

// TrainEnd waits for the end of a job, so long at most, and returns it. Each status on the way is checked.
func TrainEnd(t *testing.T, m model.Trainer, handle string, within time.Duration) model.TrainStatus {
	t.Helper()
	return until(t, m, handle, within, ended)
}

// until polls until done and returns that status; each is checked on the way.
func until(t *testing.T, m model.Trainer, handle string, within time.Duration, done func(model.TrainStatus) bool) model.TrainStatus {
	t.Helper()
	var last model.TrainStatus
	for stop := time.Now().Add(within); time.Now().Before(stop); time.Sleep(10 * time.Millisecond) {
		s := status(t, m, handle)
		if !slices.Contains([]model.TrainState{model.TrainQueued, model.TrainRunning}, s.State) && !ended(s) {
			t.Fatalf("no state of a job: %+v", s)
		}
		if s.Steps > 0 && s.Step > s.Steps {
			t.Fatalf("step %d of %d", s.Step, s.Steps)
		}
		if (s.Checkpoint != "" || s.Weights != "") && s.State != model.TrainSucceeded {
			t.Fatalf("a result before success: %+v", s)
		}
		if last = s; done(s) {
			return s
		}
		if ended(s) {
			t.Fatalf("the job ended meanwhile: %+v", s)
		}
	}
	t.Fatalf("not there after %v: %+v", within, last)
	return last
}

func onItsWay(s model.TrainStatus) bool { return s.State == model.TrainRunning && s.Step > 0 }

func checkSuccess(t *testing.T, job model.TrainJob, s model.TrainStatus) {
	t.Helper()
	if s.State != model.TrainSucceeded || s.Checkpoint == "" || s.Weights == "" || s.Weights == job.Weights {
		t.Errorf("ended as %+v; want success with a checkpoint and weights other than %q", s, job.Weights)
	}
	if s.Steps == 0 || s.Step != s.Steps {
		t.Errorf("ended well at step %d of %d", s.Step, s.Steps)
	}
	if _, ok := s.Metrics["loss"]; !ok {
		t.Errorf("metrics %v have no loss", slices.Sorted(maps.Keys(s.Metrics)))
	}
}

func checkBegunOnce(t *testing.T, b TrainerBench, id string) {
	t.Helper()
	if n := b.Begun(t, id); n != 1 {
		t.Errorf("the training of %s was begun %d times; want once", id, n)
	}
}

func same(a, b model.TrainStatus) bool {
	return a.State == b.State && a.Checkpoint == b.Checkpoint && a.Weights == b.Weights
}

func trains(t *testing.T, b TrainerBench) {
	m, job := b.Open(t), b.Job(t, "trains", TrainGood)
	handle := begin(t, m, job)
	s := TrainEnd(t, m, handle, trainTimeout)
	checkSuccess(t, job, s)
	if again := begin(t, b.Open(t), job); again != handle {
		t.Errorf("started again the job has handle %q, not %q", again, handle)
	}
	if again := status(t, b.Open(t), handle); !same(s, again) {
		t.Errorf("a job that has ended changes from %+v to %+v", s, again)
	}
	checkBegunOnce(t, b, job.ID)
}

func reattaches(t *testing.T, b TrainerBench) {
	job := b.Job(t, "reattach", TrainSlow)
	handle := begin(t, b.Open(t), job)
	m := b.Open(t)
	until(t, m, handle, trainTimeout, onItsWay)
	if again := begin(t, m, job); again != handle {
		t.Errorf("started again the job has handle %q, not %q", again, handle)
	}
	step := 0
	s := until(t, m, handle, trainTimeout, func(s model.TrainStatus) bool {
		if s.Step < step {
			t.Errorf("step %d after step %d", s.Step, step)
		}
		step = s.Step
		return ended(s)
	})
	checkSuccess(t, job, s)
	checkBegunOnce(t, b, job.ID)
}

func startsAtOnce(t *testing.T, b TrainerBench) {
	job := b.Job(t, "at-once", TrainGood)
	handles := make([]string, 4)
	var wg sync.WaitGroup
	for i := range handles {
		m := b.Open(t)
		wg.Go(func() {
			var err error
			if handles[i], err = m.Start(t.Context(), job); err != nil {
				t.Errorf("Start among others: %v", err)
			}
		})
	}
	wg.Wait()
	if len(slices.Compact(slices.Clone(handles))) != 1 {
		t.Fatalf("one job has the handles %q", handles)
	}
	TrainEnd(t, b.Open(t), handles[0], trainTimeout)
	checkBegunOnce(t, b, job.ID)
}

func crashes(t *testing.T, b TrainerBench) {
	if b.Crash == nil {
		t.Skip("no crash to be had here")
	}
	job, plain := b.Job(t, "crash", TrainSlow), b.Job(t, "undisturbed", TrainSlow)
	undisturbed := begin(t, b.Open(t), plain)
	handle := begin(t, b.Open(t), job)
	m := b.Open(t)
	before := until(t, m, handle, trainTimeout, onItsWay)
	b.Crash(t, job.ID)
	s := TrainEnd(t, m, handle, trainTimeout)
	checkSuccess(t, job, s)
	if n := b.Begun(t, job.ID); n < 2 {
		t.Errorf("begun %d times: the crash at step %d did not happen", n, before.Step)
	}
	if want := TrainEnd(t, m, undisturbed, trainTimeout).Weights; b.Deterministic && s.Weights != want {
		t.Errorf("weights %s after a crash, %s without", s.Weights, want)
	}
}

func cancels(t *testing.T, b TrainerBench) {
	job := b.Job(t, "cancel", TrainSlow)
	m := b.Open(t)
	handle := begin(t, m, job)
	until(t, m, handle, trainTimeout, onItsWay)
	for range 2 { // the second finds a job that has ended
		if err := b.Open(t).Cancel(t.Context(), handle); err != nil {
			t.Fatalf("Cancel: %v", err)
		}
	}
	s := TrainEnd(t, m, handle, trainTimeout)
	if s.State != model.TrainCancelled {
		t.Errorf("a cancelled job ends as %+v", s)
	}
	begin(t, m, job)
	if again := status(t, m, handle); again.State != model.TrainCancelled {
		t.Errorf("started again, a cancelled job is %s", again.State)
	}
	checkBegunOnce(t, b, job.ID)

	good := b.Job(t, "too-late", TrainGood)
	handle = begin(t, m, good)
	want := TrainEnd(t, m, handle, trainTimeout)
	if err := m.Cancel(t.Context(), handle); err != nil {
		t.Errorf("Cancel of a job that has ended: %v", err)
	}
	if got := status(t, m, handle); !same(got, want) {
		t.Errorf("cancelled after its end a job changes from %+v to %+v", want, got)
	}
}

// fails wants an error from Start or a job that fails, and says why.
func fails(t *testing.T, b TrainerBench, c TrainCase) {
	m := b.Open(t)
	handle, err := m.Start(t.Context(), b.Job(t, "fails-"+string(c), c))
	if err != nil {
		return
	}
	s := TrainEnd(t, m, handle, trainTimeout)
	if s.State != model.TrainFailed || s.Message == "" {
		t.Errorf("ended as %+v; want a failure that says why", s)
	}
	if again := status(t, b.Open(t), handle); !same(s, again) {
		t.Errorf("a job that has failed changes from %+v to %+v", s, again)
	}
}

func digests(t *testing.T, b TrainerBench) {
	m := b.Open(t)
	var weights []string
	for _, id := range []string{"digest-1", "digest-2"} {
		job := b.Job(t, id, TrainGood)
		s := TrainEnd(t, m, begin(t, m, job), trainTimeout)
		checkSuccess(t, job, s)
		weights = append(weights, s.Weights)
	}
	if b.Deterministic && weights[0] != weights[1] {
		t.Errorf("equal jobs give the weights %q", weights)
	}
}

func refuses(t *testing.T, b TrainerBench) {
	m := b.Open(t)
	empty := b.Job(t, "empty", TrainGood)
	empty.Data = nil
	if _, err := m.Start(t.Context(), empty); !errors.Is(err, model.ErrConfig) {
		t.Errorf("without data: %v; want ErrConfig", err)
	}
	other := b.Job(t, "other", TrainGood)
	other.Method = "divination"
	if _, err := m.Start(t.Context(), other); !errors.Is(err, model.ErrConfig) {
		t.Errorf("with an unknown method: %v; want ErrConfig", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Start(ctx, b.Job(t, "left", TrainGood)); !errors.Is(err, context.Canceled) {
		t.Errorf("with a cancelled context: %v; want context.Canceled", err)
	}
	if s, err := m.Status(t.Context(), "no-such-handle"); err == nil {
		t.Errorf("the status of a handle that nobody gave is %+v", s)
	}
}
