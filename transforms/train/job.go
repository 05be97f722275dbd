package train

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/trainers/dataset"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/transforms/conformance"
	"github.com/promptmill/promptmill/transforms/snapshot"
)

// A job is one training and where the store keeps what is known of it.
type job struct {
	model.TrainJob
	cfg  Config
	st   store.Store
	dir  string
	rows int64
	// files are Data by configuration.
	files [][]string
}

// newJob makes the job of cfg on the snapshot m.
func newJob(cfg Config, st store.Store, m snapshot.Manifest, trainer model.Info) *job {
	j := &job{cfg: cfg, st: st}
	j.TrainJob = model.TrainJob{
		Method: cfg.Method, Digest: digestOf(m, cfg.Configurations), Start: cfg.Start, Weights: cfg.Weights, Params: cfg.Params.with(cfg.Seed),
	}
	for _, configuration := range cfg.Configurations {
		var files []string
		for _, s := range m.Shards {
			if s.Config == configuration && s.Split == cfg.Split {
				files = append(files, objectURL(st.URL(), s.Object))
				j.rows += s.Rows
			}
		}
		j.files, j.Data = append(j.files, files), append(j.Data, files...)
	}
	j.ID = j.id(trainer)
	j.dir = path.Join(cfg.Dir, j.ID)
	j.Output = objectURL(st.URL(), path.Join(j.dir, "output"))
	return j
}

