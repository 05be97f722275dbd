package main

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"path/filepath"
	"testing"

	_ "github.com/duckdb/duckdb-go/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/promptmill/promptmill/model/modeltest/fakeserver"
	"github.com/promptmill/promptmill/pipelines/preference"
	"github.com/promptmill/promptmill/pipelines/prompts"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/transforms/snapshot"
)

// Every column of every configuration of a snapshot is in DuckDB, which shares no code with the writer,
// what promptmill's own reader says: of the demo, and of a run with dead letters.
func TestDuckDB(t *testing.T) {
	db, err := sql.Open("duckdb", "")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()

	demo := t.TempDir()
	s := succeed(t, "preference", "--recipe", "demo", "--models", "scene", "--set", "select.prompts=24", "--out", demo, "--json", "--quiet")
	server := fakeserver.New(t, fakeserver.Config{FaultRate: 0.2, Faults: []fakeserver.Fault{fakeserver.Black}, Seed: 1})
	faulty := t.TempDir()
	dead := succeed(t, "preference", "--recipe", served(t, server.URL, 12, "gates: {max_dead_fraction: 1}\n"), "--out", faulty, "--json", "--quiet",
		"--set", "imagegen.attempts=1")
	if s.Rows[preference.Pairs] == 0 || dead.Rows[snapshot.Rejected] == 0 {
		t.Fatalf("rows %v and %v: too few to test anything", s.Rows, dead.Rows)
	}
	for name, dir := range map[string]string{"demo": demo, "dead letters": faulty} {
		t.Run(name, func(t *testing.T) {
			m, _, err := snapshot.Latest(t.Context(), openStore(t, dir), "preference")
			if err != nil {
				t.Fatal(err)
			}
			compareWithDuckDB[schemas.PreferencePair](t, db, dir, m, preference.Pairs)
			compareWithDuckDB[schemas.Candidate](t, db, dir, m, preference.Candidates)
			compareWithDuckDB[schemas.Reward](t, db, dir, m, preference.Rewards)
			compareWithDuckDB[schemas.Judgment](t, db, dir, m, preference.Judgments)
			compareWithDuckDB[schemas.Rejected](t, db, dir, m, snapshot.Rejected)
			m, err = snapshot.Load(t.Context(), openStore(t, dir), "prompts", m.Parents[0].RunID)
			if err != nil {
				t.Fatal(err)
			}
			compareWithDuckDB[schemas.Prompt](t, db, dir, m, prompts.Rows)
		})
	}
}

// compareWithDuckDB compares the rows of all shards of a configuration, in order.
func compareWithDuckDB[T schemas.Row](t *testing.T, db *sql.DB, dir string, m snapshot.Manifest, config string) {
	t.Helper()
	rows := rowsOf[T](t, dir, m, config)
	if int64(len(rows)) != m.Rows[config] {
		t.Errorf("%s: %d rows, the manifest says %d", config, len(rows), m.Rows[config])
	}
	var there []map[string]any
	for _, shard := range schemas.ShardsOf(m.Shards, config) {
		there = append(there, queryAll(t, db, filepath.Join(dir, filepath.FromSlash(shard.Object)))...)
	}
	if len(there) != len(rows) {
		t.Fatalf("%s: %d rows, in DuckDB %d", config, len(rows), len(there))
	}
	for i := range rows {
		want, got := columns(t, rows[i]), columns(t, there[i])
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%s, row %d (-promptmill +DuckDB):\n%s", config, i, diff)
		}
	}
	t.Logf("%s: %d rows are equal", config, len(rows))
}

// queryAll is the rows of a file by column.
func queryAll(t *testing.T, db *sql.DB, file string) (out []map[string]any) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), "SELECT * FROM read_parquet(?)", file)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		values, targets := make([]any, len(names)), make([]any, len(names))
		for i := range values {
			targets[i] = &values[i]
		}
		if err := rows.Scan(targets...); err != nil {
			t.Fatal(err)
		}
		row := map[string]any{}
		for i, name := range names {
			row[name] = values[i]
		}
		out = append(out, row)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// columns is a row as JSON has it, each column by its name. Numbers stay as they are written: a float64
// would make equal what differs beyond 2^53.
func columns(t *testing.T, row any) (out map[string]any) {
	t.Helper()
	text, err := json.Marshal(row)
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&out); err != nil {
		t.Fatal(err)
	}
	return out
}
