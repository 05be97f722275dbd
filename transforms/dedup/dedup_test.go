package dedup_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	"github.com/google/go-cmp/cmp"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/dedup"
	"github.com/promptmill/promptmill/transforms/dedup/shingle"
	"github.com/promptmill/promptmill/transforms/ledger"
	"github.com/promptmill/promptmill/transforms/source"
)

func TestMain(m *testing.M) { ptest.Main(m) }

func init() {
	beam.RegisterDoFn(reflect.TypeFor[keepFn]())
	beam.RegisterDoFn(reflect.TypeFor[countFn]())
}

type result struct {
	sync.Mutex
	prompts []schemas.Prompt
	counts  []schemas.Count
}

var results sync.Map

func at(run string) *result {
	r, _ := results.LoadOrStore(run, &result{})
	return r.(*result)
}

type keepFn struct{ Run string }

func (fn *keepFn) ProcessElement(p schemas.Prompt) {
	r := at(fn.Run)
	r.Lock()
	defer r.Unlock()
	r.prompts = append(r.prompts, p)
}

type countFn struct{ Run string }

func (fn *countFn) ProcessElement(c schemas.Count) {
	r := at(fn.Run)
	r.Lock()
	defer r.Unlock()
	r.counts = append(r.counts, c)
}

// near runs the transform and returns the sorted texts that stay and the ledger, which it checks.
func near(t *testing.T, runner string, cfg dedup.Config, in []schemas.Prompt) ([]string, map[string]int64) {
	t.Helper()
	run := t.Name() + runner
	results.Delete(run)
	p, s := beam.NewPipelineWithRoot()
	kept, counts := dedup.Near(s, cfg, beam.CreateList(s, in))
	beam.ParDo0(s, &keepFn{run}, kept)
	beam.ParDo0(s, &countFn{run}, counts)
	if _, err := beam.Run(context.Background(), runner, p); err != nil {
		t.Fatal(err)
	}
	r := at(run)
	rows := map[string]int64{"in": int64(len(in)), "out": int64(len(r.prompts))}
	if err := ledger.Check(r.counts, rows, []string{"dedup.in = rows.in", "dedup.out = rows.out"}); err != nil {
		t.Error(err)
	}
	var texts []string
	for _, p := range r.prompts {
		texts = append(texts, p.Text)
	}
	slices.Sort(texts)
	filtered := map[string]int64{}
	for _, c := range ledger.Sum(r.counts) {
		if c.Outcome == schemas.Filtered {
			filtered[c.Reason] = c.N
		}
	}
	return texts, filtered
}

func prompts(texts ...string) []schemas.Prompt {
	var out []schemas.Prompt
	for i, s := range texts {
		out = append(out, schemas.Prompt{ID: schemas.PromptID(s), Text: s, Source: "s", SourceID: fmt.Sprint(i)})
	}
	return out
}

const (
	long1 = "a castle on a hill at sunset highly detailed digital painting artstation concept art smooth sharp focus illustration"
	long2 = "a castle on a hill at sunset highly detailed digital painting artstation concept art smooth sharp focus illustrations"
	long3 = "a harbour in the fog at dawn highly detailed digital painting artstation concept art smooth sharp focus illustration"
)

func TestModes(t *testing.T) {
	in := prompts("a cat", "A cat!", "a cat", "a dog", "!!", "??", long1, long2, long3)
	one := func(a, b string) string { // the one of lower rank
		if schemas.Rank(5, schemas.PromptID(a)) < schemas.Rank(5, schemas.PromptID(b)) {
			return a
		}
		return b
	}
	tests := []struct {
		name     string
		cfg      dedup.Config
		want     []string
		filtered map[string]int64
	}{
		{"off", dedup.Config{Mode: dedup.ModeOff}, []string{"a cat", "A cat!", "a cat", "a dog", "!!", "??", long1, long2, long3}, map[string]int64{}},
		{"exact", dedup.Config{Mode: dedup.ModeExact}, []string{one("a cat", "A cat!"), "a dog", "!!", "??", long1, long2, long3}, map[string]int64{"exact_duplicate": 2}},
		{"as they are", dedup.Config{Mode: dedup.ModeExact, KeepPunctuation: true}, []string{"a cat", "A cat!", "a dog", "!!", "??", long1, long2, long3}, map[string]int64{"exact_duplicate": 1}},
		{"near", dedup.Config{Mode: dedup.ModeNear}, []string{one("a cat", "A cat!"), "a dog", "!!", "??", one(long1, long2), long3}, map[string]int64{"exact_duplicate": 2, "near_duplicate": 1}},
		{"strict", dedup.Config{Mode: dedup.ModeNear, Threshold: 0.95}, []string{one("a cat", "A cat!"), "a dog", "!!", "??", long1, long2, long3}, map[string]int64{"exact_duplicate": 2}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.cfg.Seed = 5
			slices.Sort(tt.want)
			for _, runner := range []string{"prism", "direct"} {
				got, filtered := near(t, runner, tt.cfg, in)
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("%s: kept (-want +got)\n%s", runner, diff)
				}
				if diff := cmp.Diff(tt.filtered, filtered); diff != "" {
					t.Errorf("%s: filtered (-want +got)\n%s", runner, diff)
				}
			}
		})
	}
}

