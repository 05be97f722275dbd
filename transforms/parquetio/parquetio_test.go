package parquetio_test

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	_ "github.com/apache/beam/sdks/v2/go/pkg/beam/runners/direct" //nolint:staticcheck // deprecated, kept to compare rows with
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	gocmp "github.com/google/go-cmp/cmp"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/transforms/ledger"
	"github.com/promptmill/promptmill/transforms/parquetio"
)

func TestMain(m *testing.M) { ptest.Main(m) }

func init() {
	beam.RegisterDoFn(reflect.TypeFor[keepShardFn]())
	beam.RegisterDoFn(reflect.TypeFor[keepCountFn]())
}

// written gathers what the pipelines of the tests, all in this process, put out; the keys are the tests' folders.
var written struct {
	sync.Mutex
	shards map[string][]schemas.Shard
	counts map[string][]schemas.Count
}

type keepShardFn struct{ Test string }

func (f *keepShardFn) ProcessElement(s schemas.Shard) {
	written.Lock()
	defer written.Unlock()
	written.shards[f.Test] = append(written.shards[f.Test], s)
}

type keepCountFn struct{ Test string }

func (f *keepCountFn) ProcessElement(c schemas.Count) {
	written.Lock()
	defer written.Unlock()
	written.counts[f.Test] = append(written.counts[f.Test], c)
}

// config is a good configuration with a store of its own.
func config(t testing.TB) parquetio.WriteConfig {
	return parquetio.WriteConfig{Store: t.TempDir(), Dir: "runs/r1", Config: "rows", Stage: "write", Seed: 7, Buckets: 3}
}

// write runs Write over rows, which come from so many collections, on a runner.
func write[T schemas.Row](t testing.TB, runner string, cfg parquetio.WriteConfig, rows []T, bundles int) ([]schemas.Shard, []schemas.Count, error) {
	t.Helper()
	p, s := beam.NewPipelineWithRoot()
	var parts []beam.PCollection
	for i := range bundles {
		parts = append(parts, beam.CreateList(s, rows[i*len(rows)/bundles:(i+1)*len(rows)/bundles]))
	}
	shards, counts := parquetio.Write[T](s, cfg, parts...)
	written.Lock()
	written.shards, written.counts = map[string][]schemas.Shard{}, map[string][]schemas.Count{}
	written.Unlock()
	beam.ParDo0(s, &keepShardFn{Test: cfg.Store}, shards)
	beam.ParDo0(s, &keepCountFn{Test: cfg.Store}, counts)
	_, err := beam.Run(context.Background(), runner, p)
	got := written.shards[cfg.Store]
	slices.SortFunc(got, func(a, b schemas.Shard) int {
		return cmp.Or(cmp.Compare(a.Split, b.Split), cmp.Compare(a.Index, b.Index))
	})
	return got, ledger.Sum(written.counts[cfg.Store]), err
}

func mustWrite[T schemas.Row](t testing.TB, cfg parquetio.WriteConfig, rows []T) ([]schemas.Shard, []schemas.Count) {
	t.Helper()
	shards, counts, err := write(t, "prism", cfg, rows, 1)
	if err != nil {
		t.Fatal(err)
	}
	return shards, counts
}

