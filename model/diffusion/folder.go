package diffusion

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/promptmill/promptmill/model/diffusion/scheduler"
	"github.com/promptmill/promptmill/model/onnx"
	"github.com/promptmill/promptmill/model/onnx/onnxfile"
	"github.com/promptmill/promptmill/model/tokenizer"
)

// parts are what a Stable Diffusion folder holds, and what its files say about how they fit together.
type parts struct {
	tokenizer *tokenizer.Tokenizer
	scheduler scheduler.Config

	text, unet, decoder *onnx.Session
	safety              *safetyChecker // nil: none
	// where the denoiser takes what
	sample, timestep, embedding int
	// states is the place of the text encoder's hidden states among its outputs, hidden their shape in one text.
	states int
	tokens int

	channels int64
	// side is latent pixels to pixels; scale and shift turn latents into what the decoder takes.
	side         int
	scale, shift float32
}

// vaeConfig is vae_decoder/config.json as far as it is used; the defaults are diffusers' AutoencoderKL's.
type vaeConfig struct {
	Blocks  []int    `json:"block_out_channels"`
	Scaling float64  `json:"scaling_factor"`
	Shift   *float64 `json:"shift_factor"`
}

func openParts(folder string, o onnx.Options) (*parts, error) {
	p := &parts{}
	var err error
	if p.scheduler, err = scheduler.Open(os.DirFS(folder), "scheduler/scheduler_config.json"); err != nil {
		return nil, err
	}
	if p.tokenizer, err = tokenizer.Open(filepath.Join(folder, "tokenizer")); err != nil {
		return nil, err
	}
	vae, err := readVAE(filepath.Join(folder, "vae_decoder", "config.json"))
	if err != nil {
		return nil, err
	}
	p.side, p.scale = 1<<(len(vae.Blocks)-1), float32(vae.Scaling)
	if vae.Shift != nil {
		p.shift = float32(*vae.Shift)
	}
	for _, s := range []struct {
		name string
		to   **onnx.Session
		fit  func(*onnx.Session) error
	}{{"text_encoder", &p.text, p.fitText}, {"unet", &p.unet, p.fitUnet}, {"vae_decoder", &p.decoder, p.fitDecoder}} {
		path := filepath.Join(folder, s.name, "model.onnx")
		session, err := onnx.Open(path, o)
		if err == nil {
			*s.to = session
			if err = s.fit(session); err != nil {
				err = fmt.Errorf("%s: %w", path, err)
			}
		}
		if err != nil {
			p.close()
			return nil, err
		}
	}
	if p.safety, err = openSafety(folder, o); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *parts) close() {
	for _, s := range []*onnx.Session{p.text, p.unet, p.decoder} {
		if s != nil {
			s.Close()
		}
	}
	p.safety.close()
}

func readVAE(path string) (vaeConfig, error) {
	c := vaeConfig{Blocks: []int{1, 1, 1, 1}, Scaling: 0.18215}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, err
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return c, fmt.Errorf("%s: %w", path, err)
	}
	if len(c.Blocks) < 1 || len(c.Blocks) > 10 || c.Scaling <= 0 {
		return c, fmt.Errorf("%s: %d block_out_channels and scaling_factor %g make no decoder", path, len(c.Blocks), c.Scaling)
	}
	return c, nil
}

// input finds the input that is called name, or, where exports differ in names, contains it.
func input(s *onnx.Session, name string, kinds ...onnxfile.DataType) (int, error) {
	at := slices.IndexFunc(s.Inputs(), func(p onnxfile.Port) bool { return p.Name == name })
	if at < 0 {
		at = slices.IndexFunc(s.Inputs(), func(p onnxfile.Port) bool { return strings.Contains(p.Name, name) })
	}
	if at < 0 {
		return 0, fmt.Errorf("no input %s among %v", name, s.Inputs())
	}
	if kind := s.Inputs()[at].Type; !slices.Contains(kinds, kind) {
		return 0, fmt.Errorf("input %v: of type %v, want one of %v", s.Inputs()[at], kind, kinds)
	}
	return at, nil
}

func only(s *onnx.Session, n int) error {
	if len(s.Inputs()) != n {
		return fmt.Errorf("has the inputs %v, want %d: not a model of the Stable Diffusion 1 and 2 family", s.Inputs(), n)
	}
	return nil
}

func (p *parts) fitText(s *onnx.Session) error {
	if err := only(s, 1); err != nil {
		return err
	}
	at, err := input(s, "input_ids", onnxfile.Int64, onnxfile.Int32)
	if err != nil {
		return err
	}
	p.tokens = p.tokenizer.Limits().MaxLength
	if shape := s.Inputs()[at].Shape; shape != nil && len(shape.Dims) == 2 && shape.Dims[1].Size > 0 {
		p.tokens = int(shape.Dims[1].Size)
	}
	if p.tokens <= 0 {
		return errors.New("neither the model nor its tokenizer says how many tokens it takes: set model_max_length in tokenizer_config.json")
	}
	p.states = slices.IndexFunc(s.Outputs(), func(o onnxfile.Port) bool { return o.Name == "last_hidden_state" })
	if p.states < 0 {
		p.states = slices.IndexFunc(s.Outputs(), func(o onnxfile.Port) bool { return o.Shape == nil || len(o.Shape.Dims) == 3 })
	}
	if p.states < 0 {
		return fmt.Errorf("none of the outputs %v is last_hidden_state", s.Outputs())
	}
	return nil
}

func (p *parts) fitUnet(s *onnx.Session) error {
	if err := only(s, 3); err != nil {
		return err
	}
	var err error
	if p.sample, err = input(s, "sample", onnxfile.Float); err != nil {
		return err
	}
	if p.timestep, err = input(s, "timestep", onnxfile.Float, onnxfile.Int64); err != nil {
		return err
	}
	if p.embedding, err = input(s, "encoder_hidden_states", onnxfile.Float); err != nil {
		return err
	}
	shape := s.Inputs()[p.sample].Shape
	if shape == nil || len(shape.Dims) != 4 || shape.Dims[1].Size <= 0 {
		return fmt.Errorf("input %v: want [batch,channels,height,width] with the channels given", s.Inputs()[p.sample])
	}
	p.channels = shape.Dims[1].Size
	return nil
}

func (p *parts) fitDecoder(s *onnx.Session) error {
	if err := only(s, 1); err != nil {
		return err
	}
	_, err := input(s, s.Inputs()[0].Name, onnxfile.Float)
	return err
}

// takes says whether the denoiser draws pictures of a size at all.
func (p *parts) takes(width, height int) error {
	if width <= 0 || height <= 0 || width%p.side != 0 || height%p.side != 0 {
		return fmt.Errorf("%dx%d pixels: width and height are multiples of %d", width, height, p.side)
	}
	dims := p.unet.Inputs()[p.sample].Shape.Dims
	if h, w := dims[2].Size, dims[3].Size; h > 0 && int(h) != height/p.side || w > 0 && int(w) != width/p.side {
		return fmt.Errorf("%dx%d pixels: this model draws %dx%d only", width, height, int(w)*p.side, int(h)*p.side)
	}
	return nil
}
