package rest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A server is a fine-tuning endpoint in the wire format of OpenAI's API reference. The base model's name
// says how a job goes; training is a clock.
type server struct {
	*httptest.Server
	t *testing.T

	mu    sync.Mutex
	files map[string][]byte
	jobs  []*ftJob
	calls int
	// faults decides about each call, by its number from 1.
	faults func(call int, r *http.Request) fault
	// noList: GET /fine_tuning/jobs and events are not there.
	noList bool
}

type fault string

const (
	none    fault = ""
	busy    fault = "429"
	broken  fault = "500"
	lost    fault = "lost" // the work is done, the answer is not sent
	html    fault = "html"
	expired fault = "401"
)

const key = "sk-test-0123456789"

type ftJob struct {
	ID           string         `json:"id"`
	Object       string         `json:"object"`
	CreatedAt    int64          `json:"created_at"`
	FinishedAt   *int64         `json:"finished_at"`
	Model        string         `json:"model"`
	FineTuned    *string        `json:"fine_tuned_model"`
	Status       string         `json:"status"`
	TrainingFile string         `json:"training_file"`
	Seed         int64          `json:"seed"`
	Method       map[string]any `json:"method"`
	Error        map[string]any `json:"error"`

	begun time.Time
	rows  int
}

func newServer(t *testing.T) *server {
	s := &server{t: t, files: map[string][]byte{}, faults: func(int, *http.Request) fault { return none }}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/files", s.upload)
	mux.HandleFunc("POST /v1/fine_tuning/jobs", s.create)
	mux.HandleFunc("GET /v1/fine_tuning/jobs", s.list)
	mux.HandleFunc("GET /v1/fine_tuning/jobs/{id}", s.get)
	mux.HandleFunc("GET /v1/fine_tuning/jobs/{id}/events", s.events)
	mux.HandleFunc("POST /v1/fine_tuning/jobs/{id}/cancel", s.cancel)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.calls++
		f := s.faults(s.calls, r)
		switch {
		case r.Header.Get("Authorization") != "Bearer "+key || f == expired:
			refuse(w, 401, "invalid_api_key", "Incorrect API key provided")
		case f == busy:
			w.Header().Set("Retry-After", "0")
			refuse(w, 429, "rate_limit_exceeded", "Rate limit reached")
		case f == broken:
			refuse(w, 500, "server_error", "The server had an error")
		case f == html:
			_, _ = io.WriteString(w, "<html>please log in</html>")
		case f == lost:
			mux.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		default:
			mux.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{"message": message, "type": "invalid_request_error", "code": code, "param": nil}})
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func (s *server) upload(w http.ResponseWriter, r *http.Request) {
	f, header, err := r.FormFile("file")
	if err != nil || r.FormValue("purpose") != "fine-tune" || !strings.HasSuffix(header.Filename, ".jsonl") {
		refuse(w, 400, "invalid_form", fmt.Sprint("no file for fine-tuning: ", err))
		return
	}
	data, err := io.ReadAll(f)
	if err != nil {
		refuse(w, 400, "invalid_form", err.Error())
		return
	}
	id := fmt.Sprintf("file-%03d", len(s.files)+1)
	s.files[id] = data
	answer(w, map[string]any{"id": id, "object": "file", "bytes": len(data), "filename": header.Filename, "purpose": "fine-tune", "status": "processed"})
}

func (s *server) create(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Model        string         `json:"model"`
		TrainingFile string         `json:"training_file"`
		Method       map[string]any `json:"method"`
		Suffix       string         `json:"suffix"`
		Seed         int64          `json:"seed"`
	}
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(&q); err != nil {
		refuse(w, 400, "invalid_json", err.Error())
		return
	}
	data, known := s.files[q.TrainingFile]
	if !known {
		refuse(w, 400, "invalid_file", "no file "+q.TrainingFile)
		return
	}
	if q.Model == "no-such-model" {
		refuse(w, 400, "model_not_available", "Model no-such-model is not available for fine-tuning")
		return
	}
	j := &ftJob{
		ID: fmt.Sprintf("ftjob-%03d", len(s.jobs)+1), Object: "fine_tuning.job", CreatedAt: time.Now().Unix(), Model: q.Model,
		TrainingFile: q.TrainingFile, Method: q.Method, Seed: q.Seed, Status: "validating_files", begun: time.Now(),
	}
	kind, _ := q.Method["type"].(string)
	if err := j.validate(kind, data); err != nil {
		j.Status, j.Error = "failed", map[string]any{"code": "invalid_training_file", "message": err.Error(), "param": "training_file"}
	}
	s.jobs = append(s.jobs, j)
	answer(w, j)
}

type wireMessage struct {
	Role    string          `json:"role"`
	Content json.RawMessage `json:"content"`
}

