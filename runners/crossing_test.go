package runners_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/graphx"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/typex"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/util/reflectx"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/runners/prism"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/runners/universal/extworker"

	"github.com/promptmill/promptmill/runners/portable"
	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/transforms/snapshot"
)

func init() {
	beam.RegisterDoFn(reflect.TypeFor[weighPairFn]())
	beam.RegisterDoFn(reflect.TypeFor[weighFn]())
}

// weights are the sizes in bytes of what crossed: the largest and how many, by where.
var weights = struct {
	sync.Mutex
	largest, n map[string]int
}{largest: map[string]int{}, n: map[string]int{}}

// weigh counts one element by the length of its JSON, which is above that of Beam's coders for all that
// is not numbers alone.
func weigh(where string, parts ...any) error {
	size := 0
	for _, p := range parts {
		b, err := json.Marshal(p)
		if err != nil {
			return err
		}
		size += len(b)
	}
	weights.Lock()
	defer weights.Unlock()
	weights.largest[where] = max(weights.largest[where], size)
	weights.n[where]++
	return nil
}

type weighPairFn struct{ Where string }

func (fn *weighPairFn) ProcessElement(k beam.T, v beam.U, emit func(beam.T, beam.U)) error {
	emit(k, v)
	return weigh(fn.Where, k, v)
}

type weighFn struct{ Where string }

func (fn *weighFn) ProcessElement(v beam.T, emit func(beam.T)) error {
	emit(v)
	return weigh(fn.Where, v)
}

// weighed puts a scale before every shuffle of a graph and returns the graph and the scales' names.
func weighed(t *testing.T, p *beam.Pipeline) ([]*graph.MultiEdge, []string) {
	t.Helper()
	edges, nodes, err := p.Build()
	if err != nil {
		t.Fatal(err)
	}
	// The scales' ids must not be those of the graph.
	g := graph.New()
	for range edges {
		g.NewEdge(g.Root())
	}
	for range nodes {
		g.NewNode(typex.New(reflectx.Bool), window.DefaultWindowingStrategy(), true)
	}
	var scales []*graph.MultiEdge
	var names []string
	for _, e := range edges {
		if e.Op != graph.CoGBK && e.Op != graph.Reshuffle {
			continue
		}
		scope := e.Scope()
		for scope.Label == graph.CombinePerKeyScope { // its parts are known to runners
			scope = scope.Parent
		}
		for i, in := range e.Input {
			where := fmt.Sprintf("%s %d", e.Name(), i)
			var fn any = &weighFn{Where: where}
			inputs := graph.MainSingle
			if typex.IsKV(in.From.Type()) {
				fn, inputs = &weighPairFn{Where: where}, graph.MainKv
			}
			dofn, err := graph.NewDoFn(fn, graph.NumMainInputs(inputs))
			if err != nil {
				t.Fatal(err)
			}
			scale, err := graph.NewParDo(g, scope, dofn, []*graph.Node{in.From}, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			scale.Output[0].To.Coder = in.From.Coder
			in.From = scale.Output[0].To
			scales, names = append(scales, scale), append(names, where)
		}
	}
	return append(edges, scales...), names
}

// A weighbridge runs pipelines on a job server, each with a scale before every shuffle.
type weighbridge struct {
	t       *testing.T
	client  *portable.Client
	workers *extworker.Loopback
	st      store.Store
	// seen are the scopes of the pipelines that ran: package.Func.
	seen map[string]bool
}

// most is how many bytes an element may have where it crosses a shuffle.
const most = 64 << 10

func newWeighbridge(t *testing.T, dir string) *weighbridge {
	t.Helper()
	lis, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	port := lis.Addr().(*net.TCPAddr).Port
	if err := lis.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := prism.CreateJobServer(t.Context(), prism.Options{Port: port}); err != nil {
		t.Fatal(err)
	}
	b := &weighbridge{t: t, seen: map[string]bool{}}
	if b.workers, err = extworker.StartLoopback(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.workers.Stop(t.Context()) })
	if b.client, err = portable.Dial(t.Context(), fmt.Sprintf("localhost:%d", port)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.client.Close() })
	if b.st, err = store.Open(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	return b
}

// ensure is a rounds.Ensure that weighs what it builds.
func (b *weighbridge) ensure(ctx context.Context, h snapshot.Header, _ string, _ int64, build func(beam.Scope)) (snapshot.Manifest, error) {
	if m, err := snapshot.Outcome(ctx, b.st, h.Set, h.RunID); err == nil {
		return m, nil
	}
	p, s := beam.NewPipelineWithRoot()
	build(s)
	edges, scales := weighed(b.t, p)
	for _, e := range edges {
		scope := e.Scope()
		for scope.Parent != nil && scope.Parent.Parent != nil {
			scope = scope.Parent
		}
		b.seen[scope.Label] = true
	}
	env, err := graphx.CreateEnvironment(ctx, graphx.URNEnvExternal, b.workers.EnvironmentConfig)
	if err != nil {
		return snapshot.Manifest{}, err
	}
	pipeline, err := graphx.Marshal(edges, &graphx.Options{Environment: env})
	if err != nil {
		return snapshot.Manifest{}, err
	}
	id, err := b.client.Submit(ctx, portable.Submission{Name: h.Set, Pipeline: pipeline})
	if err != nil {
		return snapshot.Manifest{}, err
	}
	if state, err := b.client.Watch(ctx, id, nil); err != nil || state != portable.Done {
		return snapshot.Manifest{}, fmt.Errorf("%s: %s: %w", h.Set, state, err)
	}
	b.read(h.Set, scales)
	return snapshot.Outcome(ctx, b.st, h.Set, h.RunID)
}

// read takes what the scales of a pipeline show.
func (b *weighbridge) read(set string, scales []string) {
	weights.Lock()
	defer weights.Unlock()
	total, largest := 0, 0
	for _, where := range scales {
		total, largest = total+weights.n[where], max(largest, weights.largest[where])
		if weights.largest[where] > most {
			b.t.Errorf("%s: an element of %d bytes crosses at %s", set, weights.largest[where], where)
		}
	}
	if total == 0 {
		b.t.Errorf("%s: nothing was weighed at %s", set, strings.Join(scales, ", "))
	}
	b.t.Logf("%s: %d elements at %d shuffles, at most %d bytes", set, total, len(scales), largest)
	clear(weights.largest)
	clear(weights.n)
}

// unweighed are those of the scopes that no pipeline had.
func (b *weighbridge) unweighed(scopes []string) []string {
	return slices.DeleteFunc(scopes, func(s string) bool { return b.seen[s] })
}
