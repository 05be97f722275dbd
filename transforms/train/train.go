// Package train hands committed snapshots to a trainer: the result of a commit goes in, a checkpoint comes
// out.
//
// # Design
//
// A training costs hours and must happen once, however often a runner tries. Three things see to that. The
// job's id is a hash of what decides the weights (method, rows, start, hyperparameters, trainer), so two
// runs of the same training, and two loops that share a beginning, have one job. The job is put into the
// store, if absent, before the trainer hears of it, and model.Trainer promises that a job of one id is begun
// once. The handle that the trainer gives is put beside it: whoever comes later asks for that one's status.
//
//	DIR/ID/job.json     the job, as it was first asked for
//	DIR/ID/handle.json  the trainer's handle
//	DIR/ID/output/      the trainer's own
//
// A job that ends badly, data that do not conform and pairs of another policy are dead letters of the stage
// "train", whose unit is the job: what a launcher does about a reason does not depend on how a runner words
// an error.
package train

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/transforms/conformance"
	"github.com/promptmill/promptmill/transforms/ledger"
	"github.com/promptmill/promptmill/transforms/parquetio"
	"github.com/promptmill/promptmill/transforms/settings"
	"github.com/promptmill/promptmill/transforms/snapshot"
)

func init() {
	beam.RegisterDoFn(reflect.TypeFor[trainFn]())
	register.Emitter1[schemas.Checkpoint]()
	register.Emitter1[schemas.Training]()
	register.Emitter1[schemas.Rejected]()
	register.Emitter1[schemas.Count]()
	parquetio.Register[schemas.Checkpoint]()
	parquetio.Register[schemas.Training]()
}

// Stage is the name in the ledger and in dead letters; its unit is the job.
const Stage = "train"

// Reasons of this stage, all dead.
const (
	// NotCommitted: the snapshot was refused.
	NotCommitted = "not_committed"
	// NonConforming: a trainer would stumble over the rows, or there are none.
	NonConforming = "non_conforming"
	// StalePolicy: pairs were made by another policy than the one that training starts from.
	StalePolicy = "stale_policy"
	// Failed and Cancelled: so the trainer says.
	Failed    = "failed"
	Cancelled = "cancelled"
	// NoCheckpoint: the trainer ended well and left none, or one with the weights of the start.
	NoCheckpoint = "no_checkpoint"
	// Diverged: the last loss is no number.
	Diverged = "diverged"
)

// Config says how to train on what.
type Config struct {
	// Trainer trains.
	Trainer model.Spec `json:"trainer" yaml:"trainer"`
	// Store is the URL of the store that has the snapshot, Dir the folder in it that keeps the jobs.
	Store string `json:"store" yaml:"store"`
	Dir   string `json:"dir" yaml:"dir"`
	// Configurations and Split of the snapshot are trained on: those of more than one, such as rows with and without
	// pictures, by trainers that take them together.
	Configurations []string `json:"configurations" yaml:"configurations"`
	Split          string   `json:"split" yaml:"split"`
	// Method is sft or dpo.
	Method string `json:"method" yaml:"method"`
	// Start names the checkpoint to start from, Weights is its identity.
	Start   string `json:"start" yaml:"start"`
	Weights string `json:"weights" yaml:"weights"`
	Params  Params `json:"params" yaml:"params"`
	// Seed is the run's.
	Seed int64 `json:"seed" yaml:"seed"`
	// Attempt makes another job of what is the same otherwise: a job that has failed stays failed.
	Attempt int `json:"attempt" yaml:"attempt"`
	// AllowOffPolicy takes pairs of other policies than Weights.
	AllowOffPolicy bool `json:"allow_off_policy" yaml:"allow_off_policy"`
	// Gate is what the rows must be like; its method is Method. Without a context window it is that of the start's folder,
	// where there is one that says.
	Gate conformance.Config `json:"gate" yaml:"gate"`
	// Poll is the longest time between two looks at the job; the first ones follow one another faster.
	Poll time.Duration `json:"poll" yaml:"poll"`
}

// Validate joins all faults.
func (c Config) Validate() error {
	faults := settings.Of("training")
	faults.Check(c.Trainer.Backend != "", "trainer.backend: empty; name one of the trainers, such as command or rest")
	faults.Check(c.Method == model.MethodSFT || c.Method == model.MethodDPO, "method: %q is not sft or dpo", c.Method)
	faults.Check(c.Gate.Method == c.Method, "gate.method: %q is not that of the job, %q", c.Gate.Method, c.Method)
	faults.Check(c.Store != "" && c.Dir != "", "store: empty; give the store and the folder for the jobs")
	faults.Check(len(c.Configurations) > 0 && !slices.Contains(c.Configurations, "") && c.Split != "", "configurations: %q of split %q; name the rows to train on and their split",
		c.Configurations, c.Split)
	faults.Check(c.Start != "", "start: empty; name the checkpoint to start from")
	faults.Check(c.Weights != "", "weights: empty; say which weights those of the start are")
	faults.Check(c.Attempt >= 0, "attempt: %d is negative; 0 is the first", c.Attempt)
	faults.Check(c.Poll > 0, "poll: %v is not above 0; 10s is kind to a server", c.Poll)
	section := "training.sft"
	if c.Method == model.MethodDPO {
		section = "dpo"
	}
	faults.Join(c.Params.Validate(section), c.Gate.Validate())
	return faults.Err()
}

