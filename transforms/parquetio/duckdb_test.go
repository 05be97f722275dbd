package parquetio_test

import (
	"database/sql"
	"encoding/json"
	"path/filepath"
	"testing"

	_ "github.com/duckdb/duckdb-go/v2"
	gocmp "github.com/google/go-cmp/cmp"

	"github.com/promptmill/promptmill/schemas"
)

// Every column of every row type comes back equal from this package's reader and from DuckDB, which
// shares no code with it.
func TestEveryRowType(t *testing.T) {
	db, err := sql.Open("duckdb", "")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	testRowType(t, db, prompts(50))
	testRowType(t, db, rewritePairs(50))
	testRowType(t, db, candidates(50))
	testRowType(t, db, judgments(50))
	testRowType(t, db, rewards(50))
	testRowType(t, db, preferences(50))
	testRowType(t, db, visionPreferences(50))
	testRowType(t, db, chats(50))
	testRowType(t, db, visionChats(50))
	testRowType(t, db, rejects(50))
}

func testRowType[T schemas.Row](t *testing.T, db *sql.DB, rows []T) {
	var zero T
	t.Run(schemas.TableOf[T]().Schema().Name(), func(t *testing.T) {
		if err := zero.Validate(); err == nil {
			t.Error("the zero row is valid")
		}
		cfg := config(t)
		cfg.Buckets, cfg.RowGroup = 1, 20
		shards, _ := mustWrite(t, cfg, rows)
		want := sorted(cfg.Seed, rows)
		if diff := gocmp.Diff(want, read[T](t, cfg.Store, shards)); diff != "" {
			t.Errorf("(-want +read):\n%s", diff)
		}
		got := query(t, db, filepath.Join(cfg.Store, filepath.FromSlash(shards[0].Object)))
		if diff := gocmp.Diff(plain(t, want), plain(t, got)); diff != "" {
			t.Errorf("(-want +DuckDB):\n%s", diff)
		}
	})
}

// query is the rows of a file by column.
func query(t *testing.T, db *sql.DB, file string) (out []map[string]any) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), "SELECT * FROM read_parquet(?)", file)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		values, targets := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			targets[i] = &values[i]
		}
		if err := rows.Scan(targets...); err != nil {
			t.Fatal(err)
		}
		row := map[string]any{}
		for i, c := range columns {
			row[c] = values[i]
		}
		out = append(out, row)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// plain is v as JSON has it: columns by name, bytes in base64.
func plain(t *testing.T, v any) (out any) {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}
