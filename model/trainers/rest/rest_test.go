package rest_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/modeltest"
	_ "github.com/promptmill/promptmill/model/trainers/rest"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
)

func message(role, text string) []schemas.Message {
	return []schemas.Message{{Role: role, Content: text}}
}

func pairs(t *testing.T, chosen string) string {
	t.Helper()
	return modeltest.Shard(t, schemas.PreferencePair{
		ID: "1", Kind: schemas.KindRewrite, PromptID: "p", Prompt: message("user", "Rewrite: <cat> & \"mat\"\n"),
		Chosen: message("assistant", chosen), Rejected: message("assistant", "cat"),
	})
}

func job(id, start, data, output string) model.TrainJob {
	return model.TrainJob{
		ID: id, Method: model.MethodDPO, Data: []string{data}, Start: start, Weights: start + "@", Output: output,
		Params: model.TrainParams{Epochs: 4, BatchSize: 32, DPOBeta: 0.1, Seed: 7},
	}
}

var opened int

func open(t *testing.T, s *server, options map[string]string) model.Trainer {
	t.Helper()
	t.Setenv("REST_TEST_KEY", key)
	opened++ // another Spec, so that nothing is shared in the process
	m, err := model.OpenTrainer(t.Context(), model.Spec{
		Backend: "rest", Endpoint: s.URL, APIKey: "env:REST_TEST_KEY", Options: options,
		TotalTimeout: 2*time.Second + time.Duration(opened), AttemptTimeout: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestTrainer(t *testing.T) {
	modeltest.RunTrainer(t, func(t *testing.T) modeltest.TrainerBench {
		s, root := newServer(t), t.TempDir()
		good, bad := pairs(t, "a fluffy cat"), pairs(t, "")
		return modeltest.TrainerBench{
			Open: func(t *testing.T) model.Trainer { return open(t, s, nil) },
			Job: func(_ *testing.T, id string, c modeltest.TrainCase) model.TrainJob {
				if c == modeltest.TrainBadData {
					return job(id, string(c), bad, root)
				}
				return job(id, string(c), good, root)
			},
			Begun: func(t *testing.T, id string) (n int) {
				stored, err := os.ReadFile(filepath.Join(root, "rest", id, "file.json"))
				if err != nil {
					t.Fatal(err)
				}
				s.inJobs(func(jobs []*ftJob) {
					for _, j := range jobs {
						if strings.Contains(string(stored), `"`+j.TrainingFile+`"`) {
							n++
						}
					}
				})
				return n
			},
			// An endpoint sees to its own crashes and divergence.
			Lacks: []modeltest.TrainCase{modeltest.TrainDiverges},
		}
	})
}

func TestWhatIsSent(t *testing.T) {
	s := newServer(t)
	m := open(t, s, map[string]string{"learning_rate_multiplier": "0.5", "suffix": "mill"})
	if _, err := m.Start(t.Context(), job("sent", "good", pairs(t, "a fluffy cat"), t.TempDir())); err != nil {
		t.Fatal(err)
	}
	s.inJobs(func(jobs []*ftJob) {
		want := `{"input":{"messages":[{"role":"user","content":"Rewrite: <cat> & \"mat\"\n"}]},"preferred_output":[{"role":"assistant","content":"a fluffy cat"}],"non_preferred_output":[{"role":"assistant","content":"cat"}]}` + "\n"
		if got := string(s.files[jobs[0].TrainingFile]); got != want {
			t.Errorf("file:\n%s\nwant\n%s", got, want)
		}
		h := jobs[0].Method["dpo"].(map[string]any)["hyperparameters"].(map[string]any)
		for name, want := range map[string]float64{"beta": 0.1, "batch_size": 32, "n_epochs": 4, "learning_rate_multiplier": 0.5} {
			if h[name] != want {
				t.Errorf("%s is %v; want %v", name, h[name], want)
			}
		}
		if jobs[0].Seed != 7 || jobs[0].Model != "good" {
			t.Errorf("job %+v", jobs[0])
		}
	})
}

func TestSupervised(t *testing.T) {
	s := newServer(t)
	m := open(t, s, nil)
	j := job("chat", "good", modeltest.Shard(t, schemas.ChatExample{ID: "1", Task: schemas.TaskRewrite, Messages: append(message("user", "a cat"), message("assistant", "a fluffy cat")...)}), t.TempDir())
	j.Method = model.MethodSFT
	handle, err := m.Start(t.Context(), j)
	if err != nil {
		t.Fatal(err)
	}
	if st := modeltest.TrainEnd(t, m, handle, time.Minute); st.State != model.TrainSucceeded || st.Weights != "ft:good:org::001@" || st.Metrics["loss"] != 0.25 || st.Metrics["accuracy"] != 0.5 {
		t.Errorf("ended as %+v", st)
	}
}

// Whatever is lost on the way, one job is trained and the file is uploaded.
func TestFaults(t *testing.T) {
	post := func(r *http.Request, path string) bool { return r.Method == "POST" && r.URL.Path == path }
	for name, faults := range map[string]func(call int, r *http.Request) fault{
		"busy":            func(call int, _ *http.Request) fault { return []fault{busy, none}[call%2] },
		"broken":          func(call int, _ *http.Request) fault { return []fault{none, broken}[call%2] },
		"not JSON":        func(call int, _ *http.Request) fault { return []fault{none, html, none}[call%3] },
		"lost upload":     once(func(r *http.Request) bool { return post(r, "/v1/files") }),
		"lost creation":   once(func(r *http.Request) bool { return post(r, "/v1/fine_tuning/jobs") }),
		"lost list":       once(func(r *http.Request) bool { return r.Method == "GET" && r.URL.Path == "/v1/fine_tuning/jobs" }),
		"no list, no log": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("REST_TEST_KEY", key)
			s := newServer(t)
			if s.noList = faults == nil; !s.noList {
				s.faults = faults
			}
			m := open(t, s, nil)
			handle, err := m.Start(t.Context(), job("faulty", "slow", pairs(t, "a fluffy cat"), t.TempDir()))
			if err != nil {
				t.Fatal(err)
			}
			st := modeltest.TrainEnd(t, m, handle, time.Minute)
			if st.State != model.TrainSucceeded {
				t.Fatalf("ended as %+v", st)
			}
			s.inJobs(func(jobs []*ftJob) {
				for _, j := range jobs {
					if j.ID != handle && j.Status != "cancelled" {
						t.Errorf("beside %s there is %s, %s", handle, j.ID, j.Status)
					}
				}
			})
		})
	}
}

// once loses the answer of the first request that is meant.
func once(meant func(*http.Request) bool) func(int, *http.Request) fault {
	done := false
	return func(_ int, r *http.Request) fault {
		if !done && meant(r) {
			done = true
			return lost
		}
		return none
	}
}

// A starter that dies after the job was made, before its id is stored, is followed by one that finds it.
func TestStarterDies(t *testing.T) {
	s, out := newServer(t), t.TempDir()
	for i := range 5 { // jobs of others, so that ours is not on the first page
		if _, err := open(t, s, nil).Start(t.Context(), job("other-"+strconv.Itoa(i), "slow", pairs(t, "a dog"), out)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, die := context.WithCancel(t.Context())
	s.faults = func(_ int, r *http.Request) fault {
		if r.Method == "POST" && r.URL.Path == "/v1/fine_tuning/jobs" {
			die()
			return lost
		}
		return none
	}
	j := job("orphan", "slow", pairs(t, "a fluffy cat"), out)
	if _, err := open(t, s, nil).Start(ctx, j); !errors.Is(err, context.Canceled) {
		t.Fatalf("Start: %v; want context.Canceled", err)
	}
	s.faults = func(int, *http.Request) fault { return none }
	handle, err := open(t, s, nil).Start(t.Context(), j)
	if err != nil {
		t.Fatal(err)
	}
	s.inJobs(func(jobs []*ftJob) {
		if len(jobs) != 6 || jobs[5].ID != handle {
			t.Errorf("handle %s of %d jobs; want the sixth, made before", handle, len(jobs))
		}
	})
}

// A starter that was killed leaves its lease, which runs out.
func TestLeaseRunsOut(t *testing.T) {
	s, out := newServer(t), t.TempDir()
	until := time.Now().Add(300 * time.Millisecond)
	lease := filepath.Join(out, "rest/left/lease.json")
	if err := errors.Join(os.MkdirAll(filepath.Dir(lease), 0o777), os.WriteFile(lease, []byte(`{"owner":"x","until":"`+until.Format(time.RFC3339Nano)+`"}`), 0o666)); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, s, nil).Start(t.Context(), job("left", "good", pairs(t, "a fluffy cat"), out)); err != nil || time.Now().Before(until) {
		t.Errorf("%v, %v before the lease of another ran out", err, time.Until(until))
	}
}

func TestErrors(t *testing.T) {
	s := newServer(t)
	m, good := open(t, s, nil), pairs(t, "a fluffy cat")
	chat := modeltest.Shard(t, schemas.ChatExample{ID: "1", Task: schemas.TaskRewrite, Messages: message("user", "a cat")})
	vision := modeltest.Shard(t, schemas.VisionPreferencePair{ID: "v", Images: []schemas.Image{{Bytes: []byte("png")}}})
	for name, c := range map[string]struct {
		change func(*model.TrainJob)
		want   string
		kind   error
	}{
		"model":  {func(j *model.TrainJob) { j.Start = "no-such-model" }, "not available for fine-tuning", model.ErrRejected},
		"nll":    {func(j *model.TrainJob) { j.Params.NLLAlpha = 1 }, "train with TRL", model.ErrConfig},
		"start":  {func(j *model.TrainJob) { j.Start = "" }, "names no model", model.ErrConfig},
		"shape":  {func(j *model.TrainJob) { j.Data = []string{chat} }, "trains on preference pairs", model.ErrConfig},
		"vision": {func(j *model.TrainJob) { j.Data = []string{vision} }, "text only", model.ErrRejected},
		"data":   {func(j *model.TrainJob) { j.Data = []string{"/no/such/file.parquet"} }, "file.parquet", store.ErrNotExist},
	} {
		t.Run(name, func(t *testing.T) {
			j := job("bad", "good", good, t.TempDir())
			c.change(&j)
			_, err := m.Start(t.Context(), j)
			if err == nil || !strings.Contains(err.Error(), c.want) || !errors.Is(err, c.kind) {
				t.Errorf("%v; want %v that says %q", err, c.kind, c.want)
			}
		})
	}
	handle, err := m.Start(t.Context(), job("failed", "good", pairs(t, ""), t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	if st := modeltest.TrainEnd(t, m, handle, time.Minute); st.State != model.TrainFailed || !strings.Contains(st.Message, "invalid_training_file (training_file): line 1") {
		t.Errorf("ended as %+v", st)
	}
	s.faults = func(int, *http.Request) fault { return expired }
	if _, err := m.Status(t.Context(), handle); !errors.Is(err, model.ErrConfig) || strings.Contains(err.Error(), key) {
		t.Errorf("with a refused key: %v", err)
	}
	if _, err := m.Status(t.Context(), "../files"); !errors.Is(err, model.ErrConfig) {
		t.Errorf("with a path for a handle: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, options := range []map[string]string{{"prefix": "v1"}, {"learning_rate_multiplier": "fast"}, {"beta": "1"}} {
		_, err := model.OpenTrainer(t.Context(), model.Spec{Backend: "rest", Endpoint: "http://127.0.0.1:1", Options: options})
		if !errors.Is(err, model.ErrConfig) {
			t.Errorf("options %v: %v; want ErrConfig", options, err)
		}
	}
}
