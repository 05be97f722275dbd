package diffusion

import (
	"context"
	"errors"
	"fmt"
	"image"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/promptmill/promptmill/model/onnx"
	"github.com/promptmill/promptmill/model/onnx/onnxfile"
	"github.com/promptmill/promptmill/model/scorers/clip"
)

// A safetyChecker is Stable Diffusion 1's: it looks at a picture as CLIP does and says whether it must not be shown.
type safetyChecker struct {
	session *onnx.Session
	inputs  []bool // whether an input is the picture as CLIP sees it, not the picture itself
}

// verdict is the checker's output that is used. The other one, the pictures with those found replaced, is black there.
const verdict = "has_nsfw_concepts"

// openSafety loads a folder's safety_checker; without one there is none. What the folder has of it must work: a picture
// that should have been looked at is not to pass because a file is missing.
func openSafety(folder string, o onnx.Options) (*safetyChecker, error) {
	dir := filepath.Join(folder, "safety_checker")
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	path := filepath.Join(dir, "model.onnx")
	if err := clip.CheckProcessor(filepath.Join(folder, "feature_extractor")); err != nil {
		return nil, err
	}
	o.Outputs = []string{verdict}
	s, err := onnx.Open(path, o)
	if err != nil {
		return nil, err
	}
	c := &safetyChecker{session: s}
	if err := c.fit(); err != nil {
		s.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// fit finds out which input is which. The names differ between exports; that one has channels first does not.
func (c *safetyChecker) fit() error {
	seen, shown := 0, 0
	for _, p := range c.session.Inputs() {
		if p.Type != onnxfile.Float || p.Shape != nil && len(p.Shape.Dims) != 4 {
			return fmt.Errorf("input %v: want a float of 4 dimensions", p)
		}
		asClip := strings.Contains(p.Name, "clip") || strings.Contains(p.Name, "pixel_values")
		if asClip {
			seen++
		} else {
			shown++
		}
		c.inputs = append(c.inputs, asClip)
	}
	if seen != 1 || shown > 1 {
		return fmt.Errorf("has the inputs %v, want clip_input and images", c.session.Inputs())
	}
	if out := c.session.Outputs()[0]; out.Type != onnxfile.Bool {
		return fmt.Errorf("output %v: want bool", out)
	}
	return nil
}

func (c *safetyChecker) close() {
	if c != nil {
		c.session.Close()
	}
}

// flags says whether a picture must not be shown: img rounded to 8 bits, as planes of -1..1 before.
func (c *safetyChecker) flags(ctx context.Context, img image.Image, planes []float32) (bool, error) {
	if c == nil {
		return false, nil
	}
	width, height := img.Bounds().Dx(), img.Bounds().Dy()
	in := make([]*onnx.Tensor, len(c.inputs))
	defer func() { onnx.CloseAll(in) }()
	for i, asClip := range c.inputs {
		var err error
		if asClip {
			in[i], err = onnx.NewTensor(clip.Preprocess(img).Values(), 1, 3, clip.Side, clip.Side)
		} else {
			in[i], err = onnx.NewTensor(interleaved(planes, width*height), 1, int64(height), int64(width), 3)
		}
		if err != nil {
			return false, err
		}
	}
	out, err := c.session.Run(ctx, in)
	if err != nil {
		return false, err
	}
	defer onnx.CloseAll(out)
	found := onnx.Data[bool](out[0])
	if len(found) != 1 {
		return false, fmt.Errorf("safety_checker gave %v for one picture", out[0])
	}
	return found[0], nil
}

// interleaved is a picture of 0..1 with the channels last.
func interleaved(planes []float32, pixels int) []float32 {
	out := make([]float32, 0, 3*pixels)
	for i := range pixels {
		for channel := range 3 {
			out = append(out, min(max(planes[channel*pixels+i]/2+.5, 0), 1))
		}
	}
	return out
}
