package parquetio_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/passert"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	gocmp "github.com/google/go-cmp/cmp"
	"github.com/parquet-go/parquet-go"

	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
	"github.com/promptmill/promptmill/transforms/parquetio"
)

func TestRead(t *testing.T) {
	rows := chats(100)
	cfg := config(t)
	cfg.RowGroup = 7
	shards, _ := mustWrite(t, cfg, rows)
	want := sorted(cfg.Seed, rows)
	for _, limit := range []int{0, 1, 7, 8, int(shards[0].Rows), int(shards[0].Rows) + 9, 100, 1000} {
		n := min(limit, len(rows))
		if limit == 0 {
			n = len(rows)
		}
		p, s := beam.NewPipelineWithRoot()
		got := parquetio.Read[schemas.ChatExample](s, parquetio.ReadConfig{Store: cfg.Store, Shards: shards, Limit: int64(limit)})
		passert.EqualsList(s, got, want[:n])
		if err := ptest.Run(p); err != nil {
			t.Errorf("limit %d: %v", limit, err)
		}
	}
}

func TestReadNothing(t *testing.T) {
	p, s := beam.NewPipelineWithRoot()
	passert.Empty(s, parquetio.Read[schemas.Prompt](s, parquetio.ReadConfig{Store: t.TempDir()}))
	ptest.RunAndValidate(t, p)
}

func TestRowsStops(t *testing.T) {
	cfg := config(t)
	shards, _ := mustWrite(t, cfg, prompts(100))
	stop, n := errors.New("enough"), 0
	err := parquetio.Rows(t.Context(), open(t, cfg.Store), shards, func(schemas.Prompt) error {
		if n++; n == 70 {
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) || n != 70 {
		t.Errorf("after %d rows: %v", n, err)
	}
}

// A message as another writer might have it: an extra column, none nullable.
type foreignMessage struct {
	Role    string `parquet:"role"`
	Weight  int32  `parquet:"weight"`
	Content string `parquet:"content"`
}

// put writes rows of any type as a shard of its own.
func put[T any](t *testing.T, url string, rows ...T) schemas.Shard {
	t.Helper()
	var file bytes.Buffer
	w := parquet.NewGenericWriter[T](&file)
	if _, err := w.Write(rows); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := open(t, url).PutIfAbsent(t.Context(), "foreign.parquet", file.Bytes()); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(file.Bytes())
	return schemas.Shard{Object: "foreign.parquet", Rows: int64(len(rows)), Bytes: int64(file.Len()), SHA256: hex.EncodeToString(sum[:])}
}

func TestReadForeignFile(t *testing.T) {
	url := t.TempDir()
	null := (*string)(nil)
	shard := put(t, url, struct {
		Extra    float32          `parquet:"aaa"`
		SourceID *string          `parquet:"source_id,optional"`
		ID       string           `parquet:"id"`
		Task     string           `parquet:"task,bytes"`
		Messages []foreignMessage `parquet:"messages,list"`
		Source   string           `parquet:"source,dict"`
	}{1, null, "e1", "rewrite", []foreignMessage{{"user", 2, "hi"}, {"assistant", 3, ""}}, "s"})
	want := []schemas.ChatExample{{ID: "e1", Task: "rewrite", Messages: []schemas.Message{{Role: "user", Content: "hi"}, {Role: "assistant"}}, Source: "s"}}
	if diff := gocmp.Diff(want, read[schemas.ChatExample](t, url, []schemas.Shard{shard})); diff != "" {
		t.Errorf("(-want +read):\n%s", diff)
	}
}

func TestReadRefusesSchemas(t *testing.T) {
	type message = foreignMessage
	for _, tt := range []struct {
		name string
		put  func(*testing.T, string) schemas.Shard
		want []string
	}{
		{"case", func(t *testing.T, url string) schemas.Shard {
			return put(t, url, struct {
				ID       string    `parquet:"ID"`
				Task     string    `parquet:"task"`
				Messages []message `parquet:"messages,list"`
				Source   string    `parquet:"source"`
				SourceID string    `parquet:"source_id"`
			}{})
		}, []string{"column id: the file has it as ID: names differ in case"}},
		{"missing", func(t *testing.T, url string) schemas.Shard {
			return put(t, url, struct {
				ID string `parquet:"id"`
			}{})
		}, []string{"column task: missing; the file has id there", "column messages: missing", "column source_id: missing"}},
		{"type", func(t *testing.T, url string) schemas.Shard {
			return put(t, url, struct {
				ID       int64  `parquet:"id"`
				Task     []byte `parquet:"task,json"`
				Messages string `parquet:"messages"`
				Source   []struct {
					X string `parquet:"x"`
				} `parquet:"source,list"`
				SourceID struct {
					X string `parquet:"x"`
				} `parquet:"source_id"`
			}{})
		}, []string{
			"column id: the file has INT(64,true), not STRING", "column task: the file has JSON, not STRING", "column messages: the file has STRING, not a LIST",
			"column source: the file has a LIST, not STRING", "column source_id: the file has a group, not STRING",
		}},
		{"bare repeated", func(t *testing.T, url string) schemas.Shard {
			return put(t, url, struct {
				ID       string    `parquet:"id"`
				Task     string    `parquet:"task"`
				Messages []message `parquet:"messages"`
				Source   []string  `parquet:"source"`
				SourceID string    `parquet:"source_id"`
			}{Messages: []message{{Role: "user"}}})
		}, []string{"column messages: the file has a group, repeated (not a LIST), not a LIST", "column source: the file has STRING, repeated"}},
		{"inside a list", func(t *testing.T, url string) schemas.Shard {
			return put(t, url, struct {
				ID       string `parquet:"id"`
				Task     string `parquet:"task"`
				Messages []struct {
					Role    string `parquet:"Role"`
					Content int32  `parquet:"content"`
				} `parquet:"messages,list"`
				Source   string `parquet:"source"`
				SourceID string `parquet:"source_id"`
			}{})
		}, []string{"column messages.list.element.role: the file has it as Role", "column messages.list.element.content: the file has INT(32,true), not STRING"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			url := t.TempDir()
			shard := tt.put(t, url)
			p, s := beam.NewPipelineWithRoot()
			passert.Empty(s, parquetio.Read[schemas.ChatExample](s, parquetio.ReadConfig{Store: url, Shards: []schemas.Shard{shard}}))
			errs := map[string]error{"Read": ptest.Run(p), "Rows": parquetio.Rows(t.Context(), open(t, url), []schemas.Shard{shard}, func(schemas.ChatExample) error { return nil })}
			for name, err := range errs {
				for _, want := range append(tt.want, "foreign.parquet") {
					if err == nil || !strings.Contains(err.Error(), want) {
						t.Errorf("%s: no %q in %v", name, want, err)
					}
				}
			}
		})
	}
}

func TestReadRefusesDamage(t *testing.T) {
	for _, tt := range []struct {
		name   string
		damage func(file []byte, shard *schemas.Shard) []byte
		want   string
	}{
		{"truncated", func(b []byte, _ *schemas.Shard) []byte { return b[:len(b)-100] }, "bytes, "},
		{"empty", func([]byte, *schemas.Shard) []byte { return nil }, "it has 0 bytes"},
		{"longer", func(b []byte, _ *schemas.Shard) []byte { return append(b, 0) }, "bytes, "},
		{"flipped", func(b []byte, _ *schemas.Shard) []byte { b[len(b)/2] ^= 1; return b }, "its SHA-256 is"},
		{"other rows", func(b []byte, s *schemas.Shard) []byte { s.Rows--; return b }, "rows, "},
		{"not parquet", func(b []byte, s *schemas.Shard) []byte {
			b = bytes.Repeat([]byte("x"), len(b))
			sum := sha256.Sum256(b)
			s.SHA256 = hex.EncodeToString(sum[:])
			return b
		}, "magic"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := config(t)
			cfg.Buckets = 1
			shards, _ := mustWrite(t, cfg, prompts(50))
			file := filepath.Join(cfg.Store, filepath.FromSlash(shards[0].Object))
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(os.Remove(file), os.WriteFile(file, tt.damage(b, &shards[0]), 0o666)); err != nil {
				t.Fatal(err)
			}
			st := open(t, cfg.Store)
			for name, err := range map[string]error{
				"Rows":   parquetio.Rows(t.Context(), st, shards, func(schemas.Prompt) error { return nil }),
				"Verify": parquetio.Verify(t.Context(), st, shards[0]),
			} {
				if !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), shards[0].Object) || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("%s: got %v", name, err)
				}
			}
		})
	}
}

