package runners_test

import (
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/graphx"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/typex"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/util/reflectx"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/runners/prism"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/runners/universal/extworker"

	_ "github.com/promptmill/promptmill/model/scene" // backend scene
	"github.com/promptmill/promptmill/pipelines/preference"
	"github.com/promptmill/promptmill/pipelines/prompts"
	"github.com/promptmill/promptmill/pipelines/sft"
	"github.com/promptmill/promptmill/recipe"
	"github.com/promptmill/promptmill/runners/portable"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/transforms/mix"
	"github.com/promptmill/promptmill/transforms/parquetio"
	"github.com/promptmill/promptmill/transforms/snapshot"
)

func init() {
	register.DoFn3x1[beam.T, beam.U, func(beam.T, beam.U), error](&weighPairFn{})
	register.DoFn2x1[beam.T, func(beam.T), error](&weighFn{})
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

// Nothing over 64 KB crosses a shuffle: bytes there cost ten times their size in memory.
func TestElementsAreSmall(t *testing.T) {
	const most = 64 << 10
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
	workers, err := extworker.StartLoopback(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = workers.Stop(t.Context()) })
	client, err := portable.Dial(t.Context(), fmt.Sprintf("localhost:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })

	dir := t.TempDir()
	r, _, err := recipe.Load("demo", recipe.Using("scene"))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Bind(dir); err != nil {
		t.Fatal(err)
	}
	// run weighs one pipeline and returns the manifest that it makes.
	run := func(set string, build func(beam.Scope, snapshot.Config, parquetio.WriteConfig)) snapshot.Manifest {
		t.Helper()
		p, s := beam.NewPipelineWithRoot()
		build(s, snapshot.Config{Store: dir, Header: snapshot.Header{Set: set, RunID: "r", LogicalDate: "2026-01-31"}},
			parquetio.WriteConfig{Store: dir, Dir: snapshot.RunDir(set, "r"), Buckets: 1})
		edges, scales := weighed(t, p)
		env, err := graphx.CreateEnvironment(t.Context(), graphx.URNEnvExternal, workers.EnvironmentConfig)
		if err != nil {
			t.Fatal(err)
		}
		pipeline, err := graphx.Marshal(edges, &graphx.Options{Environment: env})
		if err != nil {
			t.Fatal(err)
		}
		id, err := client.Submit(t.Context(), portable.Submission{Name: set, Pipeline: pipeline})
		if err != nil {
			t.Fatal(err)
		}
		if state, err := client.Watch(t.Context(), id, nil); err != nil || state != portable.Done {
			t.Fatalf("%s: %s, %v", set, state, err)
		}
		weights.Lock()
		defer weights.Unlock()
		total, largest := 0, 0
		for _, where := range scales {
			total, largest = total+weights.n[where], max(largest, weights.largest[where])
			if weights.largest[where] > most {
				t.Errorf("%s: an element of %d bytes crosses at %s", set, weights.largest[where], where)
			}
		}
		if total == 0 {
			t.Errorf("%s: nothing was weighed at %s", set, strings.Join(scales, ", "))
		}
		t.Logf("%s: %d elements at %d shuffles, at most %d bytes", set, total, len(scales), largest)
		clear(weights.largest)
		clear(weights.n)
		st, err := store.Open(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		m, err := snapshot.Outcome(t.Context(), st, set, "r")
		if err != nil {
			t.Fatal(err)
		}
		return m
	}

	m := run("prompts", func(s beam.Scope, c snapshot.Config, sink parquetio.WriteConfig) {
		prompts.Build(s, prompts.Config{Source: r.Prompts, Heldout: r.Heldout, Dedup: r.Dedup, Sink: sink, Snapshot: c})
	})
	run("sft", func(s beam.Scope, c snapshot.Config, sink parquetio.WriteConfig) {
		sft.Build(s, sft.Config{Source: r.Pairs, Heldout: r.Heldout, Mix: mix.Config{Rewrite: r.Rewrite.Template}, Sink: sink, Snapshot: c})
	})
	run("preference", func(s beam.Scope, c snapshot.Config, sink parquetio.WriteConfig) {
		cfg := preference.New(r)
		var shards []schemas.Shard
		for _, shard := range m.Shards {
			if shard.Config == prompts.Rows {
				shards = append(shards, shard)
			}
		}
		cfg.Prompts = parquetio.ReadConfig{Store: dir, Shards: shards, Limit: 24}
		cfg.Sink, cfg.ShardRows, cfg.Snapshot = sink, 100, c
		preference.Build(s, cfg)
	})
}
