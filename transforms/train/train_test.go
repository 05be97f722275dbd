package train_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/modeltest"
	"github.com/promptmill/promptmill/model/modeltest/pupil"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/conformance"
	"github.com/promptmill/promptmill/transforms/ledger"
	"github.com/promptmill/promptmill/transforms/parquetio"
	"github.com/promptmill/promptmill/transforms/snapshot"
	"github.com/promptmill/promptmill/transforms/train"
	"github.com/promptmill/promptmill/transforms/transformtest"
)

func init() {
	transformtest.Register[schemas.Checkpoint]()
	transformtest.Register[schemas.Training]()
}

func TestMain(m *testing.M) { ptest.Main(m) }

func pair(prompt, policy string) schemas.PreferencePair {
	say := func(role, text string) []schemas.Message { return []schemas.Message{{Role: role, Content: text}} }
	p := schemas.PreferencePair{
		Kind: schemas.KindRewrite, PromptID: schemas.PromptID(prompt), Prompt: say(schemas.RoleUser, prompt),
		Chosen: say(schemas.RoleAssistant, prompt+", oil on canvas"), Rejected: say(schemas.RoleAssistant, prompt),
		ChosenScore: 2, RejectedScore: 1, Margin: 1, Policy: policy,
	}
	p.ID = schemas.PreferenceID(p.Kind, p.PromptID, p.Chosen, p.Rejected)
	return p
}

// commit makes a snapshot of rows in dir.
func commit[T schemas.Row](t *testing.T, dir, runID string, rows ...T) snapshot.Result {
	t.Helper()
	p, s := beam.NewPipelineWithRoot()
	shards, counts := parquetio.Write[T](s, parquetio.WriteConfig{
		Store: dir, Dir: snapshot.RunDir("preference", runID), Config: "rewrite", Stage: "write", Buckets: 1,
	}, beam.CreateList(s, rows))
	snapshot.Commit(s, snapshot.Config{Store: dir, Header: snapshot.Header{Set: "preference", RunID: runID, LogicalDate: "2026-01-31"}}, shards, counts)
	ptest.RunAndValidate(t, p)
	return snapshot.Result{Verdict: snapshot.Committed, Set: "preference", RunID: runID}
}

func config(dir string) train.Config {
	return train.Config{
		Trainer: model.Spec{Backend: "pupil"}, Store: dir, Dir: "checkpoint/jobs", Configurations: []string{"rewrite"}, Split: "train",
		Method: model.MethodDPO, Start: pupil.Start, Weights: "pupil-start", Params: train.DefaultDPO(), Seed: 3,
		Gate: conformance.DefaultConfig(model.MethodDPO), Poll: time.Millisecond,
	}
}

// run trains on snapshots and checks the ledger of the stage.
func run(t *testing.T, cfg train.Config, snapshots ...snapshot.Result) ([]schemas.Checkpoint, []schemas.Training, []schemas.Rejected) {
	t.Helper()
	p, s := beam.NewPipelineWithRoot()
	checkpoints, trainings, rejected, counts := train.Run(s, cfg, beam.CreateList(s, snapshots))
	c, tr := transformtest.Collect[schemas.Checkpoint](s, checkpoints), transformtest.Collect[schemas.Training](s, trainings)
	r, n := transformtest.Collect[schemas.Rejected](s, rejected), transformtest.Collect[schemas.Count](s, counts)
	ptest.RunAndValidate(t, p)
	rows := map[string]int64{"rejected": int64(len(r()))}
	if err := ledger.Check(n(), rows, []string{fmt.Sprintf("train.in = %d", len(snapshots)), "train.dead = rows.rejected"}); err != nil {
		t.Error(err)
	}
	return c(), tr(), r()
}

func lines(t *testing.T, name string) []string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(data))
}