// validate looks at each row as the endpoint does.
func (j *ftJob) validate(kind string, data []byte) error {
	for line := range bytes.Lines(data) {
		j.rows++
		var row struct {
			Messages []wireMessage `json:"messages"`
			Input    struct {
				Messages []wireMessage `json:"messages"`
			} `json:"input"`
			Preferred    []wireMessage `json:"preferred_output"`
			NonPreferred []wireMessage `json:"non_preferred_output"`
		}
		d := json.NewDecoder(bytes.NewReader(line))
		d.DisallowUnknownFields()
		if err := d.Decode(&row); err != nil {
			return fmt.Errorf("line %d: %w", j.rows, err)
		}
		outputs := append(slices.Clone(row.Preferred), row.NonPreferred...)
		switch {
		case kind == "dpo" && (len(row.Messages) > 0 || len(row.Input.Messages) == 0 || len(row.Preferred) != 1 || len(row.NonPreferred) != 1):
			return fmt.Errorf("line %d: not a preference example", j.rows)
		case kind == "supervised" && (len(row.Messages) < 2 || len(outputs) > 0):
			return fmt.Errorf("line %d: not a chat example", j.rows)
		}
		for _, m := range outputs {
			if m.Role != "assistant" || string(m.Content) == `""` {
				return fmt.Errorf("line %d: an output is no assistant's message", j.rows)
			}
		}
	}
	return nil
}

// steps is how long the job's training is, pace the time of a step.
func (j *ftJob) steps() (n int, pace time.Duration) {
	if strings.HasPrefix(j.Model, "slow") {
		return 12, 40 * time.Millisecond
	}
	return 4, 5 * time.Millisecond
}

// tick moves the clock.
func (j *ftJob) tick() (step, steps int) {
	steps, pace := j.steps()
	step = min(int(time.Since(j.begun)/pace), steps)
	if j.Status == "failed" || j.Status == "cancelled" {
		return 0, steps
	}
	j.Status = "running"
	if step == steps {
		now := time.Now().Unix()
		j.Status, j.FinishedAt = "succeeded", &now
		if j.Model != "nothing" {
			name := fmt.Sprintf("ft:%s:org::%s", j.Model, strings.TrimPrefix(j.ID, "ftjob-"))
			j.FineTuned = &name
		}
	}
	return step, steps
}

func (s *server) find(w http.ResponseWriter, r *http.Request) *ftJob {
	i := slices.IndexFunc(s.jobs, func(j *ftJob) bool { return j.ID == r.PathValue("id") })
	if i < 0 {
		refuse(w, 404, "fine_tune_not_found", "Could not find fine tune: "+r.PathValue("id"))
		return nil
	}
	return s.jobs[i]
}

func (s *server) get(w http.ResponseWriter, r *http.Request) {
	if j := s.find(w, r); j != nil {
		j.tick()
		answer(w, j)
	}
}

func (s *server) events(w http.ResponseWriter, r *http.Request) {
	if s.noList {
		http.NotFound(w, r)
		return
	}
	j := s.find(w, r)
	if j == nil {
		return
	}
	step, steps := j.tick()
	list := []map[string]any{}
	for i := step; i > 0; i-- { // newest first
		list = append(list, map[string]any{
			"object": "fine_tuning.job.event", "created_at": j.CreatedAt, "level": "info", "type": "metrics",
			"message": fmt.Sprintf("Step %d/%d: training loss=%.2f", i, steps, 1/float64(i)),
			"data":    map[string]any{"step": i, "train_loss": 1 / float64(i), "train_accuracy": 0.5, "total_steps": steps},
		})
	}
	list = append(list, map[string]any{"message": "Created fine-tuning job: " + j.ID, "type": "message", "data": nil})
	answer(w, map[string]any{"object": "list", "data": list, "has_more": false})
}

// list is newest first, two a page whatever the limit, as an endpoint may have it.
func (s *server) list(w http.ResponseWriter, r *http.Request) {
	if s.noList {
		http.NotFound(w, r)
		return
	}
	newest := slices.Clone(s.jobs)
	slices.Reverse(newest)
	if after := r.URL.Query().Get("after"); after != "" {
		i := slices.IndexFunc(newest, func(j *ftJob) bool { return j.ID == after })
		newest = newest[i+1:]
	}
	page := newest[:min(len(newest), 2)]
	answer(w, map[string]any{"object": "list", "data": append([]*ftJob{}, page...), "has_more": len(page) < len(newest)})
}

func (s *server) cancel(w http.ResponseWriter, r *http.Request) {
	j := s.find(w, r)
	if j == nil {
		return
	}
	if j.tick(); j.Status != "running" {
		refuse(w, 400, "cannot_cancel", "Job has already "+j.Status)
		return
	}
	j.Status = "cancelled"
	answer(w, j)
}

// inJobs runs fn on the jobs.
func (s *server) inJobs(fn func([]*ftJob)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn(s.jobs)
}
