package ledger_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	"github.com/google/go-cmp/cmp"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/ledger"
	"github.com/promptmill/promptmill/transforms/transformtest"
)

func TestMain(m *testing.M) { ptest.Main(m) }

func init() {
	beam.RegisterDoFn(reflect.TypeFor[sieveFn]())
	register.Emitter1[schemas.Count]()
}

// sieveFn keeps odd numbers, filters even ones and gives up on multiples of five.
type sieveFn struct{ tally ledger.Tally }

func (fn *sieveFn) StartBundle(func(schemas.Count)) { fn.tally.Reset() }

func (fn *sieveFn) ProcessElement(n int, _ func(schemas.Count)) {
	fn.tally.In("sieve", 1)
	switch {
	case n%5 == 0:
		fn.tally.Dead("sieve", "five", 1)
	case n%2 == 0:
		fn.tally.Filtered("sieve", "even", 1)
	default:
		fn.tally.Out("sieve", 1)
	}
}

func (fn *sieveFn) FinishBundle(counts func(schemas.Count)) { fn.tally.Flush(counts) }

func TestTallyOnBeam(t *testing.T) {
	var in []int
	for n := range 1000 {
		in = append(in, n)
	}
	p, s := beam.NewPipelineWithRoot()
	counts := transformtest.Collect[schemas.Count](s, beam.ParDo(s, &sieveFn{}, beam.Reshuffle(s, beam.CreateList(s, in))))
	before := ledger.Live()
	ptest.RunAndValidate(t, p)
	want := []schemas.Count{
		{Stage: "sieve", Outcome: "dead", Reason: "five", N: 200},
		{Stage: "sieve", Outcome: "filtered", Reason: "even", N: 400},
		{Stage: "sieve", Outcome: "in", N: 1000},
		{Stage: "sieve", Outcome: "out", N: 400},
	}
	if d := cmp.Diff(want, ledger.Sum(counts())); d != "" {
		t.Error(d)
	}
	live := ledger.Live()
	for _, c := range before {
		c.N = -c.N
		live = append(live, c)
	}
	live = slices.DeleteFunc(live, func(c schemas.Count) bool { return c.Stage != "sieve" })
	if d := cmp.Diff(want, ledger.Sum(live)); d != "" {
		t.Error("live:", d)
	}
}

func flush(t *ledger.Tally) []schemas.Count {
	var out []schemas.Count
	t.Flush(func(c schemas.Count) { out = append(out, c) })
	return ledger.Sum(out)
}

func TestTally(t *testing.T) {
	var tally ledger.Tally
	tally.In("a", 3)
	tally.Reset() // a bundle that failed
	tally.In("a", 2)
	tally.In("a", 0)
	tally.Out("a", 2)
	tally.Spent("a", model.Usage{Calls: 1, CacheHits: 2, PromptTokens: 3})
	tally.Spent("a", model.Usage{Calls: 1, CompletionTokens: 4})
	want := []schemas.Count{
		{Stage: "a", Outcome: "in", N: 2},
		{Stage: "a", Outcome: "out", N: 2},
		{Stage: "a", Outcome: "used", Reason: "cache_hits", N: 2},
		{Stage: "a", Outcome: "used", Reason: "calls", N: 2},
		{Stage: "a", Outcome: "used", Reason: "completion_tokens", N: 4},
		{Stage: "a", Outcome: "used", Reason: "prompt_tokens", N: 3},
	}
	if d := cmp.Diff(want, flush(&tally)); d != "" {
		t.Error(d)
	}
	if again := flush(&tally); len(again) != 0 {
		t.Errorf("flushed twice: %v", again)
	}
}

var counts = []schemas.Count{
	{Stage: "rewrite", Outcome: "in", N: 16},
	{Stage: "rewrite", Outcome: "out", N: 13},
	{Stage: "rewrite", Outcome: "filtered", Reason: "duplicate", N: 1},
	{Stage: "rewrite", Outcome: "dead", Reason: "refusal", N: 2},
	{Stage: "rewrite", Outcome: "used", Reason: "calls", N: 99},
	{Stage: "draw", Outcome: "in", N: 10},
	{Stage: "draw", Outcome: "in", N: 3},
	{Stage: "draw", Outcome: "out", N: 12},
	{Stage: "draw", Outcome: "dead", Reason: "black", N: 1},
	{Stage: "prefer", Outcome: "in", N: 2},
	{Stage: "prefer", Outcome: "out", N: 2},
}

func TestCheck(t *testing.T) {
	rows := map[string]int64{"rejected": 3, "pairs": 2}
	for _, tt := range []struct{ equation, fault string }{
		{"rewrite.in = 8*prefer.in", ""},
		{"rewrite.in = 8 * prefer.in", ""},
		{"draw.in = rewrite.out", ""},
		{"*.dead = rows.rejected", ""},
		{"2*rows.pairs + *.dead = 7", ""},
		{"rows.nothing = 0", ""},
		{"draw.in + rewrite.dead=15", ""},
		{"draw.out = rewrite.out", "draw.out = rewrite.out does not hold: 12 is not 13"},
		{"rewrite.in = 9*prefer.in", "16 is not 18"},
		{"*.dead = rows.pairs", "3 is not 2"},
		{"draw.in", "has no ="},
		{"draw.in = eight", `term "eight"`},
		{"x*draw.in = 1", `term "x*draw.in"`},
	} {
		err := ledger.Check(counts, rows, []string{tt.equation})
		if tt.fault == "" && err != nil || tt.fault != "" && (err == nil || !strings.Contains(err.Error(), tt.fault)) {
			t.Errorf("%s: %v, want %q", tt.equation, err, tt.fault)
		}
	}
	err := ledger.Check(counts[1:], rows, []string{"draw.in = 1", "draw.out = 2"})
	if err == nil {
		t.Fatal("a stage with more out than in balances")
	}
	if lines := strings.Split(err.Error(), "\n"); len(lines) != 3 || !strings.Contains(lines[0], "stage rewrite: 0 in, but 13 out + 1 filtered + 2 dead") {
		t.Errorf("faults %q", lines)
	}
}

func TestTotal(t *testing.T) {
	for _, tt := range []struct {
		stage, outcome string
		want           int64
	}{{"draw", "in", 13}, {"*", "in", 31}, {"*", "dead", 3}, {"nothing", "in", 0}} {
		if got := ledger.Total(counts, tt.stage, tt.outcome); got != tt.want {
			t.Errorf("Total(%s, %s) = %d, want %d", tt.stage, tt.outcome, got, tt.want)
		}
	}
}

func ExampleCheck() {
	counts := []schemas.Count{
		{Stage: "draw", Outcome: schemas.In, N: 3},
		{Stage: "draw", Outcome: schemas.Out, N: 2},
	}
	fmt.Println(ledger.Check(counts, map[string]int64{"images": 2}, []string{"draw.out = rows.images"}))
	// Output: ledger: stage draw: 3 in, but 2 out + 0 filtered + 0 dead
}
