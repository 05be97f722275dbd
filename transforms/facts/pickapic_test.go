package facts_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	"github.com/parquet-go/parquet-go"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/transforms/facts"
)

func pickAPic(t *testing.T, change func(*facts.PickAPicConfig)) result {
	t.Helper()
	cfg := facts.DefaultPickAPic()
	cfg.Path, cfg.Store, cfg.Seed = fixtures+"pickapic", t.TempDir(), 3
	change(&cfg)
	return run(t, cfg.Store, func(s beam.Scope) (a, b, c beam.PCollection) { return facts.PickAPic(s, cfg) })
}

func TestPickAPic(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*facts.PickAPicConfig)
		counts map[string]int64
	}{
		{"preferences", func(*facts.PickAPicConfig) {}, map[string]int64{
			"fact_table.in": 24, "fact_table.filtered.tie": 3, "fact_table.filtered.unlabelled": 3, "fact_table.out": 18, "facts.in": 18, "facts.out": 18,
		}},
		{"labels", func(c *facts.PickAPicConfig) { c.Labels, c.Split = facts.Labelled, "validation_unique" }, map[string]int64{
			"fact_table.in": 6, "fact_table.out": 6, "facts.in": 6, "facts.out": 6,
		}},
		{"all of all splits, some", func(c *facts.PickAPicConfig) { c.Labels, c.Split, c.Rows = facts.All, "", 20 }, map[string]int64{
			"fact_table.in": 30, "fact_table.filtered.not_chosen": 10, "fact_table.out": 20, "facts.in": 20, "facts.out": 20,
		}},
		{"past the end", func(c *facts.PickAPicConfig) { c.Skip = 100 }, map[string]int64{
			"fact_table.in": 24, "fact_table.filtered.tie": 3, "fact_table.filtered.unlabelled": 3, "fact_table.filtered.not_chosen": 18,
		}},
		{"twice the same file", func(c *facts.PickAPicConfig) {
			dir, data := t.TempDir(), read(t, fixtures+"pickapic/train-00000-of-00002.parquet")
			write(t, dir, "train-0.parquet", data)
			write(t, dir, "train-1.parquet", data)
			c.Path, c.Labels = dir, facts.All
		}, map[string]int64{"fact_table.in": 32, "fact_table.filtered.duplicate": 16, "fact_table.out": 16, "facts.in": 16, "facts.out": 16}},
	} {
		t.Run(tt.name, func(t *testing.T) { pickAPic(t, tt.change).want(t, tt.counts) })
	}
}

// What the columns say comes out as it is.
func TestPickAPicRows(t *testing.T) {
	got := pickAPic(t, func(c *facts.PickAPicConfig) { c.Labels, c.Split = facts.All, "" })
	type label struct {
		l0, l1 float64
		has    bool
	}
	preference := map[label]string{{1, 0, true}: schemas.First, {0, 1, true}: schemas.Second, {.5, .5, true}: schemas.Tie, {.5, .5, false}: ""}
	n := 0
	paths, _ := filepath.Glob(fixtures + "pickapic/*.parquet")
	for _, path := range paths {
		rows, err := parquet.ReadFile[struct {
			Caption string  `parquet:"caption,optional"`
			Image0  string  `parquet:"image_0_uid,optional"`
			Image1  string  `parquet:"image_1_uid,optional"`
			JPG0    []byte  `parquet:"jpg_0,optional"`
			JPG1    []byte  `parquet:"jpg_1,optional"`
			Label0  float64 `parquet:"label_0,optional"`
			Label1  float64 `parquet:"label_1,optional"`
			Has     bool    `parquet:"has_label,optional"`
		}](path)
		if err != nil {
			t.Fatal(err)
		}
		split, _, _ := strings.Cut(filepath.Base(path), "-")
		for _, row := range rows {
			n++
			id := schemas.FactID(schemas.Pick, row.Caption, "pickapic/"+row.Image0, "pickapic/"+row.Image1)
			i := slices.IndexFunc(got.facts, func(f schemas.Fact) bool { return f.ID == id })
			if i < 0 {
				t.Fatalf("%s: no fact about %q", path, row.Caption)
			}
			f := got.facts[i]
			if f.Preference != preference[label{row.Label0, row.Label1, row.Has}] || f.Split != split || f.Source != "pickapic" || f.SourceID == "" {
				t.Errorf("%+v of %+v", f, row.Caption)
			}
			if f.First.SHA256 != sha(row.JPG0) || f.Second.SHA256 != sha(row.JPG1) {
				t.Errorf("fact %s has other pictures than its row", f.ID)
			}
		}
	}
	if n != len(got.facts) || len(got.dead) != 0 {
		t.Errorf("%d facts of %d rows, %d dead", len(got.facts), n, len(got.dead))
	}
}

// The first rows by rank are the same however many are taken, and only their pictures are stored.
func TestPickAPicFirstByRank(t *testing.T) {
	url := t.TempDir()
	order := byRank(pickAPic(t, func(*facts.PickAPicConfig) {}).ids(), 3)
	for _, tt := range []struct{ skip, rows int64 }{{0, 5}, {5, 7}, {12, 100}} {
		got := pickAPic(t, func(c *facts.PickAPicConfig) { c.Skip, c.Rows, c.Store = tt.skip, tt.rows, url }).ids()
		if want := order[tt.skip:min(tt.skip+tt.rows, 18)]; !equalSets(got, want) {
			t.Errorf("%+v: got %q, want %q", tt, got, want)
		}
		if tt.skip == 0 {
			if n := blobs(t, url); n != 10 {
				t.Errorf("%d pictures stored for 5 facts", n)
			}
		}
	}
}