// digestOf identifies the rows of configurations: one has a digest already.
func digestOf(m snapshot.Manifest, configurations []string) string {
	if len(configurations) == 1 {
		return m.Digests[configurations[0]]
	}
	h := sha256.New()
	for _, c := range configurations {
		fmt.Fprintf(h, "%s %s\n", c, m.Digests[c])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// id is a hash of what decides the weights; where things are is no part of it.
func (j *job) id(trainer model.Info) string {
	decides := []any{j.Method, j.Digest, j.cfg.Split, j.Weights, j.Params, trainer.Weights, j.cfg.Attempt}
	data, err := json.Marshal(decides)
	if err != nil {
		panic(err) // texts and finite numbers: Validate saw to it
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:16])
}

// objectURL is the URL of an object in the store at root.
func objectURL(root, name string) string {
	if strings.HasPrefix(root, "file://") {
		name = (&url.URL{Path: name}).EscapedPath()
	}
	return strings.TrimRight(root, "/") + "/" + name
}

// checkpoint is the row but for the result.
func (j *job) checkpoint() schemas.Checkpoint {
	p := j.Params
	return schemas.Checkpoint{
		Start: j.Weights, Method: j.Method, Data: j.Digest, Rows: j.rows, Epochs: int64(p.Epochs), BatchSize: int64(p.BatchSize),
		LearningRate: p.LearningRate, WarmupFraction: p.WarmupFraction, Beta1: p.Beta1, Beta2: p.Beta2, WeightDecay: p.WeightDecay,
		DPOBeta: p.DPOBeta, NLLAlpha: p.NLLAlpha, Seed: p.Seed,
	}
}

// conforms looks at every row before a trainer does.
func (j *job) conforms(ctx context.Context) error {
	gate, count, err := lengths(j.cfg.Gate, j.Start)
	if err != nil {
		return err
	}
	for i, files := range j.files {
		report, err := conformance.Check(ctx, gate, count, files)
		if err != nil {
			return err
		}
		if err := report.Err(); err != nil {
			return refuse(NonConforming, "%s: %v", j.cfg.Configurations[i], err)
		}
	}
	if j.Method != model.MethodDPO || j.cfg.AllowOffPolicy {
		return nil
	}
	for _, u := range j.Data {
		if err := j.onPolicy(ctx, u); err != nil {
			return err
		}
	}
	return nil
}

// onPolicy wants every pair of a file to be the start's own.
func (j *job) onPolicy(ctx context.Context, u string) error {
	o, err := dataset.Open(ctx, u)
	if err != nil {
		return err
	}
	defer o.Close()
	r := parquet.NewGenericReader[struct {
		ID     string `parquet:"id,optional"`
		Policy string `parquet:"policy,optional"`
	}](io.NewSectionReader(o, 0, o.Size()))
	defer r.Close()
	for {
		rows := make([]struct {
			ID     string `parquet:"id,optional"`
			Policy string `parquet:"policy,optional"`
		}, 256)
		n, err := r.Read(rows)
		for _, row := range rows[:n] {
			if row.Policy != j.Weights {
				return refuse(StalePolicy, "pair %s is of policy %q, training starts from %q; build pairs with that policy, or allow others with training.allow_off_policy",
					row.ID, row.Policy, j.Weights)
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("%s: %w", u, err)
		}
	}
}

// handle is what handle.json holds.
type handle struct {
	Handle  string `json:"handle"`
	Trainer string `json:"trainer"`
}

// attach returns the trainer's handle of the job, which it begins if nobody did.
func (j *job) attach(ctx context.Context, trainer model.Trainer) (string, error) {
	var h handle
	err := j.get(ctx, "handle.json", &h)
	if err == nil || !errors.Is(err, store.ErrNotExist) {
		return h.Handle, err
	}
	// The job as it was first asked for is the one that is begun.
	if err := j.put(ctx, "job.json", j.TrainJob); err != nil {
		return "", err
	}
	if err := j.get(ctx, "job.json", &j.TrainJob); err != nil {
		return "", err
	}
	h.Trainer = trainer.Info().Name
	if h.Handle, err = trainer.Start(ctx, j.TrainJob); err != nil {
		return "", err
	}
	if err := j.put(ctx, "handle.json", h); err != nil {
		return "", err
	}
	return h.Handle, j.get(ctx, "handle.json", &h)
}

func (j *job) get(ctx context.Context, name string, v any) error {
	name = path.Join(j.dir, name)
	data, _, err := j.st.Read(ctx, name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: %w: %w", name, store.ErrDamaged, err)
	}
	return nil
}

// put stores v unless something is there.
func (j *job) put(ctx context.Context, name string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	// By a swap, because that is durable when it returns.
	_, err = j.st.CompareAndSwap(ctx, path.Join(j.dir, name), "", append(data, '\n'))
	if errors.Is(err, store.ErrConflict) {
		return nil
	}
	return err
}

// unreachable is how often in a row a trainer may fail to say how a job is.
const unreachable = 5

// wait looks at the job until it has ended.
func (j *job) wait(ctx context.Context, trainer model.Trainer, handle string) (model.TrainStatus, error) {
	failed, longest := 0, j.cfg.Poll
	p := Progress{Job: j.ID, Since: time.Now()}
	p.publish()
	for pause := min(20*time.Millisecond, longest); ; pause = min(pause*3/2, longest) {
		status, err := trainer.Status(ctx, handle)
		switch {
		case err == nil:
			failed = 0
			p.saw(status, time.Now())
			if ended(status) {
				return status, nil
			}
		case ctx.Err() != nil || failed == unreachable || errors.Is(err, model.ErrConfig):
			return status, err
		default:
			failed++
		}
		select {
		case <-ctx.Done(): // the job goes on without us; the same command finds it again
			return status, context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

func ended(s model.TrainStatus) bool {
	return s.State == model.TrainSucceeded || s.State == model.TrainFailed || s.State == model.TrainCancelled
}

// judge refuses what is no new checkpoint.
func judge(s model.TrainStatus, j model.TrainJob) error {
	const again = "; when the cause is mended, raise training.attempt to train again"
	if loss, ok := s.Metrics["loss"]; ok && (math.IsNaN(loss) || math.IsInf(loss, 0)) {
		return refuse(Diverged, "job %s ended with a loss of %v; lower the learning rate and train again", j.ID, loss)
	}
	switch {
	case s.State == model.TrainFailed:
		return refuse(Failed, "job %s: %s%s", j.ID, s.Message, again)
	case s.State == model.TrainCancelled:
		return refuse(Cancelled, "job %s: %s%s", j.ID, s.Message, again)
	case s.Checkpoint == "" || s.Weights == "":
		return refuse(NoCheckpoint, "job %s ended well and left no checkpoint%s", j.ID, again)
	case s.Weights == j.Weights:
		return refuse(NoCheckpoint, "job %s left the weights that it started from%s", j.ID, again)
	}
	return nil
}

// metrics are the finite values, by name.
func metrics(values map[string]float64) []schemas.Metric {
	var out []schemas.Metric
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if v := values[name]; !math.IsNaN(v) && !math.IsInf(v, 0) {
			out = append(out, schemas.Metric{Name: name, Value: v})
		}
	}
	return out
}
