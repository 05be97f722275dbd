package modeltest

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/promptmill/promptmill/model"
)

// ImageCaps says what an image model can draw.
type ImageCaps struct {
	// Width and Height are a size that it draws, in Steps steps with Scheduler.
	Width, Height int
	Steps         int
	Scheduler     string
	// Seeds: equal requests get equal bytes, other seeds other pictures.
	Seeds bool
}

// RunImages tests an image model as subtests of t. open is called once per subtest.
func RunImages(t *testing.T, open func(t *testing.T) model.Images, caps ImageCaps) {
	request := func(prompt string, seed int64) model.ImageRequest {
		return model.ImageRequest{
			Prompt: prompt, NegativePrompt: "blurry", Width: caps.Width, Height: caps.Height,
			Steps: caps.Steps, Guidance: 2, Scheduler: caps.Scheduler, Seed: seed,
		}
	}
	draw := func(t *testing.T, m model.Images, req model.ImageRequest) []byte {
		t.Helper()
		resp, err := m.Draw(t.Context(), req)
		if err != nil {
			t.Errorf("Draw: %v", err)
			return nil
		}
		info, err := model.Inspect(resp.Data, model.PictureLimits{})
		if err != nil || info.Width != req.Width || info.Height != req.Height {
			t.Errorf("Draw gave %+v, %v; want a PNG or JPEG of %d x %d", info, err, req.Width, req.Height)
		}
		if resp.Usage.Calls < 1 || resp.Usage.CacheHits != 0 {
			t.Errorf("usage %+v; want at least one call and no cache hits", resp.Usage)
		}
		return resp.Data
	}

	t.Run("Info", func(t *testing.T) { checkInfo(t, open(t).Info) })
	t.Run("Seeds", func(t *testing.T) {
		m := open(t)
		first, again, other := draw(t, m, request("a cat", 1)), draw(t, m, request("a cat", 1)), draw(t, m, request("a cat", 2))
		if caps.Seeds && !bytes.Equal(first, again) {
			t.Error("equal requests give different pictures")
		}
		if caps.Seeds && bytes.Equal(first, other) {
			t.Error("another seed gives the same picture")
		}
	})
	t.Run("Concurrent", func(t *testing.T) {
		m := open(t)
		const n = 8
		together := make([][]byte, n)
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() { together[i] = draw(t, m, request(fmt.Sprintf("castle %d", i), int64(i))) })
		}
		wg.Wait()
		if !m.Info().Deterministic {
			return
		}
		for i, want := range together {
			if got := draw(t, m, request(fmt.Sprintf("castle %d", i), int64(i))); !bytes.Equal(got, want) {
				t.Errorf("request %d gives one picture among others and another alone", i)
			}
		}
	})
	t.Run("Cancel", func(t *testing.T) {
		m := open(t)
		checkCancel(t, func(ctx context.Context) error {
			_, err := m.Draw(ctx, request("a slow cat", 1))
			return err
		})
		draw(t, m, request("a cat", 1))
	})
	t.Run("HardTexts", func(t *testing.T) {
		m := open(t)
		for name, text := range hardTexts {
			resp, err := m.Draw(t.Context(), request(text, 1))
			if !typed(err) || err == nil && len(resp.Data) == 0 {
				t.Errorf("%s: %d bytes, %v; want a picture or ErrRejected", name, len(resp.Data), err)
			}
		}
	})
}
