package source_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	"github.com/google/go-cmp/cmp"
	"github.com/parquet-go/parquet-go"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/ledger"
	"github.com/promptmill/promptmill/transforms/source"
)

func TestMain(m *testing.M) { ptest.Main(m) }

func init() {
	beam.RegisterDoFn(reflect.TypeFor[keepPrompt]())
	beam.RegisterDoFn(reflect.TypeFor[keepPair]())
	beam.RegisterDoFn(reflect.TypeFor[keepRejected]())
	beam.RegisterDoFn(reflect.TypeFor[keepCount]())
}

// A result is what came out of one pipeline run in this process.
type result struct {
	mu       sync.Mutex
	prompts  []schemas.Prompt
	pairs    []schemas.RewritePair
	rejected []schemas.Rejected
	counts   []schemas.Count
}

var results sync.Map // by run

func at(run string) *result {
	r, _ := results.LoadOrStore(run, &result{})
	return r.(*result)
}

type keepPrompt struct{ Run string }

func (fn *keepPrompt) ProcessElement(p schemas.Prompt) {
	r := at(fn.Run)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.prompts = append(r.prompts, p)
}

type keepPair struct{ Run string }

func (fn *keepPair) ProcessElement(p schemas.RewritePair) {
	r := at(fn.Run)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pairs = append(r.pairs, p)
}

type keepRejected struct{ Run string }

func (fn *keepRejected) ProcessElement(d schemas.Rejected) {
	r := at(fn.Run)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rejected = append(r.rejected, d)
}

type keepCount struct{ Run string }

func (fn *keepCount) ProcessElement(c schemas.Count) {
	r := at(fn.Run)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts = append(r.counts, c)
}

// run reads with the transform on a runner, sorts what comes out and checks that the ledger balances.
func run(t *testing.T, runner string, cfg source.Config, pairs bool) (*result, error) {
	t.Helper()
	name := t.Name() + "/" + runner
	results.Delete(name)
	p, s := beam.NewPipelineWithRoot()
	var rejected, counts beam.PCollection
	if pairs {
		var rows beam.PCollection
		rows, rejected, counts = source.Pairs(s, cfg)
		beam.ParDo0(s, &keepPair{name}, rows)
	} else {
		var rows beam.PCollection
		rows, rejected, counts = source.Prompts(s, cfg)
		beam.ParDo0(s, &keepPrompt{name}, rows)
	}
	beam.ParDo0(s, &keepRejected{name}, rejected)
	beam.ParDo0(s, &keepCount{name}, counts)
	if _, err := beam.Run(context.Background(), runner, p); err != nil {
		return nil, err
	}
	r := at(name)
	slices.SortFunc(r.prompts, func(a, b schemas.Prompt) int {
		return strings.Compare(a.Text+a.SourceID, b.Text+b.SourceID)
	})
	slices.SortFunc(r.pairs, func(a, b schemas.RewritePair) int {
		return strings.Compare(a.Raw+a.Rewritten, b.Raw+b.Rewritten)
	})
	slices.SortFunc(r.rejected, func(a, b schemas.Rejected) int { return strings.Compare(a.Key, b.Key) })
	r.counts = ledger.Sum(r.counts)
	rows := map[string]int64{"out": int64(len(r.prompts) + len(r.pairs)), "rejected": int64(len(r.rejected))}
	if err := ledger.Check(r.counts, rows, []string{"source.out = rows.out", "source.dead = rows.rejected"}); err != nil {
		t.Error(err)
	}
	return r, nil
}

// bothRunners runs on prism and on direct and checks that the outputs are equal.
func bothRunners(t *testing.T, cfg source.Config, pairs bool) *result {
	t.Helper()
	prism, err := run(t, "prism", cfg, pairs)
	if err != nil {
		t.Fatalf("prism: %v", err)
	}
	direct, err := run(t, "direct", cfg, pairs)
	if err != nil {
		t.Fatalf("direct: %v", err)
	}
	for _, diff := range []string{
		cmp.Diff(prism.prompts, direct.prompts), cmp.Diff(prism.pairs, direct.pairs),
		cmp.Diff(prism.rejected, direct.rejected), cmp.Diff(prism.counts, direct.counts),
	} {
		if diff != "" {
			t.Errorf("prism (-) and direct (+) differ:\n%s", diff)
		}
	}
	return prism
}

