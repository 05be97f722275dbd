package schemas_test

import (
	"math"
	"strings"
	"testing"

	"github.com/promptmill/promptmill/schemas"
)

var (
	checkpoint  = schemas.Checkpoint{Weights: "w1", Start: "w0", Method: "dpo", Data: "d", Rows: 2, Steps: 3, Epochs: 4, BatchSize: 32, LearningRate: 1e-5, Beta1: .9, Beta2: .999, DPOBeta: .1}
	training    = schemas.Training{Weights: "w1", Job: "j", Location: "/m", Metrics: []schemas.Metric{{Name: "loss", Value: .5}, {Name: "zero"}}}
	measurement = schemas.Measurement{ID: "m", PromptID: "p", System: "sft", Decoding: "beam", Text: "a cat, oil", Scores: []schemas.Metric{{Name: "oracle_total", Value: 9}}}
)

func TestCheckpointTables(t *testing.T) {
	testTable(t, "checkpoint", checkpoint)
	testTable(t, "training", training)
	testTable(t, "measurement", measurement)
}

func TestValidateCheckpoints(t *testing.T) {
	for _, row := range []schemas.Row{checkpoint, training, measurement} {
		if err := row.Validate(); err != nil {
			t.Errorf("%T: %v", row, err)
		}
	}
	for _, tt := range []struct {
		row  schemas.Row
		want string
	}{
		{with(checkpoint, func(r *schemas.Checkpoint) { r.Weights = "w0" }), "checkpoint w0: field weights: those of the start"},
		{with(checkpoint, func(r *schemas.Checkpoint) { r.Rows = 0 }), "field rows: 0 is less than 1"},
		{with(checkpoint, func(r *schemas.Checkpoint) { r.NLLAlpha = math.Inf(1) }), "field nll_alpha: +Inf is not a number"},
		{with(training, func(r *schemas.Training) { r.Location = "" }), "training w1: field location: empty"},
		{with(training, func(r *schemas.Training) { r.Metrics = []schemas.Metric{{Name: "loss", Value: math.NaN()}} }), "field metrics.loss: NaN is not a number"},
		{with(measurement, func(r *schemas.Measurement) { r.System = "" }), "measurement m: field system: empty"},
	} {
		if err := tt.row.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%T: %v; want %q", tt.row, err, tt.want)
		}
	}
}
