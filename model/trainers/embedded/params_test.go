package embedded_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/promptmill/promptmill/model/onnx"
	"github.com/promptmill/promptmill/model/onnx/build"
	"github.com/promptmill/promptmill/model/onnx/onnxfile"
	"github.com/promptmill/promptmill/model/trainers/embedded"
)

var optimiser = embedded.AdamW{Beta1: .9, Beta2: .95, WeightDecay: .1, ClipNorm: 1, EMADecay: .9}

func run(t *testing.T, g *embedded.Gradient, feeds map[string]*onnx.Tensor) float32 {
	t.Helper()
	values, err := g.Run(context.Background(), feeds)
	if err != nil {
		t.Fatal(err)
	}
	return values["loss"]
}

// small is a decoder, a batch of four rows, and the same rows two by two.
func small() (m [2]*onnxfile.Model, whole map[string]*onnx.Tensor, halves [2]map[string]*onnx.Tensor) {
	d := decoder{batch: 4, length: 5, width: 8, heads: 2, layers: 1, vocabulary: 11}
	m[0], whole = d.random(7)
	d.batch = 2
	m[1], _ = d.random(8) // Its weights do not count: those of the first model do.
	ids, labels := onnx.Data[int64](whole["ids"]), onnx.Data[int64](whole["labels"])
	for i := range halves {
		halves[i] = d.feeds(ids[10*i:10*i+10], labels[10*i:10*i+10])
	}
	return m, whole, halves
}

