package runners

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/promptmill/promptmill/runners/engine"
	"github.com/promptmill/promptmill/runners/flink"
	"github.com/promptmill/promptmill/runners/portable"
)

// A Status is a job as its engine shows it.
type Status struct {
	Name  string `json:"name"`
	State string `json:"state"`
	// Where is the job server or Flink, ID the id there.
	Where string `json:"where"`
	ID    string `json:"id"`
}

// List are the jobs of an engine, at the job server and, if rest_url is set, on Flink, by name. One of
// the two that does not answer is an error beside what the other says.
func List(ctx context.Context, c engine.Config) ([]Status, error) {
	var all []Status
	var errs []error
	if c.Endpoint != "" {
		jobs, err := listServer(ctx, c.Endpoint)
		all, errs = append(all, jobs...), append(errs, err)
	}
	if c.RestURL != "" {
		jobs, err := flink.Open(c.RestURL).Jobs(ctx)
		errs = append(errs, err)
		for _, j := range jobs {
			all = append(all, Status{Name: j.Name, State: j.State, Where: "flink", ID: j.ID})
		}
	}
	if c.Endpoint == "" && c.RestURL == "" {
		errs = append(errs, errors.New("engine.endpoint: empty, and so is engine.rest_url: say where the jobs are"))
	}
	slices.SortStableFunc(all, func(a, b Status) int { return cmp.Compare(a.Name, b.Name) })
	return all, errors.Join(errs...)
}

func listServer(ctx context.Context, endpoint string) (all []Status, err error) {
	client, err := portable.Dial(ctx, endpoint)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	jobs, err := client.Jobs(ctx)
	for _, j := range jobs {
		all = append(all, Status{Name: j.Name, State: string(j.State), Where: "job server", ID: j.ID})
	}
	return all, err
}

// ErrNoJob says that no job of a name is under way.
var ErrNoJob = errors.New("no such job is under way")

// Cancel ends the jobs of a name, at the job server and on Flink, and returns once they have ended.
func Cancel(ctx context.Context, j Job) error {
	client, err := portable.Dial(ctx, j.Engine.Endpoint)
	if err != nil && j.Runner == engine.Flink {
		return errors.Join(err, flink.Open(j.Engine.RestURL).CancelAll(ctx, j.Name)) // what can be done without it
	}
	if err != nil {
		return err
	}
	defer client.Close()
	t := j.tracked(client, "")
	found, err := t.find(ctx)
	if err != nil {
		return err
	}
	if !found {
		return fmt.Errorf("%s: %w; promptmill jobs lists them", j.Name, ErrNoJob)
	}
	return t.cancel(ctx)
}
