package vlm

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/onnx"
)

// Options say how a model is run. The zero value runs it on the CPU.
type Options struct {
	onnx.Options
	// Variant chooses quantised graphs by what is added to their names: fp16 for decoder_model_merged_fp16.onnx.
	Variant string
	// MaxBatch bounds the answers that a lane writes at a time; 0 is 64 on a GPU and 16 on the CPU, where more are no faster.
	MaxBatch int
	// Parallel is the number of lanes: batches that are computed at a time. 0 is one per Threads processors, at most 4.
	Parallel int
	// CacheBytes bounds the memory for keys and values of the answers being written; 0 is 1 GiB. A request that takes
	// more alone is refused. An eighth of it may be taken by what is kept of pictures, a quarter lie idle.
	CacheBytes int64
	// Beams, over 1, makes Chat search for the likeliest answer at temperature 0 as Beam does.
	Beams int
	// LengthPenalty is Beam's; 0 is 1.
	LengthPenalty float64
}

// Validate joins all faults; each begins with the name of the option.
func (o Options) Validate() error {
	var errs []error
	for _, n := range []struct {
		name  string
		value int64
	}{
		{"threads", int64(o.Threads)},
		{"max_batch", int64(o.MaxBatch)},
		{"parallel", int64(o.Parallel)},
		{"cache_bytes", o.CacheBytes},
		{"beams", int64(o.Beams)},
	} {
		if n.value < 0 {
			errs = append(errs, fmt.Errorf("%s: %d is negative; leave it out for the default", n.name, n.value))
		}
	}
	if strings.ContainsAny(o.Variant, `/\`) {
		errs = append(errs, fmt.Errorf("variant: %q is not a part of a file's name, such as fp16 or q4", o.Variant))
	}
	if math.IsNaN(o.LengthPenalty) || math.IsInf(o.LengthPenalty, 0) {
		errs = append(errs, fmt.Errorf("length_penalty: %v is not a number", o.LengthPenalty))
	}
	return errors.Join(errs...)
}

func (o Options) withDefaults() Options {
	if o.Parallel == 0 {
		o.Parallel = min(4, max(1, runtime.GOMAXPROCS(0)/max(1, o.Threads)))
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = 1 << 30
	}
	if o.LengthPenalty == 0 {
		o.LengthPenalty = 1
	}
	return o
}

// A Model is a vision-language model ready to answer. It is a model.Chat, safe for concurrent use.
type Model struct {
	processor
	info     model.Info
	folder   string
	options  Options
	vision   *vision
	embed    *embedder
	decoder  *decoder
	sessions []*onnx.Session
	slots    chan struct{} // what is computed outside the lanes
	queue    *queue
	lanes    sync.WaitGroup
}

// Open loads the model in a folder. Its errors name the file or the option; they wrap ErrFolder if the folder is not a
// model of this layout, onnxfile.ErrModel if a graph cannot be run and onnx.ErrLibrary if ONNX Runtime is not there.
func Open(ctx context.Context, folder string, o Options) (*Model, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("vlm: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m := &Model{options: o.withDefaults(), folder: folder}
	if err := m.load(ctx, folder); err != nil {
		m.free()
		return nil, fmt.Errorf("vlm: %w", err)
	}
	m.slots = make(chan struct{}, m.options.Parallel)
	m.queue = newQueue(m.options.Parallel, m.options.CacheBytes)
	for range m.options.Parallel {
		m.lanes.Go((&lane{m: m}).run)
	}
	return m, nil
}

func (m *Model) load(ctx context.Context, folder string) error {
	o := m.options
	var paths []string
	for _, graph := range []string{visionGraph, embedGraph, decoderGraph} {
		path, err := graphPath(folder, graph, o.Variant)
		if err != nil {
			return err
		}
		paths = append(paths, path)
	}
	var err error
	if m.processor, err = readProcessor(folder); err != nil {
		return err
	}
	if err := m.settings.seesPictures(folder); err != nil {
		return err
	}
	weights, err := Digest(folder, o.Variant)
	if err != nil {
		return err
	}
	for _, path := range paths {
		s, err := onnx.Open(path, o.Options)
		if err != nil {
			return err
		}
		m.sessions = append(m.sessions, s)
	}
	if err := m.connect(ctx); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrFolder, folder, err)
	}
	if o.Beams > 1 { // other answers to the same request
		weights += fmt.Sprintf("+beams%d/%g", o.Beams, o.LengthPenalty)
	}
	cpu := m.decoder.session.OnCPU()
	if o.MaxBatch == 0 {
		if m.options.MaxBatch = 64; cpu {
			m.options.MaxBatch = 16
		}
	}
	m.info = model.Info{Name: "vlm " + filepath.Base(filepath.Clean(folder)), Weights: weights, Deterministic: cpu}
	return nil
}

// connect finds out what the graphs take and whether one takes what another gives. Its errors name the graph.
func (m *Model) connect(ctx context.Context) error {
	memory := &pool{atMost: m.options.CacheBytes / 4}
	var err error
	if m.embed, err = newEmbedder(m.sessions[1], memory); err != nil {
		return fmt.Errorf("%s: %w", embedGraph, err)
	}
	tokens, err := m.embed.probe(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", embedGraph, err)
	}
	defer tokens.Close()
	if m.decoder, err = newDecoder(m.sessions[2], m.settings.text, memory); err != nil {
		return fmt.Errorf("%s: %w", decoderGraph, err)
	}
	if err := m.decoder.probe(ctx, tokens); err != nil {
		return fmt.Errorf("%s: %w", decoderGraph, err)
	}
	if m.vision, err = newVision(m.sessions[0], m.settings.pictures, m.embed.hidden, m.options.CacheBytes/8); err != nil {
		return fmt.Errorf("%s: %w", visionGraph, err)
	}
	if err := m.vision.probe(ctx); err != nil {
		return fmt.Errorf("%s: %w", visionGraph, err)
	}
	return nil
}

// Info names the folder; Weights is a digest of its files. On a CPU the model is deterministic.
func (m *Model) Info() model.Info { return m.info }

// Folder implements model.Foldered.
func (m *Model) Folder() string { return m.folder }

// Close ends the lanes and frees the model. Requests that wait fail; nothing may use the model then.
func (m *Model) Close() {
	m.queue.close()
	m.lanes.Wait()
	m.free()
}

func (m *Model) free() {
	for _, s := range m.sessions {
		s.Close()
	}
}