// TestGraphsShareParameters trains on a whole batch with one graph, and on its halves with another: gradients add up.
func TestGraphsShareParameters(t *testing.T) {
	needLibrary(t)
	m, whole, halves := small()
	p, err := embedded.NewParams(nil, m[0], m[1])
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	one, err := embedded.Compile(m[0], "loss", p, whole, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	two, err := embedded.Compile(m[1], "loss", p, halves[0], 1)
	if err != nil {
		t.Fatal(err)
	}
	defer two.Close()

	still := embedded.AdamW{Beta1: .9, Beta2: .9}
	for round := range 2 {
		loss := run(t, one, whole)
		want := map[string][]float32{}
		for _, name := range p.Names() {
			want[name] = p.Gradient(name)
		}
		norm := p.Step(still, 0)
		if g := p.Gradient("embed"); g != nil {
			t.Errorf("after a step there is a gradient: %v", g)
		}
		sum := run(t, two, halves[0]) + run(t, two, halves[1])
		if d := sum/2 - loss; d > 1e-6 || d < -1e-6 {
			t.Errorf("round %d: losses %g and %g", round, loss, sum/2)
		}
		for _, name := range p.Names() {
			got := p.Gradient(name)
			for i := range got {
				got[i] /= 2
			}
			if worst := distance(got, want[name]); worst > 1e-6 {
				t.Errorf("round %d: the gradient of %s is off by %g", round, name, worst)
			}
		}
		// The step takes the mean over the runs, and what one graph changes the other sees.
		if got := p.Step(embedded.AdamW{Beta1: .9, Beta2: .9}, .1); got < norm-1e-6 || got > norm+1e-6 {
			t.Errorf("round %d: norm %g, in halves %g", round, norm, got)
		}
		if after := run(t, one, whole); after >= loss {
			t.Errorf("round %d: the loss was %g and is %g", round, loss, after)
		}
		p.Step(still, 0)
	}
}

// TestUnreached: a weight that a step's graphs do not have is not touched by it, not even by decay.
func TestUnreached(t *testing.T) {
	needLibrary(t)
	m, whole, _ := small()
	b := build.New()
	b.Output("y", b.Op("Mul", []string{b.Input("x", onnxfile.Float, 1), b.Param("other", []int64{1, 1}, []float32{3})}), onnxfile.Float, 1)
	p, err := embedded.NewParams(func(name string) bool { return name != "embed" }, m[0], b.Model())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	g, err := embedded.Compile(m[0], "loss", p, whole, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	run(t, g, whole)
	p.Step(optimiser, .1)
	if got := p.Weight("other")[0]; got != 3 {
		t.Errorf("a weight that was not in the graph became %g", got)
	}
	if p.Weight("embed") != nil || p.Gradient("embed") != nil {
		t.Error("what trainable refused is a parameter")
	}
}

func TestCheckpoint(t *testing.T) {
	needLibrary(t)
	m, whole, _ := small()
	path := filepath.Join(t.TempDir(), "checkpoint")
	train := func(p *embedded.Params, g *embedded.Gradient, steps int) (losses []float32) {
		for range steps {
			losses = append(losses, run(t, g, whole))
			p.Step(optimiser, .01)
		}
		return losses
	}
	state := func(p *embedded.Params) []byte {
		at := filepath.Join(t.TempDir(), "state")
		if err := p.Save(at); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(at)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	p, g := compile(t, m[0], whole)
	train(p, g, 3)
	if err := p.Save(path); err != nil {
		t.Fatal(err)
	}
	want, wantState := train(p, g, 3), state(p)

	again, g2 := compile(t, m[0], whole)
	train(again, g2, 1) // What is loaded replaces what was.
	run(t, g2, whole)
	if err := again.Load(path); err != nil {
		t.Fatal(err)
	}
	if again.Steps() != 3 {
		t.Errorf("%d steps after loading, want 3", again.Steps())
	}
	if got := train(again, g2, 3); !slices.Equal(got, want) {
		t.Errorf("losses %v, want %v", got, want)
	}
	if string(state(again)) != string(wantState) {
		t.Error("the state after going on differs")
	}
	if left, _ := filepath.Glob(path + ".*"); left != nil {
		t.Errorf("left behind: %v", left)
	}

	run(t, g2, whole)
	if err := again.Save(path); err == nil {
		t.Error("saved in the middle of a step")
	}
	again.Step(optimiser, .01)

	good := state(again)
	for name, bad := range map[string][]byte{
		"empty": {}, "not one": []byte("not a checkpoint"), "cut": good[:len(good)-1], "longer": append(slices.Clone(good), 0),
		"only its beginning": good[:24], "damaged": append(append(slices.Clone(good[:500]), good[500]^1), good[501:]...),
	} {
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := again.Load(path); !errors.Is(err, embedded.ErrCheckpoint) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := again.Load(path + "none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if string(state(again)) != string(good) {
		t.Error("a checkpoint that was refused changed something")
	}
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	fewer, err := embedded.NewParams(func(name string) bool { return name != "embed" }, m[0])
	if err != nil {
		t.Fatal(err)
	}
	defer fewer.Close()
	if err := fewer.Load(path); !errors.Is(err, embedded.ErrCheckpoint) {
		t.Errorf("a checkpoint of other parameters: %v", err)
	}
}

// TestTrainsWhatIsStoredInHalves compiles a graph whose weights are float16 and stores the result in it.
func TestTrainsWhatIsStoredInHalves(t *testing.T) {
	needLibrary(t)
	m, whole, _ := small()
	half, err := build.Half(m[0])
	if err != nil {
		t.Fatal(err)
	}
	p, g := compile(t, half, whole)
	before := run(t, g, whole)
	p.Step(optimiser, .05)
	if err := p.Store(half); err != nil {
		t.Fatal(err)
	}
	q, stored := compile(t, half, whole)
	if distance(p.Weight("0.up"), q.Weight("0.up")) == 0 {
		t.Error("halves are exact") // Then they were not stored as halves.
	}
	if after := run(t, stored, whole); after >= before {
		t.Errorf("the loss was %g and, stored and read, is %g", before, after)
	}
}

func TestFaults(t *testing.T) {
	needLibrary(t)
	m, whole, halves := small()
	p, g := compile(t, m[0], whole)
	parameter := func(dims []int64, op func(b *build.Builder, x, w string) string) *onnxfile.Model {
		b := build.New()
		x := b.Input("x", onnxfile.Float, 2, 2)
		b.Output("loss", op(b, x, b.Param("w", dims, make([]float32, product(dims)))), onnxfile.Float)
		return b.Model()
	}
	sum := func(b *build.Builder, x string) string {
		return b.Op("ReduceSum", []string{x}, build.Int("keepdims", 0))
	}
	feeds := map[string]*onnx.Tensor{"x": tensor(make([]float32, 4), 2, 2)}
	try := func(m *onnxfile.Model, loss string, feeds map[string]*onnx.Tensor) error {
		p, err := embedded.NewParams(nil, m)
		if err != nil {
			return err
		}
		defer p.Close()
		g, err := embedded.Compile(m, loss, p, feeds, 1)
		if err == nil {
			g.Close()
		}
		return err
	}
	square := []int64{2, 2}
	det := parameter(square, func(b *build.Builder, _, w string) string { return b.Op("Det", []string{w}) })
	multiplied := func(b *build.Builder, x, w string) string { return sum(b, b.Op("Mul", []string{x, w})) }
	with, old, broken := parameter(square, multiplied), parameter(square, multiplied), parameter(square, multiplied)
	old.Opsets = []*onnxfile.Opset{{Version: 13}}
	broken.Graph.Nodes = nil
	closed := parameter(square, func(b *build.Builder, _, w string) string { return sum(b, w) })
	closed.Graph.Inputs = nil
	for _, tt := range []struct {
		name, want string
		err        error
	}{
		{"operator without a rule", `node "node/Det_1": operator Det has no gradient here`, try(det, "loss", feeds)},
		{"exponent", `(Pow): the exponent depends on a parameter`, try(parameter(square, func(b *build.Builder, x, w string) string { return sum(b, b.Op("Pow", []string{x, w})) }), "loss", feeds)},
		{"half precision", "becomes float16: train in float", try(parameter(square, func(b *build.Builder, _, w string) string {
			half := b.Op("Cast", []string{w}, build.Int("to", int64(onnxfile.Float16)))
			return sum(b, b.Op("Cast", []string{half}, build.Int("to", int64(onnxfile.Float))))
		}), "loss", feeds)},
		{"loss without parameters", "loss depends on none of the 1 parameters", try(parameter(square, func(b *build.Builder, x, _ string) string { return sum(b, x) }), "loss", feeds)},
		{"unknown loss", `"los" is not a value of one element`, try(with, "los", feeds)},
		{"large loss", `"x" is not a value of one element of the graph; its shape is [2 2]`, try(with, "x", feeds)},
		{"not a model", `"loss" is not computed`, try(broken, "loss", feeds)},
		{"operator set", "operator set 13, where the rules are for 16 to 21", try(old, "loss", feeds)},
		{"no inputs", "the graph has no inputs", try(closed, "loss", feeds)},
		{"missing feed", "feed x is missing", try(with, "loss", nil)},
		{"other shape", "shape [1 2], the graph wants", func() error {
			other := parameter([]int64{1, 2}, multiplied)
			_, err := embedded.NewParams(nil, with, other)
			if err == nil {
				t.Error("two shapes of one parameter were taken")
			}
			q, err := embedded.NewParams(nil, other)
			if err != nil {
				return err
			}
			defer q.Close()
			_, err = embedded.Compile(with, "loss", q, feeds, 1)
			return err
		}()},
		{"run with another shape", "feed ids: int64 [2 5], but the graph is compiled for shape [4 5]", second(g.Run(context.Background(), halves[0]))},
		{"run without a feed", "feed labels is missing", second(g.Run(context.Background(), map[string]*onnx.Tensor{"ids": whole["ids"]}))},
		{"run with a stranger", "feed x: the graph has no such input", second(g.Run(context.Background(), feeds))},
		{"store where nothing fits", "has none of the", p.Store(with)},
	} {
		if tt.err == nil || !strings.Contains(tt.err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, tt.err, tt.want)
		}
	}
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := g.Run(cancelled, whole); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }
