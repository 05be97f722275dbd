package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/promptmill/promptmill/model/modeltest/fakeserver"
	"github.com/promptmill/promptmill/pipelines/preference"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/deadletter"
	"github.com/promptmill/promptmill/transforms/imagegen"
	"github.com/promptmill/promptmill/transforms/judge"
	"github.com/promptmill/promptmill/transforms/parquetio"
	"github.com/promptmill/promptmill/transforms/prefer"
	"github.com/promptmill/promptmill/transforms/rewrite"
	"github.com/promptmill/promptmill/transforms/snapshot"
)

// deadReasons are all that a dead letter of the main job may say, by stage.
var deadReasons = map[string][]string{
	rewrite.Stage:     {deadletter.Rejected, deadletter.Unavailable, rewrite.Refusal, rewrite.Empty, rewrite.TooLong, rewrite.CutOff},
	imagegen.StageRaw: {deadletter.Rejected, deadletter.Unavailable, imagegen.Black, imagegen.Flagged, imagegen.BadPicture},
	imagegen.Stage:    {deadletter.Rejected, deadletter.Unavailable, imagegen.Black, imagegen.Flagged, imagegen.BadPicture, imagegen.RawPictureMissing},
	judge.Stage: {
		deadletter.Rejected, deadletter.Unavailable, string(judge.Refusal), string(judge.MissingFirst), string(judge.MissingSecond),
		string(judge.RubricEcho), string(judge.DuplicateConflict), string(judge.Truncated), string(judge.NoScore),
		string(judge.OutOfRange), string(judge.Range), string(judge.WrongDenominator), string(judge.TooPrecise),
	},
	prefer.StageScore: {prefer.TooFewSamples},
	prefer.Stage:      {prefer.NoCandidate},
}

// A dataSet is what the newest version of the preference set says, read from its files.
type dataSet struct {
	manifest   snapshot.Manifest
	pairs      map[string]schemas.PreferencePair // by prompt
	candidates []schemas.Candidate
	rewards    []schemas.Reward
	judgments  []schemas.Judgment
	rejected   []schemas.Rejected
}

func readSet(t *testing.T, dir string) dataSet {
	t.Helper()
	st := openStore(t, dir)
	m, _, err := snapshot.Latest(t.Context(), st, "preference")
	if err != nil {
		t.Fatal(err)
	}
	d := dataSet{manifest: m, pairs: map[string]schemas.PreferencePair{}}
	for _, p := range rowsOf[schemas.PreferencePair](t, dir, m, preference.Pairs) {
		if _, twice := d.pairs[p.PromptID]; twice {
			t.Errorf("two pairs of prompt %s", p.PromptID)
		}
		d.pairs[p.PromptID] = p
	}
	d.candidates = rowsOf[schemas.Candidate](t, dir, m, preference.Candidates)
	d.rewards = rowsOf[schemas.Reward](t, dir, m, preference.Rewards)
	d.judgments = rowsOf[schemas.Judgment](t, dir, m, preference.Judgments)
	d.rejected = rowsOf[schemas.Rejected](t, dir, m, snapshot.Rejected)
	return d
}

