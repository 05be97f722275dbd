package pupil_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/modeltest"
	_ "github.com/promptmill/promptmill/model/modeltest/pupil"
)

func TestTrainer(t *testing.T) {
	modeltest.RunTrainer(t, func(t *testing.T) modeltest.TrainerBench {
		dir := t.TempDir()
		return modeltest.TrainerBench{
			Open: func(t *testing.T) model.Trainer {
				m, err := model.OpenTrainer(t.Context(), model.Spec{Backend: "pupil", Options: map[string]string{"pause": "5ms"}})
				if err != nil {
					t.Fatal(err)
				}
				return m
			},
			Job: func(_ *testing.T, id string, _ modeltest.TrainCase) model.TrainJob {
				return model.TrainJob{ID: id, Method: model.MethodDPO, Data: []string{"x"}, Digest: "d", Start: "start", Weights: "w", Output: filepath.Join(dir, id)}
			},
			// The trainer of a bench is opened before its case is known.
			Lacks: []modeltest.TrainCase{modeltest.TrainBadData, modeltest.TrainDiverges, modeltest.TrainNothing},
			Begun: func(t *testing.T, id string) int {
				data, err := os.ReadFile(filepath.Join(dir, id, "steps"))
				if err != nil {
					t.Fatal(err)
				}
				return strings.Count("\n"+string(data), "\n1\n")
			},
			Deterministic: true,
		}
	})
}
