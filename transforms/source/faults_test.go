package source_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/parquet-go/parquet-go"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/source"
)

// A bad record is a dead letter with a typed reason; the records around it live.
func TestBadRecords(t *testing.T) {
	long := strings.Repeat("long ", 2<<20) // 10 MB
	tests := []struct {
		name, file, data string
		limits           source.Limits
		filter           source.Filter
		want             []string // texts
		dead             []string // key reason
		filtered         map[string]int64
	}{
		{
			name: "not JSON", file: "a.jsonl", data: "{\"prompt\":\"x\"}\n{\"prompt\":\n\n[1]\n\"text\"\n{\"prompt\":\"y\"}",
			want: []string{"x", "y"}, dead: []string{"in:a.jsonl@15 bad_json", "in:a.jsonl@27 bad_json", "in:a.jsonl@31 bad_json"},
		},
		{
			name: "nested and other types", file: "a.jsonl",
			data: `{"prompt":{"text":"x"}}` + "\n" + `{"prompt":["x"]}` + "\n" + `{"prompt":7}` + "\n" + `{"prompt":null}` + "\n" + `{"meta":{"prompt":"in vain","a":[{"prompt":"}"}]},"\u0070rompt":"x\u00e9\n\ty","id":{}}`,
			want: []string{"xé y"}, dead: []string{"in:a.jsonl@0 not_text", "in:a.jsonl@24 not_text", "in:a.jsonl@41 not_text", "in:a.jsonl@54 not_text"},
		},
		{
			name: "column of another case", file: "a.jsonl", data: "{\"prompt\":\"x\"}\n{\"Prompt\":\"y\"}\n{}",
			want: []string{"x"}, dead: []string{"in:a.jsonl@15 missing_column", "in:a.jsonl@30 missing_column"},
		},
		{
			name: "bytes", file: "a.txt", data: "x\n\xff\xfe\nnul\x00byte\n \u00a0 \n\u00a0\n\ny\n",
			want: []string{"x", "y"}, dead: []string{"in:a.txt@2 invalid_utf8", "in:a.txt@5 control_char"},
		},
		{
			name: "empty text", file: "a.jsonl", data: "{\"prompt\":\" \\n \"}\n{\"prompt\":\"\"}\n{\"prompt\":\"x\"}",
			want: []string{"x"}, dead: []string{"in:a.jsonl@0 empty", "in:a.jsonl@18 empty"},
		},
		{
			name: "10 MB line", file: "a.jsonl", data: `{"prompt":"` + long + "\"}\n{\"prompt\":\"x\"}",
			want: []string{"x"}, dead: []string{"in:a.jsonl@0 line_too_long"},
		},
		{
			name: "10 MB element", file: "a.json", data: `[{"prompt":"` + long + "\"}, {\"prompt\":\"x\"}, {\"prompt\":}, , {\"prompt\":\"\xff\"}]",
			want: []string{"x"}, dead: []string{"in:a.json@1 line_too_long", "in:a.json@10485792 bad_json", "in:a.json@10485805 bad_json", "in:a.json@10485807 invalid_utf8"},
		},
		{
			name: "10 MB field", file: "a.csv", data: "prompt\nx\n\"" + long + "\"\ny\n",
			want: []string{"x", "y"}, dead: []string{"in:a.csv@9 line_too_long"},
		},
		{
			name: "ragged CSV", file: "a.csv", data: "id,prompt\n1,x\n2\n3,y,z\n4,\"y, z\"\n",
			want: []string{"x", "y, z"}, dead: []string{"in:a.csv@14 ragged_row", "in:a.csv@16 ragged_row"},
		},
		{
			name: "ragged TSV", file: "a.tsv", data: "id\tprompt\n1\tx\n2\n3\ty\tz\n",
			want: []string{"x"}, dead: []string{"in:a.tsv@14 ragged_row", "in:a.tsv@16 ragged_row"},
		},
		{
			name: "CSV quotes", file: "a.csv", data: "id,prompt\n1,\"open\n2,x\n3,\"a\"b\n4,a 12\" disc\n5,\"two\r\nlines, \"\"said\"\"\"\n6,\"open again",
			want: []string{"x", "a 12\" disc", "two lines, \"said\""}, dead: []string{"in:a.csv@10 bad_csv", "in:a.csv@22 bad_csv", "in:a.csv@67 bad_csv"},
		},
		{
			name: "one-column CSV", file: "a.csv", data: "prompt\r\nx\r\n\r\n\"\"\r\ny",
			want: []string{"x", "y"}, dead: []string{"in:a.csv@13 empty"},
		},
		{
			name: "limits", file: "a.txt", data: "ab\nabc\nabcdef\nabcdefg\na b c d\nслово\n",
			limits: source.Limits{MinChars: 3, MaxChars: 6, MaxWords: 3, Language: source.Latin},
			want:   []string{"abc", "abcdef"}, filtered: map[string]int64{"too_short": 1, "too_long": 2, "language": 1},
		},
		{
			name: "english", file: "a.txt", data: "a house by André Derain at the sea side in the sun\nein schönes Häuschen für Bücher\n猫\n8 4\n",
			limits: source.Limits{Language: source.English},
			want:   []string{"a house by André Derain at the sea side in the sun"}, filtered: map[string]int64{"language": 3},
		},
		{
			name: "nsfw", file: "a.jsonl", data: `{"prompt":"x","prompt_nsfw":0.2}` + "\n" + `{"prompt":"y","prompt_nsfw":2}` + "\n" + `{"prompt":"z","prompt_nsfw":"high"}`,
			filter: source.Filter{MaxPromptNSFW: 0.5}, want: []string{"x"}, dead: []string{"in:a.jsonl@64 not_number"}, filtered: map[string]int64{"nsfw": 1},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := one(write(t, tt.file, []byte(tt.data)))
			cfg.Limits, cfg.Inputs[0].Filter = tt.limits, tt.filter
			got := bothRunners(t, cfg, false)
			texts := map[string]bool{}
			for _, p := range got.prompts {
				texts[p.Text] = true
			}
			if diff := cmp.Diff(set(tt.want), texts); diff != "" {
				t.Errorf("texts (-want +got)\n%s", diff)
			}
			dead := map[string]bool{}
			for _, d := range got.rejected {
				dead[d.Key+" "+d.Reason] = true
				if d.Stage != "source" || d.Detail == "" || len(d.Payload) > 8<<10 || !utf8.ValidString(d.Payload+d.Detail) {
					t.Errorf("dead letter %+.200v", d)
				}
			}
			if diff := cmp.Diff(set(tt.dead), dead); diff != "" {
				t.Errorf("dead (-want +got)\n%s", diff)
			}
			filtered := map[string]int64{}
			for _, c := range got.counts {
				if c.Outcome == schemas.Filtered {
					filtered[c.Reason] = c.N
				}
			}
			if len(filtered)+len(tt.filtered) > 0 {
				if diff := cmp.Diff(tt.filtered, filtered); diff != "" {
					t.Errorf("filtered (-want +got)\n%s", diff)
				}
			}
		})
	}
}