// A row with a fault of any kind is dead under its reason, and the rows around it live.
func TestPickAPicFaults(t *testing.T) {
	type row struct {
		Caption  *string  `parquet:"caption,optional"`
		Best     *string  `parquet:"best_image_uid,optional"`
		HasLabel *bool    `parquet:"has_label,optional"`
		Image0   *string  `parquet:"image_0_uid,optional"`
		Image1   *string  `parquet:"image_1_uid,optional"`
		JPG0     *[]byte  `parquet:"jpg_0,optional"`
		JPG1     *[]byte  `parquet:"jpg_1,optional"`
		Label0   *float64 `parquet:"label_0,optional"`
		Label1   *float64 `parquet:"label_1,optional"`
	}
	good := func(name string) row {
		one, zero, yes, a, b, caption := 1., 0., true, name+"0", name+"1", "a cat"
		left, right := shot(t, "a cat", 1), shot(t, "a cat, vivid", 2)
		return row{&caption, &a, &yes, &a, &b, &left, &right, &one, &zero}
	}
	changed := func(name string, change func(*row)) row {
		r := good(name)
		change(&r)
		return r
	}
	ptr := func(s string) *string { return &s }
	num := func(x float64) *float64 { return &x }
	rows := []row{
		good("good"),
		changed("null caption", func(r *row) { r.Caption = nil }),
		changed("blank caption", func(r *row) { r.Caption = ptr(" \n") }),
		changed("control", func(r *row) { r.Caption = ptr("a\x00b") }),
		changed("utf8", func(r *row) { r.Caption = ptr("caf\xc3") }),
		changed("no uid", func(r *row) { r.Image1 = nil }),
		changed("one uid", func(r *row) { r.Image1 = r.Image0 }),
		changed("label .7", func(r *row) { r.Label0 = num(.7) }),
		changed("two winners", func(r *row) { r.Label1 = num(1) }),
		changed("null label", func(r *row) { r.Label1 = nil }),
		changed("contradiction", func(r *row) { r.Best = r.Image1 }),
		changed("null picture", func(r *row) { r.JPG0 = nil }),
		changed("same picture", func(r *row) { r.JPG1 = r.JPG0 }),
		changed("no label", func(r *row) { r.HasLabel = nil }),
	}
	want := map[string]int64{
		"fact_table.dead.bad_prompt": 4, "fact_table.dead.no_picture_name": 2, "fact_table.dead.bad_label": 4,
		"facts.dead.missing_picture": 1, "facts.filtered.same_picture": 1, "fact_table.filtered.unlabelled": 1,
	}
	for name, bad := range badPictures(t) {
		rows = append(rows, changed(name, func(r *row) { r.JPG1 = &bad.data }), good("after "+name))
		want["facts.dead."+bad.reason]++
	}
	want["fact_table.in"] = int64(len(rows))
	want["fact_table.out"] = want["fact_table.in"] - 11
	want["facts.in"] = want["fact_table.out"]
	want["facts.out"] = 1 + int64(len(badPictures(t)))
	var out bytes.Buffer
	w := parquet.NewGenericWriter[row](&out, parquet.MaxRowsPerRowGroup(7))
	if _, err := w.Write(rows); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write(t, dir, "train-00000-of-00001.parquet", out.Bytes())
	got := pickAPic(t, func(c *facts.PickAPicConfig) { c.Path, c.MaxBytes = dir, maxBytes })
	got.want(t, want)
}

// A file that is none of Pick-a-Pic's fails the run and says what is wrong.
func TestPickAPicWrongFiles(t *testing.T) {
	damaged := bytes.Clone(read(t, fixtures+"pickapic/train-00000-of-00002.parquet"))
	for i := 200; i < 20_000; i += 97 {
		damaged[i] ^= 0x55
	}
	for name, tt := range map[string]struct {
		file string
		data []byte
		want string
	}{
		"no such split": {"test-0.parquet", read(t, fixtures+"pickapic/train-00000-of-00002.parquet"), `of split "train"`},
		"other columns": {"train-0.parquet", read(t, fixtures+"table/scores.parquet"), `no column "caption": there is file, mos, text`},
		"cut short":     {"train-0.parquet", damaged[:len(damaged)/2], "cut short"},
		"damaged":       {"train-0.parquet", damaged, "train-0.parquet"},
		"empty":         {"train-0.parquet", nil, "train-0.parquet"},
		"no files":      {"train-0.csv", nil, "no file matches"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := facts.DefaultPickAPic()
			cfg.Path, cfg.Store = t.TempDir(), t.TempDir()
			write(t, cfg.Path, tt.file, tt.data)
			p, s := beam.NewPipelineWithRoot()
			facts.PickAPic(s, cfg)
			if err := ptest.Run(p); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func write(t *testing.T, dir, name string, data []byte) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o666); err != nil {
		t.Fatal(err)
	}
}

func blobs(t *testing.T, url string) (n int) {
	t.Helper()
	st, err := store.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range st.List(t.Context(), "blobs/") {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}