func TestTrainsOnce(t *testing.T) {
	dir := t.TempDir()
	data := commit(t, dir, "r", pair("a cat", "pupil-start"), pair("a dog", "pupil-start"))
	cfg := config(dir)
	checkpoints, trainings, rejected := run(t, cfg, data)
	if len(checkpoints) != 1 || len(trainings) != 1 || len(rejected) != 0 {
		t.Fatalf("%d checkpoints, %d trainings, rejected %v", len(checkpoints), len(trainings), rejected)
	}
	c, how := checkpoints[0], trainings[0]
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	if c.Rows != 2 || c.Steps != pupil.Steps || c.Start != "pupil-start" || c.DPOBeta != .1 || c.Seed != 3 {
		t.Errorf("checkpoint %+v", c)
	}
	if got := lines(t, filepath.Join(how.Location, "weights")); got[0] != c.Weights || how.Weights != c.Weights {
		t.Errorf("weights %q, %q at %s", c.Weights, got, how.Location)
	}

	// Another run of the same rows, and another attempt of this one, find the job: wherever they are of.
	again := commit(t, dir, "again", pair("a dog", "pupil-start"), pair("a cat", "pupil-start"))
	checkpoints, _, _ = run(t, cfg, data, again)
	if len(checkpoints) != 2 || checkpoints[0] != c || checkpoints[1] != c {
		t.Errorf("trained again: %+v", checkpoints)
	}
	if got := lines(t, filepath.Join(how.Log, "starts")); len(got) != 1 {
		t.Errorf("started %d times", len(got))
	}
	if got := lines(t, filepath.Join(how.Log, "steps")); len(got) != pupil.Steps {
		t.Errorf("steps %v", got)
	}

	// What decides the weights makes another job.
	for name, change := range map[string]func(*train.Config){
		"seed": func(c *train.Config) { c.Seed++ }, "attempt": func(c *train.Config) { c.Attempt++ },
		"rate": func(c *train.Config) { c.Params.LearningRate *= 2 },
	} {
		cfg := config(dir)
		change(&cfg)
		_, other, _ := run(t, cfg, data)
		if len(other) != 1 || other[0].Job == how.Job {
			t.Errorf("another %s is trained as %v", name, other)
		}
	}
}

func TestReattaches(t *testing.T) {
	dir := t.TempDir()
	data := commit(t, dir, "r", pair("a cat", "pupil-start"))
	_, first, _ := run(t, config(dir), data)
	// The launcher died when the job was put and when it was begun, before the handle was kept.
	if err := os.Remove(filepath.Join(dir, "checkpoint/jobs", first[0].Job, "handle.json")); err != nil {
		t.Fatal(err)
	}
	_, second, _ := run(t, config(dir), data)
	if len(second) != 1 || second[0].Weights != first[0].Weights || second[0].Handle != first[0].Handle {
		t.Errorf("first %+v, then %+v", first, second)
	}
	if got := lines(t, filepath.Join(first[0].Log, "steps")); len(got) != pupil.Steps {
		t.Errorf("steps %v", got)
	}
}

func TestRefuses(t *testing.T) {
	dir := t.TempDir()
	good := commit(t, dir, "good", pair("a cat", "pupil-start"))
	stale := commit(t, dir, "stale", pair("a cat", "pupil-start"), pair("a dog", "pupil-old"))
	empty := commit[schemas.PreferencePair](t, dir, "empty")
	for _, tt := range []struct {
		name   string
		data   snapshot.Result
		change func(*train.Config)
		reason string
		detail string
	}{
		{"stale", stale, nil, train.StalePolicy, `of policy "pupil-old", training starts from "pupil-start"`},
		{"stale allowed", stale, func(c *train.Config) { c.AllowOffPolicy = true }, "", ""},
		{"empty", empty, nil, train.NonConforming, "it has no rows"},
		{"method", good, func(c *train.Config) { c.Method, c.Gate.Method = model.MethodSFT, model.MethodSFT }, train.NonConforming, "sft does not train on preference pairs"},
		{"too long", good, func(c *train.Config) { c.Gate.ContextWindow = 3 }, train.NonConforming, "(estimated from below: words), the context window 3"},
		{"refused snapshot", snapshot.Result{Verdict: snapshot.GateClosed, Set: "preference", RunID: "x", Detail: "too few"}, nil, train.NotCommitted, "too few"},
		{"failed", good, ends(modeltest.TrainBadData, 1), train.Failed, "row 3 is a poem"},
		{"diverged", good, ends(modeltest.TrainDiverges, 2), train.Diverged, "a loss of NaN"},
		{"nothing", good, ends(modeltest.TrainNothing, 3), train.NoCheckpoint, "left no checkpoint"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := config(dir)
			if tt.change != nil {
				tt.change(&cfg)
			}
			checkpoints, trainings, rejected := run(t, cfg, tt.data)
			if tt.reason == "" {
				if len(checkpoints) != 1 {
					t.Errorf("rejected %v", rejected)
				}
				return
			}
			if len(checkpoints)+len(trainings) != 0 || len(rejected) != 1 || rejected[0].Reason != tt.reason || !strings.Contains(rejected[0].Detail, tt.detail) {
				t.Errorf("%d checkpoints, rejected %+v; want %s, %q", len(checkpoints), rejected, tt.reason, tt.detail)
			}
		})
	}
}

