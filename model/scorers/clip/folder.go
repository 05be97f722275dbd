package clip

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/promptmill/promptmill/model/onnx"
	"github.com/promptmill/promptmill/model/onnx/onnxfile"
	"github.com/promptmill/promptmill/model/tokenizer"
)

// ErrFolder is wrapped by the errors of Open that say that a folder is not a CLIP model: a file is missing, cannot be
// read, or asks for something that this package does not do. The error names the file.
var ErrFolder = errors.New("bad CLIP folder")

// An encoder is one of the two towers, with its projection: rows go in, embeddings come out.
type encoder struct {
	session *onnx.Session
	out     int // the place of the embeddings among the outputs
}

// graph finds the graph that has one of names.
func graph(folder string, names ...string) (string, error) {
	if path := onnx.FindGraph(folder, names...); path != "" {
		return path, nil
	}
	return "", fmt.Errorf("%w: %s: no %s, neither there nor in onnx/", ErrFolder, folder, strings.Join(names, " or "))
}

// open loads a tower. What it gives is found by name, or because it is the only thing of two dimensions.
func open(path, embeddings string, o onnx.Options) (*encoder, error) {
	s, err := onnx.Open(path, o)
	if err != nil {
		return nil, err
	}
	e := &encoder{session: s}
	e.out = slices.IndexFunc(s.Outputs(), func(p onnxfile.Port) bool { return p.Name == embeddings })
	if e.out < 0 && len(s.Outputs()) == 1 && flat(s.Outputs()[0]) {
		e.out = 0
	}
	if e.out < 0 || s.Outputs()[e.out].Type != onnxfile.Float {
		s.Close()
		return nil, fmt.Errorf("%w: %s: gives %v, and no %s: export it with its projection (CLIPTextModelWithProjection, CLIPVisionModelWithProjection)",
			ErrFolder, path, s.Outputs(), embeddings)
	}
	return e, nil
}

func flat(p onnxfile.Port) bool { return p.Shape != nil && len(p.Shape.Dims) == 2 }

// fitText says whether the text tower can be given what this package has.
func (e *encoder) fitText() error {
	ids := false
	for _, p := range e.session.Inputs() {
		switch {
		case p.Type != onnxfile.Int64 && p.Type != onnxfile.Int32:
			return fmt.Errorf("input %v: want integers", p)
		case p.Name == "input_ids":
			ids = true
		case p.Name != "attention_mask":
			return fmt.Errorf("input %v: not known; known are input_ids and attention_mask", p)
		}
	}
	if !ids {
		return errors.New("no input input_ids")
	}
	return nil
}

// fitVision does the same for pictures: there is one size.
func (e *encoder) fitVision() error {
	in := e.session.Inputs()
	if len(in) != 1 || in[0].Type != onnxfile.Float {
		return fmt.Errorf("takes %v, want pixel_values alone", in)
	}
	if in[0].Shape == nil {
		return nil
	}
	if len(in[0].Shape.Dims) != 4 {
		return fmt.Errorf("input %v: want [batch,3,%d,%d]", in[0], Side, Side)
	}
	for i, want := range []int64{3, Side, Side} {
		if d := in[0].Shape.Dims[i+1]; d.Symbol == "" && d.Size > 0 && d.Size != want {
			return fmt.Errorf("input %v: want [batch,3,%d,%d]", in[0], Side, Side)
		}
	}
	return nil
}

// tokens is the length of what the text tower reads: the graph's if it says one, else the tokenizer's.
func (e *encoder) tokens(t *tokenizer.Tokenizer) (int, error) {
	n := t.Limits().MaxLength
	for _, p := range e.session.Inputs() {
		if flat(p) && p.Shape.Dims[1].Symbol == "" && p.Shape.Dims[1].Size > 0 {
			n = int(p.Shape.Dims[1].Size)
		}
	}
	if n < 1 {
		return 0, fmt.Errorf("%w: neither the graph nor the tokenizer says how many tokens a text has: set model_max_length in tokenizer_config.json", ErrFolder)
	}
	return n, nil
}

// processor is preprocessor_config.json as far as scores depend on it.
type processor struct {
	Size     any       `json:"size"`
	CropSize any       `json:"crop_size"`
	Resample *int      `json:"resample"`
	Mean     []float32 `json:"image_mean"`
	Std      []float32 `json:"image_std"`
}

// CheckProcessor refuses a folder whose preprocessor_config.json prepares pictures in another way than Preprocess does;
// without that file there is nothing to refuse. Its errors wrap ErrFolder and name the file and the field.
func CheckProcessor(folder string) error {
	path := filepath.Join(folder, "preprocessor_config.json")
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var p processor
	if err == nil {
		err = json.Unmarshal(data, &p)
	}
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrFolder, path, err)
	}
	var errs []error
	for _, f := range []struct {
		name  string
		value any
		keys  []string
	}{{"size", p.Size, []string{"shortest_edge"}}, {"crop_size", p.CropSize, []string{"height", "width"}}} {
		if !sized(f.value, f.keys) {
			errs = append(errs, fmt.Errorf("%w: %s: %s: %v; pictures of %d are made", ErrFolder, path, f.name, f.value, Side))
		}
	}
	const bicubic = 3 // Pillow's number
	if p.Resample != nil && *p.Resample != bicubic {
		errs = append(errs, fmt.Errorf("%w: %s: resample: %d; bicubic, %d, is what there is", ErrFolder, path, *p.Resample, bicubic))
	}
	for _, f := range []struct {
		name      string
		got, want []float32
	}{{"image_mean", p.Mean, mean[:]}, {"image_std", p.Std, std[:]}} {
		if f.got != nil && !slices.Equal(f.got, f.want) {
			errs = append(errs, fmt.Errorf("%w: %s: %s: %v; OpenAI's %v is what there is", ErrFolder, path, f.name, f.got, f.want))
		}
	}
	return errors.Join(errs...)
}

// sized says whether a size field, a number or an object, is left out or is Side.
func sized(v any, keys []string) bool {
	switch v := v.(type) {
	case nil:
		return true
	case float64:
		return v == Side
	case map[string]any:
		for _, key := range keys {
			if v[key] != float64(Side) {
				return false
			}
		}
		return true
	}
	return false
}