func set(list []string) map[string]bool {
	m := map[string]bool{}
	for _, s := range list {
		m[s] = true
	}
	return m
}

// A file that is not what it should be is named before the run, with what to do, and fails the run.
func TestBadFiles(t *testing.T) {
	pq := encode(t, source.Parquet, sample)
	other := func() []byte {
		type upper struct {
			Prompt string   `parquet:"Prompt"`
			N      int64    `parquet:"n"`
			List   []string `parquet:"list,list"`
		}
		var b bytes.Buffer
		w := parquet.NewGenericWriter[upper](&b)
		if _, err := w.Write([]upper{{"x", 1, nil}}); err != nil || w.Close() != nil {
			t.Fatal("write")
		}
		return b.Bytes()
	}()
	tests := []struct {
		name, file string
		data       []byte
		columns    map[string]string
		want       string
		runs       bool // the fault costs rows, not the run
	}{
		{name: "empty file", file: "a.jsonl", want: "no records", runs: true},
		{name: "only a header", file: "a.csv", data: []byte("prompt\n"), want: "no records", runs: true},
		{name: "empty array", file: "a.json", data: []byte(" [ ] "), want: "no records", runs: true},
		{name: "empty Parquet file", file: "a.parquet", want: "the file is empty"},
		{name: "Parquet without rows", file: "a.parquet", data: encode(t, source.Parquet, nil), want: "no records", runs: true},
		{name: "truncated Parquet", file: "a.parquet", data: pq[:len(pq)-20], want: "cut short"},
		{name: "truncated Parquet head", file: "a.parquet", data: pq[len(pq)/2:], want: ""},
		{name: "not Parquet", file: "a.parquet", data: []byte("hello there, this is text"), want: "not a Parquet file"},
		{name: "Parquet column of another case", file: "a.parquet", data: other, want: `no column "prompt", but there is "Prompt"`},
		{name: "Parquet column of numbers", file: "a.parquet", data: other, columns: map[string]string{"prompt": "n"}, want: "not text"},
		{name: "Parquet list column", file: "a.parquet", data: other, columns: map[string]string{"prompt": "list"}, want: "list or a struct"},
		{name: "CSV column of another case", file: "a.csv", data: []byte("PROMPT\nx\n"), want: `but there is "PROMPT"`},
		{name: "endless header", file: "a.tsv", data: bytes.Repeat([]byte("x"), 2<<20), want: "header is longer"},
		{name: "open quote in the header", file: "a.csv", data: []byte("\"prompt\nx\n"), want: "the header is no CSV record"},
		{name: "no such column", file: "a.tsv", data: []byte("a\tb\nx\ty\n"), want: `no column "prompt": there is "a", "b"`},
		{name: "column twice", file: "a.csv", data: []byte("prompt,prompt\nx,y\n"), want: "there twice"},
		{name: "named id missing", file: "a.csv", data: []byte("prompt\nx\n"), columns: map[string]string{"id": "key"}, want: `no column "key"`},
		{name: "JSON of another case", file: "a.jsonl", data: []byte(`{"Prompt":"x"}`), want: `but there is "Prompt"`, runs: true},
		{name: "truncated array", file: "a.json", data: []byte(`[{"prompt":"x"}, {"prom`), want: "cut short"},
		{name: "array and more", file: "a.json", data: []byte(`[{"prompt":"x"}] []`), want: "after the end of the array"},
		{name: "not an array", file: "a.json", data: []byte(`"x"`), want: "JSON array"},
		{name: "truncated gzip", file: "a.txt.gz", data: gzipped(t, []byte("x\n"))[:12], want: "EOF"},
		{name: "not gzip", file: "a.txt.gz", data: []byte("x\nyyyyyyyyyyyyyyyyy"), want: "not a gzip file"},
		{name: "unknown ending", file: "a.dat", data: []byte("x"), want: "set the input's format"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := write(t, tt.file, tt.data)
			cfg := one(path)
			cfg.Inputs[0].Columns = tt.columns
			err := source.Inspect(context.Background(), cfg)
			if tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) || !strings.HasPrefix(err.Error(), "source.inputs[0].path: ")) {
				t.Errorf("Inspect: %v, want the path and %q", err, tt.want)
			}
			for _, runner := range []string{"prism", "direct"} {
				if _, err := run(t, runner, cfg, false); (err == nil) != tt.runs {
					t.Errorf("%s: %v", runner, err)
				}
			}
		})
	}
}

