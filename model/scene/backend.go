package scene

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/promptmill/promptmill/model"
)

// The identities of what answers. Any change of tables, formulas or words that changes an answer
// changes them too, or logs of the old world would be taken for answers of the new one.
const (
	imagesWeights = "scene-images-v1"
	chatWeights   = "scene-chat-v2"
	oracleWeights = "scene-oracle-v1"
)

func init() {
	model.Register("scene", model.Backend{Chat: openChat, Images: openImages, Scorer: openScorer})
}

// check refuses what the backend does not know: it has one model of each kind, and these options.
func check(spec model.Spec, options ...string) error {
	if spec.Model != "" && spec.Model != "scene" {
		return fmt.Errorf("%w: scene has no model %q; leave the model out", model.ErrConfig, spec.Model)
	}
	for name := range spec.Options {
		if !slices.Contains(options, name) {
			return fmt.Errorf("%w: scene has no option %q here", model.ErrConfig, name)
		}
	}
	return nil
}

// A gate bounds the requests being computed: more than there are cores only take turns.
type gate chan struct{}

func newGate(spec model.Spec) gate {
	n := spec.Concurrency
	if n <= 0 {
		n = runtime.GOMAXPROCS(0)
	}
	return make(gate, n)
}

func (g gate) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case g <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g gate) leave() { <-g }

type images struct{ gate }

func openImages(_ context.Context, spec model.Spec) (model.Images, error) {
	if err := check(spec); err != nil {
		return nil, err
	}
	return images{newGate(spec)}, nil
}

func (images) Info() model.Info {
	return model.Info{Name: "scene renderer", Weights: imagesWeights, Deterministic: true}
}

// Draw renders the prompt at 32x32, enlarged to the largest multiples of it within the size asked.
// Steps, guidance, scheduler and negative prompt mean nothing to a renderer.
func (m images) Draw(ctx context.Context, req model.ImageRequest) (model.ImageResponse, error) {
	if min(req.Width, req.Height) < 0 || max(req.Width, req.Height) > largest {
		return model.ImageResponse{}, fmt.Errorf("%w: draw %dx%d pixels: a side is not in 0..%d", model.ErrRejected, req.Width, req.Height, largest)
	}
	if err := m.enter(ctx); err != nil {
		return model.ImageResponse{}, err
	}
	defer m.leave()
	data, err := Draw(req.Prompt, req.Seed).PNG(req.Width, req.Height)
	if err != nil {
		return model.ImageResponse{}, err
	}
	return model.ImageResponse{Data: data, Usage: model.Usage{Calls: 1}}, nil
}

// scorer is the oracle as a metric.
type scorer struct {
	gate
	aspect string
}

// total is the aspect option's name for the sum of the three aspects.
const total = "total"

func openScorer(_ context.Context, spec model.Spec) (model.Scorer, error) {
	if err := check(spec, "aspect"); err != nil {
		return nil, err
	}
	s := scorer{newGate(spec), total}
	if a, ok := spec.Options["aspect"]; ok {
		s.aspect = a
	}
	if s.aspect != total && !slices.Contains(aspects, s.aspect) {
		return nil, fmt.Errorf("%w: scene has no aspect %q; there are %s, %s", model.ErrConfig, s.aspect, total, strings.Join(aspects, ", "))
	}
	return s, nil
}

func (s scorer) Info() model.Info {
	return model.Info{Name: "scene oracle, " + s.aspect, Weights: oracleWeights + "-" + s.aspect, Deterministic: true}
}

// Score returns the oracle's score of each picture for its text: in [0, 5], the total in [0, 15].
func (s scorer) Score(ctx context.Context, reqs []model.ScoreRequest) ([]float64, error) {
	if err := ctx.Err(); err != nil { // no gate asks where all pictures were measured before
		return nil, err
	}
	out := make([]float64, len(reqs))
	for i, r := range reqs {
		m, err := measurePicture(ctx, s.gate, r.Picture)
		if err != nil {
			return nil, err
		}
		out[i] = m.Scores(r.Text).Of(s.aspect)
	}
	return out, nil
}
