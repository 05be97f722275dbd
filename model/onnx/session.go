package onnx

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/promptmill/promptmill/model/onnx/onnxfile"
)

// A Session is a model ready to run. It is safe for concurrent use.
type Session struct {
	name    string
	session *ort.DynamicAdvancedSession
	inputs  []onnxfile.Port
	outputs []onnxfile.Port
	device  string
	yielded atomic.Int64 // when, in Unix nanoseconds
	took    atomic.Int64 // nanoseconds, the last call
}

// Open reads, checks and loads the model file at path. The error names the file; it wraps onnxfile.ErrModel if the
// file is not a model that can be run, and ErrLibrary if ONNX Runtime is not there.
func Open(path string, o Options) (*Session, error) {
	m, err := onnxfile.Open(path, o.Limits)
	if err != nil {
		return nil, err
	}
	return load(m, path, path, o)
}

// Load loads a model that is in memory and has no external data; name is for errors.
func Load(m *onnxfile.Model, name string, o Options) (*Session, error) {
	return load(m, name, "", o)
}

// load takes the model from the file at path, if there is one and nothing has to be changed, so that the runtime maps
// large weights and needs no copy of them.
func load(m *onnxfile.Model, name, path string, o Options) (*Session, error) {
	if err := Start(); err != nil {
		return nil, err
	}
	if o.Threads < 0 {
		return nil, fmt.Errorf("%s: %d threads", name, o.Threads)
	}
	m, widened := widen(m)
	summary := m.Summary()
	s := &Session{name: name, inputs: summary.Inputs, outputs: summary.Outputs}
	if o.Outputs != nil {
		s.outputs = nil
		for _, want := range o.Outputs {
			i := slices.IndexFunc(summary.Outputs, func(p onnxfile.Port) bool { return p.Name == want })
			if i < 0 {
				return nil, fmt.Errorf("%s has no output %s; there are %s", name, want, names(summary.Outputs))
			}
			s.outputs = append(s.outputs, summary.Outputs[i])
		}
	}
	if len(s.inputs) == 0 || len(s.outputs) == 0 {
		return nil, fmt.Errorf("%s: %w: %d inputs and %d outputs; it takes and gives nothing", name, onnxfile.ErrModel, len(s.inputs), len(s.outputs))
	}
	options, device, err := o.session(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	defer func() { _ = options.Destroy() }()
	s.device = device
	if path != "" && !widened {
		s.session, err = ort.NewDynamicAdvancedSession(path, portNames(s.inputs), portNames(s.outputs), options)
	} else {
		s.session, err = ort.NewDynamicAdvancedSessionWithONNXData(m.Marshal(), portNames(s.inputs), portNames(s.outputs), options)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: ONNX Runtime does not take it: %w", name, onnxfile.ErrModel, err)
	}
	return s, nil
}

// Inputs are what Run takes, in order. Outputs are what it returns.
func (s *Session) Inputs() []onnxfile.Port { return s.inputs }

// Outputs are what Run returns, in order.
func (s *Session) Outputs() []onnxfile.Port { return s.outputs }

// Device is where the model runs, for people and manifests: cpu, or the provider and its device.
func (s *Session) Device() string { return s.device }

// OnCPU says whether the model runs on the CPU, wanted or not.
func (s *Session) OnCPU() bool { return strings.HasPrefix(s.device, "cpu") }

// Ran is where the model runs, in the words of the ledger: cpu, or the provider and its device, as cuda:1. Where a GPU
// was wanted and there was none it is "cpu for want of cuda".
func (s *Session) Ran() string {
	device, fallback, _ := strings.Cut(s.device, " ")
	if fallback != "" {
		return device + " for want of cuda"
	}
	return device
}

// Run computes the outputs for inputs, both in the session's order. The caller closes the results.
func (s *Session) Run(ctx context.Context, inputs []*Tensor) ([]*Tensor, error) {
	out := make([]*Tensor, len(s.outputs))
	if err := s.RunInto(ctx, inputs, out); err != nil {
		return nil, err
	}
	return out, nil
}

// RunInto is Run into tensors of the caller's: a nil among outputs is allocated, any other is written to and must have
// the type and shape that comes out. An input must not be an output. On an error the tensors given hold
// anything, and nothing was allocated.
func (s *Session) RunInto(ctx context.Context, inputs, outputs []*Tensor) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(inputs) != len(s.inputs) || len(outputs) != len(s.outputs) {
		return fmt.Errorf("%s takes %d inputs (%s) and gives %d outputs (%s); got %d and %d",
			s.name, len(s.inputs), names(s.inputs), len(s.outputs), names(s.outputs), len(inputs), len(outputs))
	}
	in, out := make([]ort.Value, len(inputs)), make([]ort.Value, len(outputs))
	for i, t := range inputs {
		if err := fits(s.inputs[i], t); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		in[i] = t.value
	}
	for i, t := range outputs {
		if t != nil {
			out[i] = t.value
		}
	}
	if err := s.run(in, out); err != nil {
		for i, v := range out {
			if v != nil && outputs[i] == nil {
				_ = v.Destroy()
			}
		}
		return fmt.Errorf("%s: run with %s: %w", s.name, describe(s.inputs, inputs), err)
	}
	var errs []error
	for i, v := range out {
		if outputs[i] != nil {
			continue
		}
		t, err := received(v)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: output %s: %w", s.name, s.outputs[i].Name, err))
			_ = v.Destroy()
			continue
		}
		outputs[i] = t
	}
	return errors.Join(errs...)
}

// hogging is a little less than the 10 ms after which Go's monitor takes a goroutine for one that hogs its processor.
const hogging = 9 * time.Millisecond

// run runs the graph. Before that it gives way to other goroutines, if this call would end too long after the last time.
// From a loop of short calls that never gives way the monitor takes the processor away within every call, and wakes
// each 20 us from then on: 3 to 5% of the time of a denoising step or a token, on two cores.
func (s *Session) run(in, out []ort.Value) error {
	begin := time.Now().UnixNano()
	if begin-s.yielded.Load()+s.took.Load() > int64(hogging) {
		s.yielded.Store(begin)
		runtime.Gosched()
	}
	err := s.session.Run(in, out)
	s.took.Store(time.Now().UnixNano() - begin)
	return err
}

// Close frees the model. Nothing may run it then.
func (s *Session) Close() {
	if s.session != nil {
		_ = s.session.Destroy() // it fails without an environment only
		s.session = nil
	}
}