// All faults of all inputs come at once.
func TestInspectJoins(t *testing.T) {
	dir := t.TempDir()
	cfg := source.Config{Inputs: []source.Input{
		{Name: "gone", Path: filepath.Join(dir, "gone.jsonl")},
		{Name: "glob", Path: filepath.Join(dir, "*.csv")},
		{Name: "dir", Path: dir},
		{Name: "good", Path: write(t, "a.txt", []byte("x"))},
	}}
	err := source.Inspect(context.Background(), cfg)
	for _, want := range []string{"source.inputs[0].path: input gone", "source.inputs[1].path: input glob", "nothing matches", "source.inputs[2].path: input dir", "has no file to read"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in: %v", want, err)
		}
	}
	if err != nil && strings.Contains(err.Error(), "good") {
		t.Errorf("the good input is in: %v", err)
	}
}

// Whatever bytes of a Parquet file are wrong, reading ends with rows or an error, not with a panic.
func TestDamagedParquet(t *testing.T) {
	good := encode(t, source.Parquet, sample)
	rng := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		bad := bytes.Clone(good)
		for range 1 + rng.IntN(3) {
			bad[rng.IntN(len(bad))] ^= byte(1 << rng.IntN(8))
		}
		rows, err := source.Ranges(source.Parquet, bad, nil, 1<<20, 0)
		if err == nil && len(rows) > 1000 {
			t.Fatalf("%d rows", len(rows))
		}
	}
}

// The digest is of the content, not of the names, and sees every byte.
func TestDigest(t *testing.T) {
	ctx := context.Background()
	a := one(write(t, "a.txt", []byte("x\n")))
	b := one(write(t, "b.txt", []byte("x\n")))
	c := one(write(t, "a.txt", []byte("y\n")))
	da, erra := source.Digest(ctx, a)
	db, errb := source.Digest(ctx, b)
	dc, errc := source.Digest(ctx, c)
	if erra != nil || errb != nil || errc != nil || len(da) != 64 || da != db || da == dc {
		t.Errorf("digests %s %v, %s %v, %s %v", da, erra, db, errb, dc, errc)
	}
	two := source.Config{Inputs: []source.Input{{Name: "a", Path: a.Inputs[0].Path}, {Name: "b", Path: c.Inputs[0].Path}}}
	swapped := source.Config{Inputs: []source.Input{{Name: "a", Path: c.Inputs[0].Path}, {Name: "b", Path: a.Inputs[0].Path}}}
	d2, _ := source.Digest(ctx, two)
	d3, _ := source.Digest(ctx, swapped)
	if d2 == d3 || d2 == da {
		t.Error("the digest does not tell the inputs apart")
	}
	if _, err := source.Digest(ctx, one("nowhere.txt")); !os.IsNotExist(err) && err == nil {
		t.Error("no error for a missing file")
	}
}
