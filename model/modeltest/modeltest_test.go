package modeltest_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/modeltest"
)

// redness scores a picture by its size and first pixels: the least that a scorer can be.
type redness struct{}

func (redness) Info() model.Info {
	return model.Info{Name: "redness", Weights: "redness@1", Deterministic: true}
}

func (redness) Score(ctx context.Context, reqs []model.ScoreRequest) ([]float64, error) {
	out := make([]float64, len(reqs))
	for i, r := range reqs {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		data, err := r.Picture.Bytes(ctx)
		if err != nil {
			return nil, fmt.Errorf("picture %d: %w", i, err)
		}
		if _, err := model.Inspect(data, model.PictureLimits{}); err != nil {
			return nil, fmt.Errorf("picture %d: %w: %w", i, model.ErrRejected, err)
		}
		for _, b := range data {
			out[i] += float64(b)
		}
	}
	return out, nil
}

func TestScorer(t *testing.T) {
	modeltest.RunScorer(t, func(*testing.T) model.Scorer { return redness{} }, modeltest.ScorerCaps{PictureSize: 8, Distinct: true})
}