// rowsOf reads the rows of one configuration.
func rowsOf[T schemas.Row](t *testing.T, dir string, m snapshot.Manifest, config string) (rows []T) {
	t.Helper()
	err := parquetio.Rows(t.Context(), openStore(t, dir), schemas.ShardsOf(m.Shards, config), func(r T) error {
		rows = append(rows, r)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// dead counts the dead letters of a stage.
func (d dataSet) dead(stage string) (n int64) {
	for _, r := range d.rejected {
		if r.Stage == stage {
			n++
		}
	}
	return n
}

// wantBalance recomputes the accounts of a run over prompts prompts from its files and from the JSON
// line: everything that was asked for is there, filtered or dead, once.
func wantBalance(t *testing.T, d dataSet, s summary, prompts int64) {
	t.Helper()
	const candidates, samples = 8, 9
	dead, filtered := map[string]int64{}, map[string]int64{}
	for _, r := range d.rejected {
		dead[r.Stage+"/"+r.Reason]++
		if !slices.Contains(deadReasons[r.Stage], r.Reason) || r.Key == "" || r.Payload == "" || r.Attempts < 1 {
			t.Errorf("dead letter %+v", r)
		}
	}
	if !maps.Equal(dead, s.Dead) {
		t.Errorf("dead in the files %v, in the JSON line %v", dead, s.Dead)
	}
	for key, n := range s.Filtered {
		stage, _, _ := strings.Cut(key, "/")
		filtered[stage] += n
	}
	rows := map[string]int64{
		preference.Pairs: int64(len(d.pairs)), preference.Candidates: int64(len(d.candidates)),
		preference.Rewards: int64(len(d.rewards)), preference.Judgments: int64(len(d.judgments)),
	}
	if n := int64(len(d.rejected)); n > 0 {
		rows[snapshot.Rejected] = n
	}
	maps.DeleteFunc(rows, func(_ string, n int64) bool { return n == 0 })
	if !maps.Equal(rows, s.Rows) {
		t.Errorf("rows in the files %v, in the JSON line %v", rows, s.Rows)
	}
	drawn := int64(len(d.candidates)) - d.dead(imagegen.Stage)
	for _, eq := range []struct {
		what      string
		got, want int64
	}{
		{"candidates", int64(len(d.candidates)) + d.dead(rewrite.Stage) + filtered[rewrite.Stage], candidates * prompts},
		{"judgments", int64(len(d.judgments)) + d.dead(judge.Stage), samples * drawn},
		{"rewards", int64(len(d.rewards)) + d.dead(prefer.StageScore), drawn},
		{"pairs", int64(len(d.pairs)) + d.dead(prefer.Stage) + filtered[prefer.Stage], prompts},
	} {
		if eq.got != eq.want {
			t.Errorf("%s, filtered and dead are %d, want %d: %v", eq.what, eq.got, eq.want, s)
		}
	}
	wantOnce(t, "candidate", d.candidates, func(c schemas.Candidate) string { return c.ID })
	wantOnce(t, "reward", d.rewards, func(r schemas.Reward) string { return r.CandidateID })
	wantOnce(t, "judgment", d.judgments, func(j schemas.Judgment) string { return j.ID })
	wantOnce(t, "dead letter", d.rejected, func(r schemas.Rejected) string { return r.Stage + " " + r.Key })
}

func wantOnce[T any](t *testing.T, what string, rows []T, id func(T) string) {
	t.Helper()
	seen := map[string]bool{}
	for _, r := range rows {
		if seen[id(r)] {
			t.Errorf("%s %s is there twice", what, id(r))
		}
		seen[id(r)] = true
	}
}

// A quarter of all requests fail, or more, in every way that servers do: no row is lost or doubled, and
// what is dead says why. Once the server is well, replay brings all of it back and leaves the rest alone.
func TestFaultsAndReplay(t *testing.T) {
	for _, rate := range []float64{0.25, 0.75} {
		t.Run(fmt.Sprint(rate), func(t *testing.T) { testFaultsAndReplay(t, rate) })
	}
}

func testFaultsAndReplay(t *testing.T, rate float64) {
	const prompts = 24
	server := fakeserver.New(t, fakeserver.Config{
		FaultRate: rate, Seed: 3, RetryAfter: "1",
		Faults: []fakeserver.Fault{
			fakeserver.Status429, fakeserver.Status500, fakeserver.Status503, fakeserver.Reset, fakeserver.Cut,
			fakeserver.Garbage, fakeserver.Empty, fakeserver.Damaged, fakeserver.Black, fakeserver.Bomb,
		},
	})
	recipe := served(t, server.URL, prompts, "gates: {max_dead_fraction: 1}\n")
	out := t.TempDir()
	begin := time.Now()
	first := succeed(t, "preference", "--recipe", recipe, "--out", out, "--json", "--quiet",
		"--set", "models.policy.total_timeout=4s", "--set", "models.images.total_timeout=4s", "--set", "models.judge.total_timeout=4s",
		"--set", "imagegen.attempts=1")
	faults := server.Stats()
	t.Logf("%v: %d requests, faults %v, dead %v, filtered %v", time.Since(begin).Round(time.Millisecond), faults.Calls, faults.Faults, first.Dead, first.Filtered)
	before := readSet(t, out)
	wantBalance(t, before, first, prompts)
	if len(before.rejected) == 0 {
		t.Fatal("nothing is dead: the faults do not test anything")
	}

	server.Change(func(c *fakeserver.Config) { c.FaultRate = 0 })
	server.ResetStats()
	second := succeed(t, "replay", "--out", out, "--json", "--quiet")
	after := readSet(t, out)
	t.Logf("replay: %d requests, %d answers from the log; dead %v, filtered %v", server.Stats().Calls, second.CacheHits, second.Dead, second.Filtered)
	wantBalance(t, after, second, prompts)
	if len(after.rejected) > 0 {
		t.Errorf("dead after the replay: %v", second.Dead)
	}
	if after.manifest.RunID == before.manifest.RunID {
		t.Error("the replay is not a version of its own")
	}
	touched := map[string]bool{} // prompts with a dead letter
	for _, r := range before.rejected {
		var prompt schemas.Prompt
		if err := json.Unmarshal([]byte(r.Payload), &prompt); err != nil {
			t.Fatalf("payload of %s %s: %v", r.Stage, r.Key, err)
		}
		touched[prompt.ID] = true
	}
	for id, pair := range before.pairs {
		if diff := cmp.Diff(pair, after.pairs[id]); !touched[id] && diff != "" {
			t.Errorf("the pair of prompt %s, of which nothing was dead, has changed:\n%s", id, diff)
		}
	}
	if len(touched) == prompts {
		t.Error("every prompt has a dead letter: nothing is known of those without")
	}
	if again := start(t, "replay", "--out", out); again.code() != exitDone || !strings.Contains(again.stdout.String(), "has no dead letters") {
		t.Errorf("replay of a whole version: %v\n%s%s", again.err, again.stdout.String(), again.stderr.String())
	}
}

// A server that is down ends the job soon, with a reason, and publishes nothing; when it is back the
// same command does the work.
func TestServerIsDown(t *testing.T) {
	server := fakeserver.New(t, fakeserver.Config{})
	server.Close()
	recipe := served(t, server.URL, 3, "")
	out := t.TempDir()
	args := []string{
		"preference", "--recipe", recipe, "--out", out, "--json", "--quiet", "--logical-date", "2026-01-31",
		"--set", "models.policy.total_timeout=2s", "--set", "models.images.total_timeout=2s", "--set", "models.judge.total_timeout=2s",
	}
	begin := time.Now()
	p := start(t, args...)
	code := p.code()
	took := time.Since(begin)
	t.Logf("exit code %d after %v: %s", code, took.Round(time.Millisecond), p.stderr.String())
	if code != exitGate && code != exitFailed || !strings.Contains(p.stderr.String(), "unavailable") {
		t.Errorf("exit code %d", code)
	}
	if took > 20*time.Second {
		t.Errorf("it took %v to give up on a server that has 2 s to answer", took)
	}
	if p.stdout.Len() > 0 {
		t.Errorf("stdout: %s", p.stdout.String())
	}
	if v, err := snapshot.Versions(t.Context(), openStore(t, out), "preference"); err != nil || len(v) > 0 {
		t.Errorf("published %v, %v", v, err)
	}

	back, err := fakeserver.Listen(strings.TrimPrefix(server.URL, "http://"), fakeserver.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	s := start(t, args...).summary(t)
	wantBalance(t, readSet(t, out), s, 3)
	if len(s.Dead) > 0 {
		t.Errorf("dead: %v", s.Dead)
	}
}

// A wrong key ends the job at the first answer: it names the setting, kills no row, and is not shown.
func TestWrongKey(t *testing.T) {
	const secret = "sk-wrong-4711-do-not-show"
	server := fakeserver.New(t, fakeserver.Config{Key: "sk-right"})
	t.Setenv("PROMPTMILL_TEST_KEY", secret)
	out := t.TempDir()
	recipe := served(t, server.URL, 24, "")
	text, err := os.ReadFile(recipe)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.ReplaceAll(text, []byte("backend: openai,"), []byte("backend: openai, api_key: env:PROMPTMILL_TEST_KEY,"))
	if err := os.WriteFile(recipe, text, 0o644); err != nil {
		t.Fatal(err)
	}
	args := []string{"preference", "--recipe", recipe, "--out", out, "--json", "--verbose", "--logical-date", "2026-01-31"}
	p := start(t, args...)
	code := p.code()
	last := p.stderr.String()[strings.LastIndex(p.stderr.String(), "promptmill: "):]
	t.Logf("exit code %d after %d requests: %s", code, server.Stats().Calls, last)
	if code != exitFailed || !strings.Contains(last, "api_key") || !strings.Contains(last, "401") {
		t.Errorf("exit code %d: %s", code, last)
	}
	if n := server.Stats().Calls; n > 4*inFlight {
		t.Errorf("%d requests with a wrong key", n)
	}
	if v, err := snapshot.Versions(t.Context(), openStore(t, out), "preference"); err != nil || len(v) > 0 {
		t.Errorf("published %v, %v", v, err)
	}
	t.Setenv("PROMPTMILL_TEST_KEY", "sk-right")
	q := start(t, args...)
	s := q.summary(t)
	wantBalance(t, readSet(t, out), s, 24)
	if len(s.Dead) > 0 {
		t.Errorf("dead: %v", s.Dead)
	}
	for _, key := range []string{secret, "sk-right"} {
		for name, said := range map[string]string{
			"stdout": p.stdout.String() + q.stdout.String(), "stderr": p.stderr.String() + q.stderr.String(),
		} {
			if strings.Contains(said, key) {
				t.Errorf("%s shows %s", name, key)
			}
		}
		for _, name := range filesWith(t, out, key) {
			t.Errorf("%s holds %s", name, key)
		}
	}
	if len(filesWith(t, out, "PROMPTMILL_TEST_KEY")) == 0 {
		t.Error("no manifest names the variable: the search finds nothing")
	}
}

// filesWith are the files below dir that contain text.
func filesWith(t *testing.T, dir, text string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(name)
		if bytes.Contains(data, []byte(text)) {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(fmt.Errorf("search %s: %w", dir, err))
	}
	return names
}
