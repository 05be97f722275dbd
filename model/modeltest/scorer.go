package modeltest

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"testing"

	"github.com/promptmill/promptmill/model"
)

// ScorerCaps says what a scorer takes.
type ScorerCaps struct {
	// PictureSize is the width and height of pictures that it takes.
	PictureSize int
	// Distinct: other pictures get other scores.
	Distinct bool
	// Tolerance is how much a score may differ between batches if the scorer is not deterministic.
	Tolerance float64
}

// RunScorer tests a scorer as subtests of t. open is called once per subtest.
func RunScorer(t *testing.T, open func(t *testing.T) model.Scorer, caps ScorerCaps) {
	requests := make([]model.ScoreRequest, 7)
	for i := range requests {
		requests[i] = model.ScoreRequest{Text: "a red square on a blue table", Picture: Picture(t, caps.PictureSize, caps.PictureSize, uint8(i*40))}
	}
	score := func(t *testing.T, m model.Scorer, reqs []model.ScoreRequest) []float64 {
		t.Helper()
		got, err := m.Score(t.Context(), reqs)
		if err != nil || len(got) != len(reqs) {
			t.Fatalf("Score gave %d values, %v; want %d", len(got), err, len(reqs))
		}
		for i, v := range got {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				t.Errorf("score %d is %v", i, v)
			}
		}
		return got
	}
	same := func(m model.Scorer, a, b float64) bool {
		return a == b || !m.Info().Deterministic && math.Abs(a-b) <= caps.Tolerance
	}

	t.Run("Info", func(t *testing.T) { checkInfo(t, open(t).Info) })
	t.Run("Order", func(t *testing.T) {
		m := open(t)
		all := score(t, m, requests)
		if caps.Distinct && len(slices.Compact(slices.Sorted(slices.Values(all)))) == 1 {
			t.Errorf("all pictures get %v", all[0])
		}
		back := slices.Clone(requests)
		slices.Reverse(back)
		reversed := score(t, m, back)
		for i, want := range all {
			if got := reversed[len(all)-1-i]; !same(m, got, want) {
				t.Errorf("picture %d: %v, in the reversed batch %v", i, want, got)
			}
			if got := score(t, m, requests[i:i+1])[0]; !same(m, got, want) {
				t.Errorf("picture %d: %v in a batch, %v alone", i, want, got)
			}
		}
	})
	t.Run("Empty", func(t *testing.T) { score(t, open(t), nil) })
	t.Run("Concurrent", func(t *testing.T) {
		m := open(t)
		want := score(t, m, requests)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				got, err := m.Score(t.Context(), requests)
				if err != nil || !slices.EqualFunc(got, want, func(a, b float64) bool { return same(m, a, b) }) {
					t.Errorf("at once: %v, %v; want %v", got, err, want)
				}
			})
		}
		wg.Wait()
	})
	t.Run("Cancel", func(t *testing.T) {
		m := open(t)
		checkCancel(t, func(ctx context.Context) error {
			_, err := m.Score(ctx, requests)
			return err
		})
	})
	t.Run("HardTexts", func(t *testing.T) {
		m := open(t)
		for name, text := range hardTexts {
			got, err := m.Score(t.Context(), []model.ScoreRequest{{Text: text, Picture: requests[0].Picture}})
			if !typed(err) || err == nil && len(got) != 1 {
				t.Errorf("%s: %v, %v; want a score or ErrRejected", name, got, err)
			}
		}
	})
	t.Run("BadPictures", func(t *testing.T) {
		m := open(t)
		if _, err := m.Score(t.Context(), []model.ScoreRequest{requests[0], {Text: "x", Picture: unreadable()}}); !errors.Is(err, errPicture) {
			t.Errorf("with a picture that cannot be read: %v; want its error", err)
		}
		for name, data := range BadPictures(t) {
			_, err := m.Score(t.Context(), []model.ScoreRequest{{Text: "x", Picture: PictureOf(data)}})
			if !errors.Is(err, model.ErrRejected) || !errors.Is(err, model.ErrBadPicture) {
				t.Errorf("%s: %v; want ErrRejected and ErrBadPicture", name, err)
			}
		}
	})
}