func open(t testing.TB, url string) store.Store {
	t.Helper()
	st, err := store.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// read reads all rows of shards in order.
func read[T schemas.Row](t testing.TB, url string, shards []schemas.Shard) (rows []T) {
	t.Helper()
	err := parquetio.Rows(t.Context(), open(t, url), shards, func(r T) error {
		rows = append(rows, r)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// sorted is rows in the order that Write promises.
func sorted[T schemas.Row](seed int64, rows []T) []T {
	rows = slices.Clone(rows)
	slices.SortFunc(rows, func(a, b T) int {
		return cmp.Or(cmp.Compare(schemas.Rank(seed, a.RowKey()), schemas.Rank(seed, b.RowKey())), cmp.Compare(a.RowTie(), b.RowTie()))
	})
	return rows
}

var uuids = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

// anonymous is shards without what differs between attempts.
func anonymous(shards []schemas.Shard) []schemas.Shard {
	shards = slices.Clone(shards)
	for i := range shards {
		shards[i].Object = uuids.ReplaceAllString(shards[i].Object, "UUID")
	}
	return shards
}

func TestWriteIsTheSameAtAnyParallelism(t *testing.T) {
	rows := chats(500)
	reversed := slices.Clone(rows)
	slices.Reverse(reversed)
	cfg := config(t)
	want, wantCounts := mustWrite(t, cfg, rows)
	if len(want) != cfg.Buckets || want[2].Object != path.Join("runs/r1/rows/train-00002-"+uuids.FindString(want[2].Object)+".parquet") {
		t.Fatalf("shards %+v", want)
	}
	if diff := gocmp.Diff(sorted(cfg.Seed, rows), read[schemas.ChatExample](t, cfg.Store, want)); diff != "" {
		t.Errorf("(-want +read):\n%s", diff)
	}
	for _, tt := range []struct {
		runner  string
		bundles int
		rows    []schemas.ChatExample
		buffer  int
	}{
		{"prism", 8, rows, 0},
		{"prism", 8, reversed, 1000},
		{"direct", 1, rows, 0},
		{"direct", 3, reversed, 2000},
	} {
		t.Run(fmt.Sprint(tt.runner, tt.bundles, tt.buffer), func(t *testing.T) {
			cfg := config(t)
			cfg.BufferBytes = tt.buffer
			got, counts, err := write(t, tt.runner, cfg, tt.rows, tt.bundles)
			if err != nil {
				t.Fatal(err)
			}
			// Equal bytes and SHA-256: equal files.
			if diff := gocmp.Diff(anonymous(want), anonymous(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if diff := gocmp.Diff(wantCounts, counts); diff != "" {
				t.Errorf("counts (-want +got):\n%s", diff)
			}
		})
	}
}

func TestBucketsDoNotChangeTheRows(t *testing.T) {
	rows := prompts(300)
	var sums []schemas.Sum
	for _, buckets := range []int{1, 8, 300} {
		cfg := config(t)
		cfg.Buckets = buckets
		shards, _ := mustWrite(t, cfg, rows)
		if diff := gocmp.Diff(sorted(cfg.Seed, rows), read[schemas.Prompt](t, cfg.Store, shards)); diff != "" {
			t.Errorf("%d buckets (-want +read):\n%s", buckets, diff)
		}
		var sum schemas.Sum
		for _, s := range shards {
			if err := parquetio.Verify(t.Context(), open(t, cfg.Store), s); err != nil {
				t.Error(err)
			}
			part, err := schemas.ParseSum(s.RowSum)
			if err != nil {
				t.Fatal(err)
			}
			sum.Add(part)
		}
		sums = append(sums, sum)
	}
	if sums[0] != sums[1] || sums[0] != sums[2] {
		t.Errorf("digests %v", sums)
	}
}

func TestWriteUnique(t *testing.T) {
	var rows []schemas.Prompt
	for i, p := range prompts(60) {
		for _, source := range []string{"c", "bb", "a"}[:1+i%3] {
			p.Source = source
			rows = append(rows, p)
		}
	}
	for _, unique := range []bool{true, false} {
		cfg := config(t)
		cfg.Unique = unique
		shards, counts := mustWrite(t, cfg, rows)
		got := read[schemas.Prompt](t, cfg.Store, shards)
		want := sorted(cfg.Seed, rows)
		if unique {
			want = slices.CompactFunc(want, func(a, b schemas.Prompt) bool { return a.ID == b.ID })
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Errorf("unique %v (-want +got):\n%s", unique, diff)
		}
		if err := ledger.Check(counts, map[string]int64{"rows": int64(len(got))}, []string{"write.out = rows.rows", fmt.Sprint("write.in = ", len(rows))}); err != nil {
			t.Error(err)
		}
		filtered := ledger.Total(counts, "write", schemas.Filtered)
		if n := int64(len(rows) - len(got)); filtered != n || unique && (n != 60 || !slices.Contains(counts, schemas.Count{Stage: "write", Outcome: schemas.Filtered, Reason: parquetio.ReasonDuplicate, N: n})) {
			t.Errorf("unique %v: counts %v", unique, counts)
		}
	}
}

func TestWriteSplits(t *testing.T) {
	var rows []schemas.PreferencePair
	for i, r := range preferences(1000) {
		r.PromptID = fmt.Sprint("p", i/2)
		rows = append(rows, r)
	}
	cfg := config(t)
	cfg.Splits = []parquetio.Split{{Name: "train", Permille: 800}, {Name: "none", Permille: 0}, {Name: "test", Permille: 200}}
	shards, _ := mustWrite(t, cfg, rows)
	split, n := map[string]string{}, map[string]int{}
	for _, s := range shards {
		for _, r := range read[schemas.PreferencePair](t, cfg.Store, []schemas.Shard{s}) {
			if other, ok := split[r.PromptID]; ok && other != s.Split {
				t.Errorf("prompt %s is in %s and %s", r.PromptID, other, s.Split)
			}
			split[r.PromptID] = s.Split
			n[s.Split]++
		}
	}
	if n["train"]+n["test"] != len(rows) || n["test"] < 120 || n["test"] > 280 || n["none"] != 0 {
		t.Errorf("rows by split: %v", n)
	}
}

func TestWriteEmpty(t *testing.T) {
	cfg := config(t)
	shards, counts := mustWrite(t, cfg, []schemas.Reward{})
	if len(shards) != 0 || len(counts) != 0 {
		t.Errorf("shards %v, counts %v", shards, counts)
	}
	for info, err := range open(t, cfg.Store).List(t.Context(), "") {
		t.Errorf("object %s, %v", info.Name, err)
	}
}

func TestWriteRefusesBadRows(t *testing.T) {
	rows := preferences(3)
	rows[1].Margin = -1
	_, _, err := write(t, "prism", config(t), rows, 1)
	if err == nil || !strings.Contains(err.Error(), "preference x1: field margin") {
		t.Errorf("got %v", err)
	}
}

func TestWriteConfigValidate(t *testing.T) {
	err := parquetio.WriteConfig{
		Config: "a/b", Buckets: 5000, RowGroup: -1, BufferBytes: -1,
		Splits: []parquetio.Split{{Name: "train", Permille: 900}, {Name: "train", Permille: -1}},
	}.Validate()
	for _, want := range []string{
		"write.store: empty", "write.dir: empty", "write.stage: empty", "write.config: \"a/b\" has a slash", "write.buckets: 5000 is not in 1..4096", "write.row_group: -1",
		"write.buffer_bytes: -1", `write.splits[1].name: "train"`, "write.splits[1].permille: -1", "write.splits: the permille add up to 899, not 1000",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
	if err := config(t).Validate(); err != nil {
		t.Error(err)
	}
	defer func() {
		if recover() == nil {
			t.Error("Write took a bad configuration")
		}
	}()
	_, s := beam.NewPipelineWithRoot()
	parquetio.Write[schemas.Prompt](s, parquetio.WriteConfig{}, beam.CreateList(s, prompts(1)))
}

// allSet fails if a field of v is zero, so that a round trip compares something.
func allSet(t *testing.T, v any) {
	t.Helper()
	rv := reflect.ValueOf(v)
	for i := range rv.NumField() {
		if rv.Field(i).IsZero() {
			t.Errorf("field %s of %T is not set", rv.Type().Field(i).Name, v)
		}
	}
}