// variants makes families of like texts: some words of a base are replaced.
func variants(rng *rand.Rand, families, each int) []string {
	var out []string
	for range families {
		words := make([]string, 8+rng.IntN(30))
		for i := range words {
			words[i] = fmt.Sprintf("w%d", rng.IntN(3000))
		}
		for range each {
			v := slices.Clone(words)
			for range rng.IntN(3) {
				v[rng.IntN(len(v))] = fmt.Sprintf("x%d", rng.IntN(3000))
			}
			out = append(out, strings.Join(v, " "))
		}
	}
	return out
}

// The result is what comparing all pairs by the documented rule gives, whatever the order.
func TestAgainstAllPairs(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	in := prompts(variants(rng, 60, 5)...)
	byText := map[string]schemas.Prompt{}
	for _, p := range in {
		byText[p.Text] = p
	}
	less := func(a, b schemas.Prompt) bool {
		ra, rb := schemas.Rank(1, a.ID), schemas.Rank(1, b.ID)
		return ra < rb || ra == rb && a.ID < b.ID
	}
	var want []string
	for _, p := range byText {
		drop := false
		for _, q := range byText {
			drop = drop || less(q, p) && shingle.Jaccard(shingle.Set(p.Text, 3, 0), shingle.Set(q.Text, 3, 0), 0) >= 0.8
		}
		if !drop {
			want = append(want, p.Text)
		}
	}
	slices.Sort(want)
	cfg := dedup.Config{Mode: dedup.ModeNear, Seed: 1}
	for i := range 2 {
		rng.Shuffle(len(in), func(i, j int) { in[i], in[j] = in[j], in[i] })
		got, filtered := near(t, []string{"prism", "direct"}[i], cfg, in)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-all pairs +got)\n%s", diff)
		}
		if filtered["near_duplicate"] < 20 {
			t.Errorf("only %v were filtered: the test shows nothing", filtered)
		}
	}
}

// A hot bucket costs at most 64 comparisons a prompt: what is like one of the first 64 is dropped, what
// is like a later one only is not found here.
func TestHotBucket(t *testing.T) {
	sets := make([][]uint32, 200)
	for i := range sets {
		sets[i] = []uint32{uint32(2 * i), uint32(2*i + 1)}
	}
	sets[150], sets[160], sets[170] = sets[0], sets[63], sets[64]
	if got := dedup.Bucket(0.8, sets); !slices.Equal(got, []int{150, 160}) {
		t.Errorf("dropped %v, want 150 and 160", got)
	}
}

// The real sample, in a few seconds.
func TestRealPrompts(t *testing.T) {
	var in []schemas.Prompt
	for p, err := range source.Read(context.Background(), source.Input{Name: "sd", Path: "../../testdata/prompts/sd_prompts_all.jsonl.gz"}) {
		if err != nil {
			t.Fatal(err)
		}
		in = append(in, p)
	}
	got, filtered := near(t, "prism", dedup.Config{Mode: dedup.ModeNear}, in)
	t.Logf("%d prompts, %d stay, %v filtered", len(in), len(got), filtered)
	if len(in) < 5000 || filtered["near_duplicate"] == 0 || len(got) < len(in)/2 {
		t.Errorf("%d of %d stay, filtered %v", len(got), len(in), filtered)
	}
}

func TestValidate(t *testing.T) {
	err := dedup.Config{Mode: "some", ShingleWords: -1, Threshold: 0.2}.Validate()
	for _, want := range []string{"dedup.mode: ", "dedup.shingle_words: ", "dedup.threshold: "} {
		if err == nil || !strings.Contains("\n"+err.Error(), "\n"+want) {
			t.Errorf("no line %q in %v", want, err)
		}
	}
	cfg := dedup.Config{Mode: dedup.ModeNear, KeepPunctuation: true, ShingleWords: 2, Threshold: 0.9, Seed: 3}
	data, _ := json.Marshal(cfg)
	var back dedup.Config
	if err := json.Unmarshal(data, &back); err != nil || back != cfg {
		t.Errorf("round trip: %+v, %v", back, err)
	}
}