func write(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func one(path string) source.Config {
	return source.Config{Inputs: []source.Input{{Name: "in", Path: path}}}
}

func gzipped(t *testing.T, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write(data)
	if err != nil || z.Close() != nil {
		t.Fatal("gzip")
	}
	return b.Bytes()
}

type row struct {
	ID     string  `json:"id" parquet:"id,optional"`
	Extra  int64   `json:"extra" parquet:"extra"`
	Prompt string  `json:"prompt" parquet:"prompt,optional,dict"`
	NSFW   float32 `json:"nsfw" parquet:"nsfw"`
}

// encode writes rows in a format.
func encode(t *testing.T, format string, rows []row) []byte {
	t.Helper()
	var b bytes.Buffer
	var err error
	switch format {
	case source.JSONL:
		for _, r := range rows {
			line, _ := json.Marshal(r)
			b.Write(append(line, '\n'))
		}
	case source.JSON:
		var all []byte
		all, err = json.MarshalIndent(rows, "", "  ")
		b.Write(all)
	case source.CSV:
		w := csv.NewWriter(&b)
		_ = w.Write([]string{"id", "extra", "prompt"})
		for _, r := range rows {
			_ = w.Write([]string{r.ID, fmt.Sprint(r.Extra), r.Prompt})
		}
		w.Flush()
		err = w.Error()
	case source.TSV:
		b.WriteString("prompt\textra\tid\n")
		for _, r := range rows {
			fmt.Fprintf(&b, "%s\t%d\t%s\n", r.Prompt, r.Extra, r.ID)
		}
	case source.Text:
		for _, r := range rows {
			b.WriteString(r.Prompt + "\n")
		}
	case source.Parquet:
		w := parquet.NewGenericWriter[row](&b, parquet.MaxRowsPerRowGroup(3))
		if _, err = w.Write(rows); err == nil {
			err = w.Close()
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

var sample = []row{
	{"a1", 1, "a cat, sitting on a \"mat\"", 0.1},
	{"a2", 2, "  two   spaces\u00a0and a hard one ", 0.2},
	{"a3", 3, "cafe\u0301 in Paris", 0.3}, // e and a combining accent
	{"a4", 4, "猫が座っている", 0.4},
	{"a4", 5, "the same id again", 0.5},
	{"a6", 6, "a backslash \\n and a quote \"", 0.6},
	{"a7", 7, "\U0001f469\u200d\U0001f680 in space", 0.7},
	{"a8", 8, `"quoted" at the start`, 0.8},
}

var wantTexts = []string{
	"a cat, sitting on a \"mat\"", "two spaces and a hard one", "caf\u00e9 in Paris", "猫が座っている", "the same id again",
	"a backslash \\n and a quote \"", "\U0001f469\u200d\U0001f680 in space", `"quoted" at the start`,
}

func wantPrompts(ids bool) []schemas.Prompt {
	var want []schemas.Prompt
	for i, s := range wantTexts {
		p := schemas.Prompt{ID: schemas.PromptID(s), Text: s, Source: "in"}
		if ids {
			p.SourceID = sample[i].ID
		}
		want = append(want, p)
	}
	slices.SortFunc(want, func(a, b schemas.Prompt) int { return strings.Compare(a.Text, b.Text) })
	return want
}

// Every format gives the same rows, packed or not, on both runners.
func TestFormats(t *testing.T) {
	for _, format := range []string{source.JSONL, source.JSON, source.CSV, source.TSV, source.Text, source.Parquet} {
		ending := strings.Replace(format, "text", "txt", 1)
		data := encode(t, format, sample)
		files := map[string][]byte{"x." + ending: data}
		if format != source.Parquet {
			files["x."+ending+".gz"] = gzipped(t, data)
			files["bom."+ending] = append([]byte("\xef\xbb\xbf"), data...)
			files["crlf."+ending] = bytes.ReplaceAll(data, []byte("\n"), []byte("\r\n"))
			files["noend."+ending] = bytes.TrimRight(data, "\n")
		}
		if format == source.JSONL {
			files["lines.json"] = data
		}
		for name, data := range files {
			t.Run(name, func(t *testing.T) {
				cfg := one(write(t, name, data))
				if err := source.Inspect(context.Background(), cfg); err != nil {
					t.Errorf("Inspect: %v", err)
				}
				got := bothRunners(t, cfg, false)
				if diff := cmp.Diff(wantPrompts(format != source.Text), got.prompts); diff != "" {
					t.Errorf("(-want +got)\n%s", diff)
				}
			})
		}
	}
}

// A directory, a glob and several inputs are read in full; what is not data is passed over.
func TestPlaces(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a.txt": "one\n", "b.jsonl": `{"prompt":"two"}`, "c.csv": "prompt\nthree\n", "README.md": "no\n", "_SUCCESS.txt": "no\n", ".hidden.txt": "no\n", "e.txt": "",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg := source.Config{Inputs: []source.Input{
		{Name: "dir", Path: dir},
		{Name: "glob", Path: filepath.Join(dir, "[ab].*")},
		{Name: "first", Path: dir, MaxRows: 2},
		{Name: "only", Path: dir, Format: source.CSV},
	}}
	var got []string
	for _, p := range bothRunners(t, cfg, false).prompts {
		got = append(got, p.Source+":"+p.Text)
	}
	slices.Sort(got)
	want := []string{"dir:one", "dir:three", "dir:two", "first:one", "first:two", "glob:one", "glob:two", "only:three"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// Enough rows for several ranges, on more than one worker.
func TestManyRanges(t *testing.T) {
	var b bytes.Buffer
	const n = 20_000
	for i := range n {
		fmt.Fprintf(&b, "{\"id\":%d,\"prompt\":\"prompt number %d %s\"}\n", i, i, strings.Repeat("x", 250))
	}
	got := bothRunners(t, one(write(t, "many.jsonl", b.Bytes())), false)
	ids := map[string]bool{}
	for _, p := range got.prompts {
		ids[p.SourceID] = true
	}
	if len(got.prompts) != n || len(ids) != n {
		t.Errorf("%d rows, %d distinct, want %d", len(got.prompts), len(ids), n)
	}
}