// Cancel ends the job of cfg on a committed snapshot, if it was begun and has not ended. It is what a launcher does that
// was told to stop and not to leave a job behind; done says that there was one to end.
func Cancel(ctx context.Context, cfg Config, r snapshot.Result) (done bool, err error) {
	j, trainer, err := openJob(ctx, cfg, r)
	if err != nil {
		return false, err
	}
	var h handle
	if err := j.get(ctx, "handle.json", &h); errors.Is(err, store.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	status, err := trainer.Status(ctx, h.Handle)
	if err == nil && !ended(status) {
		done, err = true, trainer.Cancel(ctx, h.Handle)
	}
	if err != nil {
		return false, fmt.Errorf("job %s: %w", j.ID, err)
	}
	return done, nil
}

// Run trains on each committed snapshot of a PCollection<snapshot.Result>, which by its nature is there when
// the snapshot is. It returns a PCollection<schemas.Checkpoint> and a PCollection<schemas.Training>, both
// with one row for each job that succeeded, a PCollection<schemas.Rejected>, and the PCollection<schemas.Count>
// of the stage. A trainer that cannot be reached is an error, which the runner tries again. It panics if
// cfg is not valid.
func Run(s beam.Scope, cfg Config, snapshots beam.PCollection) (checkpoints, trainings, rejected, counts beam.PCollection) {
	s = s.Scope("train.Run")
	if err := cfg.Validate(); err != nil {
		panic(err)
	}
	// Without the shuffle, an attempt that is made again would seal the snapshot again too.
	return beam.ParDo4(s, &trainFn{Config: cfg}, beam.Reshuffle(s, snapshots))
}

type trainFn struct {
	Config Config

	tally ledger.Tally
}

func (fn *trainFn) StartBundle(context.Context, func(schemas.Checkpoint), func(schemas.Training), func(schemas.Rejected), func(schemas.Count)) {
	fn.tally.Reset()
}

func (fn *trainFn) FinishBundle(_ context.Context, _ func(schemas.Checkpoint), _ func(schemas.Training), _ func(schemas.Rejected), count func(schemas.Count)) {
	fn.tally.Flush(count)
}

func (fn *trainFn) ProcessElement(ctx context.Context, r snapshot.Result, checkpoint func(schemas.Checkpoint), training func(schemas.Training), reject func(schemas.Rejected), _ func(schemas.Count)) error {
	fn.tally.In(Stage, 1)
	done, err := fn.train(ctx, r)
	var dead *refusal
	switch {
	case errors.As(err, &dead):
		fn.tally.Dead(Stage, dead.reason, 1)
		reject(schemas.Rejected{Stage: Stage, Key: done.training.Job, Reason: dead.reason, Attempts: 1, Detail: dead.detail, Payload: r.Object})
		return nil
	case err != nil:
		return fmt.Errorf("train: %s run %s: %w", r.Set, r.RunID, err)
	}
	fn.tally.Out(Stage, 1)
	checkpoint(done.checkpoint)
	training(done.training)
	return nil
}

// A refusal is why a job is dead.
type refusal struct{ reason, detail string }

func (r *refusal) Error() string { return r.reason + ": " + r.detail }

func refuse(reason, format string, args ...any) error {
	return &refusal{reason, fmt.Sprintf(format, args...)}
}

// trained is what one job made. After a refusal it has as much as was known.
type trained struct {
	checkpoint schemas.Checkpoint
	training   schemas.Training
}

// openJob is the job of cfg on a committed snapshot, and who trains it.
func openJob(ctx context.Context, cfg Config, r snapshot.Result) (*job, model.Trainer, error) {
	st, err := store.Open(ctx, cfg.Store)
	if err != nil {
		return nil, nil, err
	}
	m, err := snapshot.Load(ctx, st, r.Set, r.RunID)
	if err != nil {
		return nil, nil, err
	}
	trainer, err := model.OpenTrainer(ctx, cfg.Trainer)
	if err != nil {
		return nil, nil, err
	}
	return newJob(cfg, st, m, trainer.Info()), trainer, nil
}

// train takes one snapshot through the gates and to the end of its training.
func (fn *trainFn) train(ctx context.Context, r snapshot.Result) (done trained, err error) {
	cfg := fn.Config
	if r.Verdict != snapshot.Committed {
		return done, refuse(NotCommitted, "%s run %s: %s", r.Set, r.RunID, r.Detail)
	}
	j, trainer, err := openJob(ctx, cfg, r)
	if err != nil {
		return done, err
	}
	done = trained{j.checkpoint(), schemas.Training{Job: j.ID, Trainer: trainer.Info().Name, Log: j.Output}}
	if err := j.conforms(ctx); err != nil {
		return done, err
	}
	handle, err := j.attach(ctx, trainer)
	if err != nil {
		return done, err
	}
	done.training.Handle = handle
	status, err := j.wait(ctx, trainer, handle)
	if err != nil {
		return done, fmt.Errorf("job %s: %w", j.ID, err)
	}
	if err := judge(status, j.TrainJob); err != nil {
		return done, err
	}
	done.checkpoint.Weights, done.checkpoint.Steps = status.Weights, int64(status.Steps)
	done.training.Weights, done.training.Location, done.training.Metrics = status.Weights, status.Checkpoint, metrics(status.Metrics)
	return done, nil
}
