// Package training makes one checkpoint of one snapshot.
//
//	snapshot -> train -> checkpoint, training --> sink -> commit
//	              `----> rejected ------------^
//
// A job that does not end well is a dead letter, and the gates allow none: nothing is committed. Err says
// in a line what that means.
package training

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/recipe"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/transforms/conformance"
	"github.com/promptmill/promptmill/transforms/parquetio"
	"github.com/promptmill/promptmill/transforms/snapshot"
	"github.com/promptmill/promptmill/transforms/train"
)

// Set is the name of the data set, Jobs the folder of its store that keeps the trainings.
const (
	Set  = "checkpoint"
	Jobs = Set + "/jobs"
)

// The configurations of the data set: what was made, which is what the digest is of, and how and where.
const (
	Checkpoints = "checkpoint"
	Trainings   = "training"
)

// Split is what a trainer gets of a snapshot; other splits are for looking at what it learned.
const Split = "train"

// Config says what to train on what and where to commit.
type Config struct {
	Snapshot snapshot.Config       `json:"snapshot"`
	Sink     parquetio.WriteConfig `json:"sink"`
	Train    train.Config          `json:"train"`
	// Data is the committed snapshot.
	Data snapshot.Result `json:"data"`
}

// Build adds the pipeline to s and returns its PCollection<snapshot.Result> of one element.
func Build(s beam.Scope, c Config) beam.PCollection {
	s = s.Scope("training.Build")
	checkpoints, trainings, rejected, counts := train.Run(s, c.Train, beam.Create(s, c.Data))
	made, n1 := parquetio.Write[schemas.Checkpoint](s, c.sink(Checkpoints), checkpoints)
	how, n2 := parquetio.Write[schemas.Training](s, c.sink(Trainings), trainings)
	dead, n3 := parquetio.Write[schemas.Rejected](s, c.sink(snapshot.Rejected), rejected)

	c.Snapshot.Gates = snapshot.Gates{MinRows: map[string]int64{Checkpoints: 1}}
	c.Snapshot.Undigested = []string{Trainings}
	c.Snapshot.Equations = []string{
		"train.in = 1",
		"train.out = rows." + Checkpoints,
		"train.out = rows." + Trainings,
		"train.dead = rows." + snapshot.Rejected,
	}
	return snapshot.Commit(s, c.Snapshot, beam.Flatten(s, made, how, dead), beam.Flatten(s, counts, n1, n2, n3))
}

func (c Config) sink(config string) parquetio.WriteConfig {
	sink := c.Sink
	sink.Config, sink.Stage, sink.Buckets = config, "write_"+config, 1
	return sink
}

// New takes the sections of a bound recipe for one method. Where to start from is left to the caller.
func New(r *recipe.Recipe, method string) Config {
	t := train.Config{
		Trainer: r.Training.Trainer, Dir: Jobs, Configurations: []string{"rewrite"}, Split: Split, Method: method, Params: r.Training.SFT,
		Seed: r.Seed, Attempt: r.Training.Attempt, AllowOffPolicy: r.Training.AllowOffPolicy, Gate: conformance.DefaultConfig(method),
		Poll: r.Training.Poll,
	}
	if method == model.MethodDPO {
		t.Params = r.DPO
	}
	t.Gate.Placeholders, t.Gate.ContextWindow, t.Gate.ImageTokens = r.Training.Placeholders, r.Training.ContextWindow, r.Training.ImageTokens
	return Config{Train: t}
}

// Start is the checkpoint that the first training of a recipe starts from, as the trainer calls it, and its identity:
// training.start, or else the policy. A policy with a folder on this machine is called by that.
func Start(ctx context.Context, r *recipe.Recipe) (name, weights string, err error) {
	spec, field := r.Models.Policy, "models.policy"
	if r.Training.Start != "" {
		spec.Model, field = r.Training.Start, "training.start"
	}
	chat, err := model.OpenChat(ctx, spec)
	if err != nil {
		return "", "", fmt.Errorf("%s: %w", field, err)
	}
	return StartOf(chat, spec), chat.Info().Weights, nil
}

// StartOf is what a trainer calls the open model of spec: its folder if it has one on this machine, or else its name.
func StartOf(chat model.Chat, spec model.Spec) string {
	if f, ok := chat.(model.Foldered); ok {
		return f.Folder()
	}
	return spec.Model
}

// On makes c train on configurations of the committed snapshot m.
func (c Config) On(m snapshot.Manifest, configurations ...string) Config {
	c.Data = snapshot.Result{Verdict: snapshot.Committed, Set: m.Set, RunID: m.RunID, Digest: m.Digest}
	c.Train.Configurations = configurations
	return c
}

// Interrupted is for a launcher whose ctx has ended before its run did: where the recipe wants it, it ends the job that c
// began, which would go on otherwise, and says so.
func (c Config) Interrupted(ctx context.Context, r *recipe.Recipe, say func(format string, args ...any)) {
	if ctx.Err() == nil || r.Training.OnInterrupt != recipe.CancelJob {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	switch done, err := train.Cancel(ctx, c.Train, c.Data); {
	case err != nil:
		say("training.on_interrupt: the job could not be cancelled and may go on: %v", err)
	case done:
		say("training.on_interrupt: the job was cancelled; raise training.attempt to train again")
	}
}

// ErrFailed says: a trainer was begun and made no checkpoint.
var ErrFailed = errors.New("the training failed")

// Err says in a line what the error means that a refused run of this pipeline in st ends with: a trainer that
// failed (it wraps ErrFailed and is no gate's doing), or data that were refused (it wraps snapshot.ErrGate).
// Other errors stay.
func Err(ctx context.Context, st store.Store, err error) error {
	var refused *snapshot.RefusedError
	if !errors.As(err, &refused) {
		return err
	}
	var dead []error
	readErr := parquetio.Rows(ctx, st, schemas.ShardsOf(refused.Shards, snapshot.Rejected), func(r schemas.Rejected) error {
		because := snapshot.ErrGate
		switch r.Reason {
		case train.Failed, train.Cancelled, train.NoCheckpoint, train.Diverged:
			because = ErrFailed
		}
		dead = append(dead, fmt.Errorf("%w: %s: %s", because, r.Reason, r.Detail))
		return nil
	})
	if len(dead) == 0 || readErr != nil {
		return errors.Join(err, readErr)
	}
	return errors.Join(dead...)
}

// Load reads the rows of a committed run: what was made, and how and where.
func Load(ctx context.Context, st store.Store, m snapshot.Manifest) (schemas.Checkpoint, schemas.Training, error) {
	var made schemas.Checkpoint
	var how schemas.Training
	err := errors.Join(
		parquetio.Rows(ctx, st, schemas.ShardsOf(m.Shards, Checkpoints), func(r schemas.Checkpoint) error { made = r; return nil }),
		parquetio.Rows(ctx, st, schemas.ShardsOf(m.Shards, Trainings), func(r schemas.Training) error { how = r; return nil }))
	if err != nil {
		return made, how, fmt.Errorf("training: run %s of %s: %w", m.RunID, m.Set, err)
	}
	if made.Weights == "" || how.Weights != made.Weights {
		return made, how, fmt.Errorf("training: run %s of %s: %w: its rows are of the weights %q and %q", m.RunID, m.Set, store.ErrDamaged, made.Weights, how.Weights)
	}
	return made, how, nil
}