func TestVerifyComparesRows(t *testing.T) {
	cfg := config(t)
	shards, _ := mustWrite(t, cfg, prompts(50))
	for _, change := range []func(*schemas.Shard){
		func(s *schemas.Shard) { s.RowSum = shards[1].RowSum },
		func(s *schemas.Shard) { s.Schema = strings.Repeat("0", 64) },
	} {
		shard := shards[0]
		change(&shard)
		if err := parquetio.Verify(t.Context(), open(t, cfg.Store), shard); !errors.Is(err, store.ErrDamaged) {
			t.Errorf("got %v", err)
		}
	}
}

func TestReadMissingObject(t *testing.T) {
	shard := schemas.Shard{Object: "gone.parquet", Rows: 1, Bytes: 1, SHA256: "x"}
	err := parquetio.Rows(t.Context(), open(t, t.TempDir()), []schemas.Shard{shard}, func(schemas.Prompt) error { return nil })
	if !errors.Is(err, store.ErrNotExist) || !strings.Contains(err.Error(), "gone.parquet") {
		t.Errorf("got %v", err)
	}
}

func TestReadConfigValidate(t *testing.T) {
	err := parquetio.ReadConfig{Limit: -1, Shards: []schemas.Shard{{Object: "a"}}}.Validate()
	for _, want := range []string{"read.store: empty", "read.limit: -1", `read.shards[0]: "a"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
}

func TestConfigsSurviveJSON(t *testing.T) {
	w := parquetio.WriteConfig{Store: "a", Dir: "b", Config: "c", Stage: "d", Seed: 1, Buckets: 2, Unique: true, Splits: []parquetio.Split{{Name: "e", Permille: 1000}}, RowGroup: 3, BufferBytes: 4}
	r := parquetio.ReadConfig{Store: "a", Shards: []schemas.Shard{{Config: "b", Split: "c", Index: 1, Object: "d", Rows: 2, Bytes: 3, SHA256: "e", RowSum: "f", Schema: "g"}}, Limit: 4}
	allSet(t, w)
	allSet(t, r)
	var w2 parquetio.WriteConfig
	var r2 parquetio.ReadConfig
	for from, to := range map[any]any{&w: &w2, &r: &r2} {
		b, err := json.Marshal(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, to); err != nil {
			t.Fatal(err)
		}
		if diff := gocmp.Diff(from, to); diff != "" {
			t.Errorf("%s (-in +out):\n%s", b, diff)
		}
	}
}