// Rows of several configurations are one job, of another digest than those of one; each is looked at by itself.
func TestConfigurations(t *testing.T) {
	dir := t.TempDir()
	p, s := beam.NewPipelineWithRoot()
	var shards, counts []beam.PCollection
	for name, text := range map[string]string{"rewrite": "a cat", "judgment": "a dog"} {
		w, c := parquetio.Write[schemas.PreferencePair](s, parquetio.WriteConfig{
			Store: dir, Dir: snapshot.RunDir("preference", "two"), Config: name, Stage: "write_" + name, Buckets: 1,
		}, beam.CreateList(s, []schemas.PreferencePair{pair(text, "pupil-start")}))
		shards, counts = append(shards, w), append(counts, c)
	}
	snapshot.Commit(s, snapshot.Config{Store: dir, Header: snapshot.Header{Set: "preference", RunID: "two", LogicalDate: "2026-01-31"}},
		beam.Flatten(s, shards...), beam.Flatten(s, counts...))
	ptest.RunAndValidate(t, p)
	data := snapshot.Result{Verdict: snapshot.Committed, Set: "preference", RunID: "two"}

	digests := map[string]bool{}
	for _, names := range [][]string{{"rewrite"}, {"judgment"}, {"rewrite", "judgment"}} {
		cfg := config(dir)
		cfg.Configurations = names
		made, _, rejected := run(t, cfg, data)
		if len(made) != 1 || made[0].Rows != int64(len(names)) || digests[made[0].Data] {
			t.Errorf("%v: %+v, rejected %v", names, made, rejected)
			continue
		}
		digests[made[0].Data] = true
	}
	cfg := config(dir)
	cfg.Configurations = []string{"rewrite", "poems"}
	if made, _, rejected := run(t, cfg, data); len(made) != 0 || len(rejected) != 1 || !strings.Contains(rejected[0].Detail, "poems: the training set does not conform: it has no rows") {
		t.Errorf("%+v, rejected %+v", made, rejected)
	}
}

// Cancel says when there is nothing to end. That it ends what runs the command's tests show.
func TestCancel(t *testing.T) {
	dir := t.TempDir()
	data := commit(t, dir, "r", pair("a cat", "pupil-start"))
	cfg := config(dir)
	if done, err := train.Cancel(t.Context(), cfg, data); done || err != nil {
		t.Errorf("nothing was begun: %v, %v", done, err)
	}
	run(t, cfg, data)
	if done, err := train.Cancel(t.Context(), cfg, data); done || err != nil {
		t.Errorf("a job that has ended stays as it is: %v, %v", done, err)
	}
}

// ends makes the training end as c, in a job of its own.
func ends(c modeltest.TrainCase, attempt int) func(*train.Config) {
	return func(cfg *train.Config) {
		cfg.Trainer.Options, cfg.Attempt = map[string]string{"case": string(c)}, attempt
	}
}

func TestConfig(t *testing.T) {
	good := config("x")
	good.Gate.Counted = "by hand"
	good.Attempt, good.AllowOffPolicy, good.Params.WeightDecay, good.Params.NLLAlpha = 1, true, .1, 1
	transformtest.RoundTrip(t, good)
	bad := config("")
	bad.Trainer, bad.Start, bad.Poll, bad.Params.BatchSize, bad.Params.DPOBeta = model.Spec{}, "", 0, 0, -1
	err := bad.Validate()
	for _, want := range []string{"training.trainer.backend: ", "training.start: ", "training.poll: ", "dpo.batch_size: 0", "dpo.beta: -1", "training.store: "} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %q", err, want)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("a graph was built")
		}
	}()
	_, s := beam.NewPipelineWithRoot()
	train.Run(s, bad, beam.Create(s, snapshot.Result{}))
}
